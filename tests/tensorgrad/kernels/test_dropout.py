import numpy as np
import pytest
from kernel_checks import both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal

import tensorgrad as tg
from tensorgrad import random
from tensorgrad.kernels import dropout

SHAPES = [(), (1,), (7,), (63, 1), (64, 65), (2, 1000), (3, 4096), (0, 5), (4097,)]
HOW = {"p": 0.3, "seed": (6 << 50) + 1}


def definition(x, *, p, seed):
    kept = random.kept(p, x.size // 4096 + 1, 4096, seed).ravel()[: x.size].reshape(x.shape)
    return x * kept / random.rate_kept(p)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape):
    check_kernel(dropout, definition, [np.asarray(normal(*shape))], HOW)
    check_tangents(dropout, definition, [np.asarray(normal(*shape))], HOW)


def test_layouts_threads_and_what_stands_still():
    check_layouts(dropout, [normal(5, 70)], HOW)
    check_threads(dropout, [normal(70, 1000)], HOW)
    check_none(dropout, [normal(3, 4)], HOW)


@both
def test_what_is_not_finite_is_dropped_or_kept(dtype):
    x = np.repeat(np.array([np.nan, np.inf, -np.inf], dtype), 100)
    kept = definition(np.ones(300), **HOW) > 0
    np.testing.assert_array_equal(dropout.forward(x, **HOW)[0], np.where(kept, x, 0))


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.5, 0.9, 0.9999])
def test_rate_and_mean(p):
    y = tg.dropout(np.ones(1_000_000), p, rng=np.random.default_rng(1)).data
    assert abs((y == 0).mean() - p) < 5 * (p * (1 - p) / y.size) ** 0.5
    assert abs(y.mean() - 1) < 5 * (p / (1 - p) / y.size) ** 0.5
    assert set(np.unique(y)) == {0.0, 1 / random.rate_kept(p)}


def test_calls_are_independent_and_seeds_repeat():
    rng = np.random.default_rng(2)
    masks = [tg.dropout(np.ones((100, 1000)), 0.5, rng=rng).data - 1 for _ in range(3)]
    again = tg.dropout(np.ones((100, 1000)), 0.5, rng=np.random.default_rng(2)).data - 1
    np.testing.assert_array_equal(masks[0], again)
    pairs = [(masks[0], masks[1]), (masks[1], masks[2]), (masks[0][:-1], masks[0][1:]), (masks[0][:, :-1], masks[0][:, 1:])]
    for a, b in pairs:
        assert abs((a * b).mean()) < 5 / a.size**0.5


@both
def test_kernel_and_definition_drop_the_same(dtype):
    x = tg.tensor(normal(4, 2, 70, 8).astype(dtype), requires_grad=True)

    def results():
        rng = np.random.default_rng(3)
        y = tg.dropout(tg.attention(x, x, x, causal=True, dropout_p=0.4, rng=rng), 0.3, rng=rng)
        return y.data, tg.grad(lambda x: tg.sum(tg.dropout(x * x, 0.3, rng=np.random.default_rng(4))))(x).data

    fast = results()
    with tg.definitions():
        slow = results()
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


def test_finite_differences_through_everything():
    def attend(q, k, v, bias, x):
        rng = np.random.default_rng(5)
        y = tg.attention(q, k, v, mask=np.tri(3, 4, 1, dtype=bool), bias=bias, dropout_p=0.3, rng=rng)
        return tg.dropout(tg.rotary(y), 0.2, rng=rng) * x

    arrays = (
        normal(1, 2, 3, 2),
        normal(1, 1, 4, 2, seed=1),
        normal(1, 1, 4, 2, seed=2),
        normal(2, 1, 4, seed=3),
        normal(3, 2, seed=4),
    )
    tg.check.check_grads(attend, arrays)
