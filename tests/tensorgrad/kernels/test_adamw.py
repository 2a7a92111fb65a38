import copy

import numpy as np
import pytest
from kernel_checks import both, normal, same_on_threads

from tensorgrad.kernels import adamw

RATES = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}


def reference(p, m, v, g, *, lr, beta1, beta2, eps, weight_decay, step, scale=1.0):
    """Loshchilov and Hutter 2019, algorithm 2, as written there with the schedule multiplier lr."""
    g = scale * g
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    first, second = m / (1 - beta1**step), v / (1 - beta2**step)
    return p - lr * first / (np.sqrt(second) + eps) - lr * weight_decay * p, m, v


@both
@pytest.mark.parametrize("size", [0, 1, 7, 63, 64, 65, 50000])
def test_equals_the_algorithm(size, dtype):
    p, m, v = wanted = normal(size), np.zeros(size), np.zeros(size)
    p, m, v = (x.astype(dtype) for x in wanted)
    for step in range(1, 6):
        g = normal(size, seed=step)
        adamw.step([(p, g.astype(dtype), m, v)], **RATES, step=step, scale=0.3)
        wanted = reference(*wanted, g, **RATES, step=step, scale=0.3)
    for got, want in zip((p, m, v), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-6 if dtype == np.float32 else 1e-12, atol=np.finfo(dtype).eps)


@both
def test_no_gradient_moves_nothing(dtype):
    p, m, v = np.ones(5, dtype), np.zeros(5, dtype), np.zeros(5, dtype)
    adamw.step([(p, np.zeros(5, dtype), m, v)], **{**RATES, "weight_decay": 0.0}, step=1)
    assert p.tolist() == [1] * 5 and not m.any() and not v.any()


@both
def test_betas_of_zero_and_a_million_steps(dtype):
    for step, beta in ((1, 0.0), (10**6, 0.999)):
        p, m, v = np.ones(3, dtype), np.ones(3, dtype), np.ones(3, dtype)
        adamw.step([(p, np.ones(3, dtype), m, v)], lr=0.5, beta1=beta, beta2=beta, eps=0.0, weight_decay=0.0, step=step)
        np.testing.assert_allclose(p, 0.5, rtol=1e-6)


@both
def test_many_parameters_move_as_each_alone(dtype):
    """Whatever the order and the sizes, pieces included, to the bit."""
    sizes = [3, 0, 20_000, 1, 8192, 8193, 64]
    rows = [[normal(n, seed=i).astype(dtype) for i in range(3)] + [np.abs(normal(n, seed=3)).astype(dtype)] for n in sizes]
    together, alone = copy.deepcopy(rows), copy.deepcopy(rows)
    adamw.step([tuple(row) for row in together], **RATES, step=2)
    for row in alone:
        adamw.step([tuple(row)], **RATES, step=2)
    for a, b, before in zip(together, alone, rows, strict=True):
        assert [x.tobytes() for x in a] == [x.tobytes() for x in b]
        assert np.array_equal(a[1], before[1])


@both
def test_matrices_and_numbers(dtype):
    shapes = [(4, 5), (), (2, 3, 4)]
    rows = [tuple(np.ones(shape, dtype) for _ in range(4)) for shape in shapes]
    adamw.step(rows, **RATES, step=1)
    p = reference(1.0, 1.0, 1.0, 1.0, **RATES, step=1)[0]
    for row in rows:
        np.testing.assert_allclose(row[0], p, rtol=1e-6)


def test_rows_that_do_not_fit_are_refused():
    good = np.ones((4, 4), np.float32)
    for bad in (np.ones(15, np.float32), np.ones((4, 4)), good.T[:2], np.ones((8, 8), np.float32)[::2, ::2]):
        for i in range(1, 4):
            row = [good] * 4
            row[i] = bad
            with pytest.raises(ValueError, match="of one size and dtype"):
                adamw.step([tuple(row)], **RATES, step=1)
    assert (good == 1).all()


@both
def test_sum_of_squares(dtype):
    arrays = [normal(100, 333).astype(dtype), normal(5, 7).astype(dtype).T, normal(9000).astype(np.float32), np.empty(0, dtype)]
    wanted = sum((a.astype(np.float64) ** 2).sum() for a in arrays)
    np.testing.assert_allclose(adamw.sum_of_squares(arrays), wanted, rtol=1e-13)
    assert adamw.sum_of_squares([np.empty(0, dtype)]) == 0 == adamw.sum_of_squares([])
    np.testing.assert_allclose(adamw.sum_of_squares([np.full(128, 1e19, dtype)]), 128e38, rtol=1e-6)
    assert adamw.sum_of_squares([np.array([1, np.inf], dtype)]) == np.inf
    assert np.isnan(adamw.sum_of_squares([np.array([1, np.nan], dtype)]))


@both
def test_multiply(dtype):
    arrays = [normal(100, 333).astype(dtype), normal(3).astype(np.float32), np.empty(0, dtype), np.ones((), dtype)]
    wanted = [a * a.dtype.type(0.3) for a in arrays]
    adamw.multiply(arrays, 0.3)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, wanted, strict=True))


@both
def test_threads(dtype):
    start = [normal(100_000, seed=i).astype(dtype) for i in range(3)]

    def once():
        p, m, v = copy.deepcopy(start)
        adamw.step([(p, start[0], m, np.abs(v)), (m[:9999].copy(), start[1][:9999], v[:9999], v[9999:19998])], **RATES, step=3)
        adamw.multiply([m, v], 0.7)
        return [p, m, v, np.float64(adamw.sum_of_squares([p, m, v[:77]]))]

    same_on_threads(once)
