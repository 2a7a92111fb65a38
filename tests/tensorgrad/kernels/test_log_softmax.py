import numpy as np
import pytest
from kernel_checks import ROWS, both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, upstream

from tensorgrad.kernels import log_softmax


def definition(x):
    shifted = x - x.real.max(-1, keepdims=True, initial=-1e38)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_equals_the_definition(shape):
    check_kernel(log_softmax, definition, [3 * normal(*shape)])


def test_rows_without_elements():
    y, saved = log_softmax.forward(np.ones((5, 0)))
    assert y.shape == log_softmax.backward(y, y, saved, y)[0].shape == (5, 0)


def test_layouts_and_threads():
    check_layouts(log_softmax, [normal(5, 67)])
    check_threads(log_softmax, [normal(1000, 65)])


@both
def test_extreme_rows(dtype):
    x = np.array([[94.7, -40.1, 0], [10000, 10000, 9999], [1.7e38, -1.7e38, 0], [0, -np.inf, 1]], dtype)
    y, saved = log_softmax.forward(x)
    wanted = definition(x.astype(np.float64))
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
    g = upstream(y)
    (dx,) = log_softmax.backward(g, y, saved, x)
    np.testing.assert_allclose(dx, g - np.exp(wanted) * g.sum(-1, keepdims=True), rtol=1e-5, atol=1e-6)


@both
def test_not_a_number_fills_its_row_only(dtype):
    x = np.zeros((4, 40), dtype)
    x[0], x[1, 7], x[2, 3] = -np.inf, np.nan, -np.nan
    y, _ = log_softmax.forward(x)
    assert np.isnan(y[:3]).all()
    np.testing.assert_allclose(y[3], -np.log(40), rtol=1e-6)


@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape[-1]])
def test_tangents(shape):
    check_tangents(log_softmax, definition, [3 * normal(*shape)])


def test_what_stands_still():
    check_none(log_softmax, [normal(5, 67)])
