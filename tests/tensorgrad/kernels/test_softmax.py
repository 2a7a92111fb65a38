import numpy as np
import pytest
from kernel_checks import ROWS, both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, upstream

from tensorgrad.kernels import softmax


def definition(x):
    e = np.exp(x - x.real.max(-1, keepdims=True, initial=-1e3))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", ROWS)
def test_equals_the_definition(shape):
    check_kernel(softmax, definition, [3 * normal(*shape)])


def test_layouts_and_threads():
    check_layouts(softmax, [normal(5, 67)])
    check_threads(softmax, [normal(1000, 65)])


@both
def test_extreme_rows(dtype):
    x = np.array([[94.7, -40.1, 0], [1e4, -1e4, 1e4 - 1], [1.7e38, -1.7e38, 0], [0, -np.inf, 1]], dtype)
    y, saved = softmax.forward(x)
    wanted = definition(x.astype(np.float64))
    np.testing.assert_allclose(y, wanted, rtol=2e-6, atol=1e-37)
    g = upstream(y)
    (dx,) = softmax.backward(g, y, saved, x)
    np.testing.assert_allclose(dx, wanted * (g - (g * wanted).sum(-1, keepdims=True)), rtol=1e-5, atol=1e-7)


@both
def test_not_a_number_fills_its_row_only(dtype):
    x = np.zeros((4, 40), dtype)
    x[0], x[1, 7], x[2, 3] = -np.inf, np.nan, -np.nan
    y, _ = softmax.forward(x)
    assert np.isnan(y[:3]).all()
    np.testing.assert_allclose(y[3], 1 / 40, rtol=1e-6)


@pytest.mark.parametrize("shape", ROWS)
def test_tangents(shape):
    check_tangents(softmax, definition, [3 * normal(*shape)])


def test_what_stands_still():
    check_none(softmax, [normal(5, 67)])
