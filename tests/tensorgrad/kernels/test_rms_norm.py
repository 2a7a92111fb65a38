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

from tensorgrad.kernels import rms_norm

EPS = {"eps": 1e-6}


def definition(x, weight=1.0, *, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def inputs(shape, count=2):
    return [normal(*shape), 1 + normal(shape[-1], seed=1) / 4][:count]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_equals_the_definition(shape, count):
    arrays = inputs(shape, count)
    check_kernel(rms_norm, definition, arrays, EPS, steepness=scale(1 / np.sqrt((arrays[0] ** 2).mean(-1))))


def test_rows_without_elements():
    assert run(rms_norm, [np.ones((5, 0)), np.ones(0)], EPS)[0].shape == (5, 0)


def test_layouts_and_threads():
    check_layouts(rms_norm, inputs((5, 67)), EPS)
    check_threads(rms_norm, inputs((1000, 65)), EPS)


@both
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-4, 1e18, 1e30, 1e38])
def test_rows_of_any_size(dtype, size):
    x = np.tile(np.array([size, -size], dtype), (3, 32))
    h = np.tile([1.0, -1.0], (3, 32))
    y, saved = rms_norm.forward(x, eps=0.0)
    np.testing.assert_allclose(y, h, rtol=1e-6)
    g = upstream(y)
    (dx,) = rms_norm.backward(g, y, saved, x, eps=0.0)
    wanted = g - h * (g * h).mean(-1, keepdims=True)
    np.testing.assert_allclose(dx.astype(np.float64) * size, wanted, rtol=1e-4, atol=1e-6)


@both
def test_not_a_number_fills_its_row_only(dtype):
    x = normal(3, 40).astype(dtype)
    x[0, 3], x[1] = np.nan, 0
    y, _ = rms_norm.forward(x, **EPS)
    assert np.isnan(y[0]).all() and not y[1].any() and np.isfinite(y[2]).all()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_tangents(shape, count):
    arrays = inputs(shape, count)
    check_tangents(rms_norm, definition, arrays, EPS, steepness=scale(1 / np.sqrt((arrays[0] ** 2).mean(-1))) ** 2)


def test_what_stands_still():
    check_none(rms_norm, inputs((5, 7)), EPS)


@both
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-4, 1e18, 1e30])
def test_tangents_of_rows_of_any_size(dtype, size):
    x, t, tg = normal(3, 64), normal(3, 64, seed=1), normal(3, 64, seed=2)

    def both_tangents(dtype, size):
        there, along, turn = (size * x).astype(dtype), (size * t).astype(dtype), tg.astype(dtype)
        y, saved = rms_norm.forward(there, eps=0.0)
        (dx,) = rms_norm.backward_tangent(turn, (along,), upstream(y), y, saved, there, eps=0.0)
        return rms_norm.tangent((along,), y, saved, there, eps=0.0), dx * size

    for got, wanted in zip(both_tangents(dtype, size), both_tangents(np.float64, 1.0), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4 if dtype == np.float32 else 1e-6, atol=1e-5)
