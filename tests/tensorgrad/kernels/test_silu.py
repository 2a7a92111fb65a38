import numpy as np
import pytest
from kernel_checks import ROWS, both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, run

from tensorgrad.kernels import silu


def definition(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("shape", ROWS)
def test_equals_the_definition(shape):
    check_kernel(silu, definition, [3 * normal(*shape)])


def test_layouts_and_threads():
    check_layouts(silu, [normal(5, 67)])
    check_threads(silu, [normal(1000, 65)])


@both
def test_limits(dtype):
    x = np.array([0, 10, -10, 1e3, -1e3, np.inf, -np.inf], dtype)
    y, saved = silu.forward(x)
    (slope,) = silu.backward(np.ones_like(x), y, saved, x)
    s = 1 / (1 + np.exp(-10.0))
    np.testing.assert_allclose(y, [0, 10 * s, -10 * (1 - s), 1e3, 0, np.inf, 0], rtol=1e-6)
    np.testing.assert_allclose(slope, [0.5, s + 10 * s * (1 - s), (1 - s) * (1 - 10 * s), 1, 0, 1, 0], rtol=1e-6)
    assert np.isnan(run(silu, [np.array([np.nan], dtype)], {})[0]).all()


@pytest.mark.parametrize("shape", ROWS)
def test_tangents(shape):
    check_tangents(silu, definition, [3 * normal(*shape)])


def test_what_stands_still():
    check_none(silu, [normal(5, 67)])


@both
def test_bend_at_the_limits(dtype):
    x = np.array([0, 30, -30, 1e3, -1e3, np.inf, -np.inf], dtype)
    one = np.ones_like(x)
    (bend,) = silu.backward_tangent(None, (one,), one, x, (), x)
    np.testing.assert_allclose(bend, [0.5, -28 * np.exp(-30), -28 * np.exp(-30), 0, 0, 0, 0], rtol=1e-6)
