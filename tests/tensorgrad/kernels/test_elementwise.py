import math

import numpy as np
import pytest
from kernel_checks import both, fortran, misaligned, readonly, reversed_, same_on_threads, stretched

from tensorgrad.kernels import elementwise

inf, nan = math.inf, math.nan


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


REFERENCE = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float64]),
}
SPECIAL = {
    "exp": [(inf, inf), (-inf, 0), (nan, nan), (0.0, 1), (800.0, inf), (-800.0, 0)],
    "log": [(inf, inf), (-inf, nan), (nan, nan), (0.0, -inf), (-0.0, -inf), (-1.0, nan), (1.0, 0)],
    "tanh": [(inf, 1), (-inf, -1), (nan, nan), (0.0, 0.0), (-0.0, -0.0)],
    "sigmoid": [(inf, 1), (-inf, 0), (nan, nan), (0.0, 0.5)],
    "erf": [(inf, 1), (-inf, -1), (nan, nan), (0.0, 0.0), (-0.0, -0.0)],
    "erfc": [(inf, 0), (-inf, 2), (nan, nan), (0.0, 1), (30.0, 0)],
}
names = pytest.mark.parametrize("name", REFERENCE)


def samples():
    """Every binary exponent of float32, both signs, and the range where things happen, more densely."""
    rng = np.random.default_rng(0)
    bits = (np.arange(255)[:, None] << 23) + rng.integers(0, 1 << 23, (255, 200))
    everywhere = bits.astype(np.uint32).view(np.float32).ravel()
    return np.concatenate([everywhere, -everywhere, rng.uniform(-12, 12, 40000), rng.uniform(-104, 89, 40000)]).astype(np.float32)


@names
def test_float32_is_within_two_units_in_the_last_place(name):
    x = samples()
    with np.errstate(all="ignore"):
        wanted = REFERENCE[name](x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    y = getattr(elementwise, name)(x)
    finite = np.isfinite(rounded)
    error = np.abs(y[finite] - wanted[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert error.max() <= 2
    np.testing.assert_array_equal(y[~finite], rounded[~finite])


@names
def test_float64_is_within_1e_15(name):
    x = samples()[::3].astype(np.float64)
    with np.errstate(all="ignore"):
        wanted = REFERENCE[name](x)
    np.testing.assert_allclose(getattr(elementwise, name)(x), wanted, rtol=1e-15, atol=5e-324)


@both
@names
def test_special_values(name, dtype):
    x, wanted = np.array(SPECIAL[name], dtype).T
    y = getattr(elementwise, name)(x)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(np.signbit(y[wanted == 0]), np.signbit(wanted[wanted == 0]))


@both
@names
def test_shapes_layouts_and_threads(name, dtype):
    function = getattr(elementwise, name)
    x = np.random.default_rng(0).uniform(0.1, 3, (5, 33)).astype(dtype)
    for layout in (stretched, reversed_, fortran, misaligned, readonly):
        given = layout(x)
        y = function(given)
        np.testing.assert_array_equal(y, function(x))
        np.testing.assert_array_equal(given, x)
        assert y.flags.c_contiguous and y.dtype == dtype
    for shape in [(), (0,), (3, 0), (1,), (2, 3, 4)]:
        assert function(np.ones(shape, dtype)).shape == shape
    large = np.random.default_rng(0).uniform(0.1, 3, 100_003).astype(dtype)
    same_on_threads(lambda: [function(large)])
