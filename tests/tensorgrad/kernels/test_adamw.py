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
        adamw.step(p, g.astype(dtype), m, v, **RATES, step=step, scale=0.3)
        wanted = reference(*wanted, g, **RATES, step=step, scale=0.3)
    for got, want in zip((p, m, v), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-6 if dtype == np.float32 else 1e-12, atol=np.finfo(dtype).eps)


@both
def test_no_gradient_moves_nothing(dtype):
    p, m, v = np.ones(5, dtype), np.zeros(5, dtype), np.zeros(5, dtype)
    adamw.step(p, np.zeros(5, dtype), m, v, **{**RATES, "weight_decay": 0.0}, step=1)
    assert p.tolist() == [1] * 5 and not m.any() and not v.any()


@both
def test_betas_of_zero_and_a_million_steps(dtype):
    for step, beta in ((1, 0.0), (10**6, 0.999)):
        p, m, v = np.ones(3, dtype), np.ones(3, dtype), np.ones(3, dtype)
        adamw.step(p, np.ones(3, dtype), m, v, lr=0.5, beta1=beta, beta2=beta, eps=0.0, weight_decay=0.0, step=step)
        np.testing.assert_allclose(p, 0.5, rtol=1e-6)


@both
def test_sum_of_squares(dtype):
    g = normal(100, 333).astype(dtype)
    np.testing.assert_allclose(adamw.sum_of_squares(g), (g.astype(np.float64) ** 2).sum(), rtol=1e-13)
    assert adamw.sum_of_squares(np.empty(0, dtype)) == 0
    np.testing.assert_allclose(adamw.sum_of_squares(np.full(128, 1e19, dtype)), 128e38, rtol=1e-6)
    assert adamw.sum_of_squares(np.array([1, np.inf], dtype)) == np.inf
    assert np.isnan(adamw.sum_of_squares(np.array([1, np.nan], dtype)))


@both
def test_threads(dtype):
    start = [normal(100_000, seed=i).astype(dtype) for i in range(3)]

    def once():
        p, m, v = copy.deepcopy(start)
        adamw.step(p, start[0], m, np.abs(v), **RATES, step=3)
        return [p, m, np.float64(adamw.sum_of_squares(p))]

    same_on_threads(once)
