import math

import numpy as np
import pytest
from kernel_checks import ROWS, both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, run

from tensorgrad.kernels import gelu

EXACT, TANH = {"approximate": "none"}, {"approximate": "tanh"}
EDGES = [0.0, 10.0, -10.0, 1e3, -1e3, np.inf, -np.inf]
tail = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), otypes=[np.float64])


def exact(x, approximate):
    return x * tail(x)


def with_tanh(x, approximate):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@pytest.mark.parametrize("shape", [*ROWS, ()])
def test_equals_the_definition(shape):
    check_kernel(gelu, exact, [np.asarray(3 * normal(*shape))], EXACT, analytic=False)


def test_slope_of_the_exact_form():
    x = np.linspace(-9, 9, 1001)
    y, saved = gelu.forward(x)
    (dx,) = gelu.backward(np.ones_like(x), y, saved, x)
    np.testing.assert_allclose(dx, tail(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi), rtol=1e-12, atol=1e-17)


def test_small_values_keep_their_relative_accuracy():
    x = np.linspace(-5, -1, 200).astype(np.float32)
    np.testing.assert_allclose(gelu.forward(x)[0], exact(x.astype(np.float64), "none"), rtol=3e-6)


@pytest.mark.parametrize("shape", ROWS)
def test_equals_the_tanh_definition(shape):
    check_kernel(gelu, with_tanh, [3 * normal(*shape)], TANH)


@pytest.mark.parametrize("params", [EXACT, TANH])
def test_layouts_and_threads(params):
    check_layouts(gelu, [normal(5, 67)], params)
    check_threads(gelu, [normal(1000, 65)], params)


@both
@pytest.mark.parametrize("params", [EXACT, TANH])
def test_limits(params, dtype):
    x = np.array(EDGES, dtype)
    y, saved = gelu.forward(x, **params)
    (slope,) = gelu.backward(np.ones_like(x), y, saved, x, **params)
    np.testing.assert_allclose(y, [0, 10, 0, 1e3, 0, np.inf, 0], atol=1e-21)
    np.testing.assert_allclose(slope, [0.5, 1, 0, 1, 0, 1, 0], rtol=1.3e-6, atol=1e-20)
    assert np.isnan(run(gelu, [np.array([np.nan], dtype)], params)[0]).all()


@pytest.mark.parametrize("shape", ROWS)
def test_tangents(shape):
    check_tangents(gelu, exact, [3 * normal(*shape)], EXACT, analytic=False)
    check_tangents(gelu, with_tanh, [3 * normal(*shape)], TANH)


@pytest.mark.parametrize("params", [EXACT, TANH])
def test_what_stands_still(params):
    check_none(gelu, [normal(5, 67)], params)


@both
def test_bend_of_the_exact_form(dtype):
    x = np.linspace(-9, 9, 1001).astype(dtype)
    one = np.ones_like(x)
    (bend,) = gelu.backward_tangent(None, (one,), one, x, (), x)
    wide = x.astype(np.float64)
    wanted = (2 - wide * wide) * np.exp(-wide * wide / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(bend, wanted, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=np.finfo(dtype).eps)


@both
@pytest.mark.parametrize("params", [EXACT, TANH])
def test_bend_at_the_limits(params, dtype):
    x = np.array(EDGES, dtype)
    one = np.ones_like(x)
    (bend,) = gelu.backward_tangent(None, (one,), one, x, (), x, **params)
    np.testing.assert_allclose(bend, [2 / math.sqrt(2 * math.pi), 0, 0, 0, 0, 0, 0], rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("params", [EXACT, TANH])
@pytest.mark.parametrize("rows", [1, 63, 1000])
def test_a_gradient_that_takes_the_place_of_the_input_has_the_same_bits(dtype, params, rows):
    """Few numbers are left where they are."""
    x, g = (3 * normal(rows, 65).astype(dtype) for _ in range(2))
    kept = x.copy()
    (expected,) = gelu.backward(g, x, (), x, **params)
    (got,) = gelu.backward(g, x, (), x, overwrite=True, **params)
    np.testing.assert_array_equal(got, expected)
    assert np.shares_memory(got, x) == (rows > 63) and (x == (got if rows > 63 else kept)).all()
