import math

import numpy as np
import pytest
from kernel_checks import (
    both,
    check_kernel,
    check_layouts,
    check_none,
    check_tangents,
    check_threads,
    normal,
    run,
    run_tangents,
    upstream,
)

from tensorgrad.kernels import attention

# batch, query heads, key heads, queries, keys, d, e
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 3, 3, 7, 7, 5, 6),
    (1, 2, 1, 63, 64, 7, 1),
    (1, 4, 2, 65, 65, 8, 8),
    (2, 2, 2, 64, 257, 3, 4),
    (1, 1, 1, 257, 65, 4, 3),
    (1, 2, 2, 1, 70, 8, 8),
    (1, 1, 1, 130, 64, 1, 65),
]
EMPTY = [(0, 2, 1, 3, 3, 2, 2), (1, 2, 1, 0, 3, 2, 2), (1, 2, 1, 3, 0, 2, 2), (1, 2, 1, 3, 3, 0, 2), (1, 2, 1, 3, 3, 2, 0)]


def definition(q, k, v, *, causal=False, scale):
    groups = q.shape[1] // k.shape[1]
    scores = np.einsum("bhtd,bhsd->bhts", q, np.repeat(k, groups, 1)) * scale
    t, s = scores.shape[2:]
    seen = np.tri(t, s, s - t) if causal else np.ones((t, s))
    top = np.where(seen, scores.real, -np.inf).max(-1, keepdims=True, initial=-1e38)
    e = np.exp(np.where(seen, scores - top, -np.inf)) * seen
    total = e.sum(-1, keepdims=True)
    return np.einsum("bhts,bhse->bhte", e / np.where(total == 0, 1, total), np.repeat(v, groups, 1))


def inputs(b, h, g, t, s, d, e):
    return [normal(b, h, t, d), normal(b, g, s, d, seed=1), normal(b, g, s, e, seed=2)]


def params(shape, causal=True):
    return {"causal": causal, "scale": 1 / math.sqrt(max(shape[5], 1))}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, causal):
    check_kernel(attention, definition, inputs(*shape), params(shape, causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangents(shape, causal):
    check_tangents(attention, definition, inputs(*shape), params(shape, causal))


def test_what_stands_still():
    check_none(attention, inputs(1, 2, 1, 5, 9, 3, 4), {"causal": True, "scale": 0.5})


@both
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", EMPTY)
def test_empty_arrays(shape, causal, dtype):
    arrays = [x.astype(dtype) for x in inputs(*shape)]
    y, grads = run(attention, arrays, params(shape, causal))
    np.testing.assert_allclose(y, definition(*arrays, **params(shape, causal)), rtol=1e-6)
    ty, tangents = run_tangents(attention, arrays, params(shape, causal), upstream(y), arrays)
    assert all(np.isfinite(x).all() for x in (*grads, ty, *tangents))


def test_layouts_and_threads():
    check_layouts(attention, inputs(1, 2, 1, 5, 9, 3, 4), {"causal": True, "scale": 0.5})
    check_threads(attention, inputs(3, 4, 2, 70, 90, 8, 8), {"causal": True, "scale": 0.5})


@both
def test_views_of_one_projection_and_merged_heads(dtype):
    qkv = normal(2, 9, 3, 4, 8).astype(dtype)  # batch, position, which, head, feature
    views = [qkv[:, :, i].swapaxes(1, 2) for i in range(3)]
    y, saved = attention.forward(*views, causal=True, scale=0.3)
    copies = [np.ascontiguousarray(x) for x in views]
    np.testing.assert_array_equal(y, attention.forward(*copies, causal=True, scale=0.3)[0])
    assert y.swapaxes(1, 2).flags.c_contiguous
    g = upstream(y)
    for a, b in zip(attention.backward(g, y, saved, *views, causal=True, scale=0.3),
                    attention.backward(g, y, saved, *copies, causal=True, scale=0.3), strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


@both
def test_a_query_that_sees_nothing_is_zero_and_poisons_nothing(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 1, 1, 70, 3, 4, 4)]
    arrays[0][0, 0, :67] = np.nan
    y, (dq, dk, dv) = run(attention, arrays, {"causal": True, "scale": 1.0})
    assert not y[0, 0, :67].any() and y[0, 0, 67:].all()
    assert not dq[0, 0, :67].any() and np.isfinite(dq).all()
    ty, (tq, tk, tv) = run_tangents(attention, arrays, {"causal": True, "scale": 1.0}, upstream(y), arrays)
    assert not ty[0, 0, :67].any() and not tq[0, 0, :67].any() and np.isfinite(tk).all() and np.isfinite(tv).all()
    rest = [arrays[0][:, :, 67:], *arrays[1:]]
    y_rest, saved = attention.forward(*rest, causal=True, scale=1.0)
    g = upstream(y)[:, :, 67:]
    for whole, part in zip((dk, dv), attention.backward(g, y_rest, saved, *rest, causal=True, scale=1.0)[1:], strict=True):
        np.testing.assert_allclose(whole, part, rtol=1e-5, atol=1e-6)


@both
def test_scores_of_minus_infinity_and_of_a_thousand(dtype):
    q, k, v = (x.astype(dtype) for x in inputs(1, 1, 1, 3, 3, 1, 2))
    q[...], k[...] = 1, np.array([1e3, 1e3, 999]).reshape(3, 1)
    q[0, 0, 0] = -np.inf
    y, _ = attention.forward(q, k, v, scale=1.0)
    assert not y[0, 0, 0].any()
    e = np.array([1, 1, np.exp(-1)])
    np.testing.assert_allclose(y[0, 0, 1], e / e.sum() @ v[0, 0], rtol=3e-6)


@both
def test_a_negative_scale(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 2, 2, 5, 6, 3, 3)]
    np.testing.assert_allclose(attention.forward(*arrays, scale=-20.0)[0], definition(*arrays, scale=-20.0), rtol=3e-4, atol=1e-6)


@both
def test_not_a_number_stays_in_its_row(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 1, 1, 5, 5, 3, 3)]
    arrays[0][0, 0, 2, 1] = np.nan
    y, _ = attention.forward(*arrays, causal=True, scale=1.0)
    assert np.isnan(y[0, 0, 2]).all() and np.isfinite(y[0, 0, [0, 1, 3, 4]]).all()
