import numpy as np
import pytest
from kernel_checks import (
    ROWS,
    both,
    check_kernel,
    check_layouts,
    check_none,
    check_tangents,
    check_threads,
    normal,
    run,
    scale,
    upstream,
)

from tensorgrad.kernels import layer_norm

EPS = {"eps": 1e-5}


def definition(x, weight=1.0, bias=0.0, *, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps) * weight + bias


def inputs(shape, count=3):
    return [normal(*shape), 1 + normal(shape[-1], seed=1) / 4, normal(shape[-1], seed=2)][:count]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_equals_the_definition(shape, count):
    arrays = inputs(shape, count)
    check_kernel(layer_norm, definition, arrays, EPS, steepness=scale(1 / np.sqrt(arrays[0].var(-1) + 1e-5)))


def test_rows_without_elements():
    assert run(layer_norm, [np.ones((5, 0)), np.ones(0), np.ones(0)], EPS)[0].shape == (5, 0)


def test_layouts_and_threads():
    check_layouts(layer_norm, inputs((5, 67)), EPS)
    check_threads(layer_norm, inputs((1000, 65)), EPS)


@both
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-4, 1e18, 1e30, 1e38])
def test_rows_of_any_size(dtype, size):
    x = np.tile(np.array([size, 2 * size], dtype), (3, 32))
    y, saved = layer_norm.forward(x, eps=0.0)
    np.testing.assert_allclose(y, np.tile([-1, 1], (3, 32)), rtol=1e-6)
    g = upstream(y)
    (dx,) = layer_norm.backward(g, y, saved, x, eps=0.0)
    h = np.tile([-1.0, 1.0], (3, 32))
    wanted = g - g.mean(-1, keepdims=True, dtype=np.float64) - h * (g * h).mean(-1, keepdims=True)
    np.testing.assert_allclose(dx.astype(np.float64) * size / 2, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mean", [1e4, -3e5])
def test_a_large_mean_costs_no_accuracy(mean):
    x = (mean + normal(20, 300)).astype(np.float32)
    y, _ = layer_norm.forward(x, **EPS)
    np.testing.assert_allclose(y, definition(x.astype(np.float64), **EPS), atol=3e-6)


@both
def test_a_constant_row_is_zero_with_finite_gradients(dtype):
    x = np.full((2, 33), 1e4 / 3, dtype)
    y, saved = layer_norm.forward(x, **EPS)
    np.testing.assert_allclose(y, 0, atol=1e-6)
    assert np.isfinite(layer_norm.backward(np.ones_like(y), y, saved, x, **EPS)[0]).all()


@both
def test_not_a_number_fills_its_row_only(dtype):
    x = normal(3, 40).astype(dtype)
    x[0, 3], x[1, 5] = np.nan, np.inf
    y, _ = layer_norm.forward(x, **EPS)
    assert np.isnan(y[:2]).all() and np.isfinite(y[2]).all()


def test_sums_over_many_rows_are_accurate():
    arrays = inputs((4000, 3))
    for single, double in zip(run(layer_norm, [x.astype(np.float32) for x in arrays], EPS)[1], run(layer_norm, arrays, EPS)[1],
                              strict=True):  # fmt: skip
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_tangents(shape, count):
    arrays = inputs(shape, count)
    check_tangents(layer_norm, definition, arrays, EPS, steepness=scale(1 / np.sqrt(arrays[0].var(-1) + 1e-5)) ** 2)


def test_what_stands_still():
    check_none(layer_norm, inputs((5, 7)), EPS)


@both
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-4, 1e18, 1e30])
def test_tangents_of_rows_of_any_size(dtype, size):
    x, t, tg = normal(3, 64), normal(3, 64, seed=1), normal(3, 64, seed=2)

    def both_tangents(dtype, size):
        there, along, turn = (size * x).astype(dtype), (size * t).astype(dtype), tg.astype(dtype)
        y, saved = layer_norm.forward(there, eps=0.0)
        (dx,) = layer_norm.backward_tangent(turn, (along,), upstream(y), y, saved, there, eps=0.0)
        return layer_norm.tangent((along,), y, saved, there, eps=0.0), dx * size

    for got, wanted in zip(both_tangents(dtype, size), both_tangents(np.float64, 1.0), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4 if dtype == np.float32 else 1e-6, atol=1e-5)
