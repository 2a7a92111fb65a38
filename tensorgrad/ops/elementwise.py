"""Elementwise ops: the value on arrays, and one partial derivative for each input on Tensors.

All broadcast as NumPy does, and follow IEEE at the edges: log 0 = -inf, 0/0 = nan, without a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..graph import Tensor, as_tensor
from .kinds import Elementwise, disagreement, elementwise, linear


def _quiet(body: Callable) -> Callable:
    """The array function `body` without NumPy's warnings: infinities and nans are values here."""

    def quiet(*arrays: np.ndarray, **params: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            return body(*arrays, **params)

    quiet.__name__, quiet.__doc__ = body.__name__, body.__doc__
    return quiet


def _op(*partials: Callable, kernel: Callable | None = None, least: int = 0) -> Callable[[Callable], Elementwise]:
    return lambda body: elementwise(*partials, kernel=kernel, least=least)(_quiet(body))


def _float(x: np.ndarray) -> np.ndarray:
    """Integers and booleans as the default floating-point numbers, as the mathematical functions need."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


# Arithmetic


@_op(lambda z, x, y: 1, lambda z, x, y: 1, kernel=lambda x, y: kernels.elementwise.add(x, y), least=1 << 16)
def add(x, y):
    """z = x + y."""
    return x + y


@_op(lambda z, x, y: 1, lambda z, x, y: -1, kernel=lambda x, y: kernels.elementwise.subtract(x, y), least=1 << 16)
def subtract(x, y):
    """z = x - y."""
    return x - y


@_op(lambda z, x, y: y, lambda z, x, y: x, kernel=lambda x, y: kernels.elementwise.multiply(x, y), least=1 << 16)
def multiply(x, y):
    """z = x y;  dz/dx = y, dz/dy = x."""
    return x * y


@_op(lambda z, x, y: 1 / y, lambda z, x, y: -z / y, kernel=lambda x, y: kernels.elementwise.divide(x, y), least=1 << 16)
def divide(x, y):
    """z = x / y;  dz/dx = 1/y, dz/dy = -z/y."""
    return x / y


@_op(lambda y, x: -1)
def negative(x):
    """y = -x."""
    return -x


@_op(lambda z, x, y: _pow_dx(x, y), lambda z, x, y: where(_zero(x, y), 0.0, z * log(where(_zero(x, y), 1.0, x))))
def pow(x, y):
    """z = x^y;  dz/dx = y x^(y-1), 0 where y = 0;  dz/dy = z log x, 0 where x = 0 and y >= 0."""
    return np.power(x, y)


def _pow_dx(x: Tensor, y: Tensor) -> Tensor:
    still = y._array == 0
    return where(still, 0.0, y * pow(x, where(still, 1.0, y) - 1.0))


def _zero(x: Tensor, y: Tensor) -> np.ndarray:
    return (x._array == 0) & (y._array >= 0)


@_op(lambda y, x: sign(x))
def abs(x):
    """y = |x|;  dy/dx = sign x, 0 at 0."""
    return np.abs(x)


@_op(lambda y, x: 0)
def sign(x):
    """y = -1, 0 or 1;  dy/dx = 0."""
    return np.sign(x)


@_op(lambda y, x: 2 * x)
def square(x):
    """y = x^2;  dy/dx = 2x."""
    return x * x


@_op(lambda y, x: 0.5 / y)
def sqrt(x):
    """y = sqrt x;  dy/dx = 1/(2y), inf at 0."""
    return np.sqrt(_float(x))


@_op(lambda y, x: -y * y)
def reciprocal(x):
    """y = 1/x;  dy/dx = -y^2."""
    return 1 / _float(x)


# Exponentials and logarithms


@_op(lambda y, x: y, kernel=lambda x: kernels.elementwise.exp(x), least=1 << 14)
def exp(x):
    """y = e^x;  dy/dx = y."""
    return np.exp(_float(x))


@_op(lambda y, x: y + 1)
def expm1(x):
    """y = e^x - 1, exact for small x;  dy/dx = y + 1."""
    return np.expm1(_float(x))


@_op(lambda y, x: 1 / x, kernel=lambda x: kernels.elementwise.log(x), least=1 << 14)
def log(x):
    """y = ln x;  dy/dx = 1/x."""
    return np.log(_float(x))


@_op(lambda y, x: 1 / (1 + x))
def log1p(x):
    """y = ln(1 + x), exact for small x;  dy/dx = 1/(1 + x)."""
    return np.log1p(_float(x))


@_op(lambda y, x: (1 / math.log(2)) / x)
def log2(x):
    """y = log2 x;  dy/dx = 1/(x ln 2)."""
    return np.log2(_float(x))


@_op(lambda y, x: (1 / math.log(10)) / x)
def log10(x):
    """y = log10 x;  dy/dx = 1/(x ln 10)."""
    return np.log10(_float(x))


@_op(lambda z, x, y: sigmoid(_above(x, y)), lambda z, x, y: sigmoid(_above(y, x)))
def logaddexp(x, y):
    """z = ln(e^x + e^y);  dz/dx = sigmoid(x - y), 0 where both are -inf."""
    return np.logaddexp(_float(x), _float(y))


def _above(x: Tensor, y: Tensor) -> Tensor:
    """x - y, and -inf for -inf - -inf."""
    return where((x._array == -math.inf) & (y._array == -math.inf), -math.inf, x - y)


# Trigonometric and hyperbolic


@_op(lambda y, x: cos(x))
def sin(x):
    """y = sin x;  dy/dx = cos x."""
    return np.sin(_float(x))


@_op(lambda y, x: -sin(x))
def cos(x):
    """y = cos x;  dy/dx = -sin x."""
    return np.cos(_float(x))


@_op(lambda y, x: 1 + y * y)
def tan(x):
    """y = tan x;  dy/dx = 1 + y^2."""
    return np.tan(_float(x))


@_op(lambda y, x: 1 / sqrt((1 - x) * (1 + x)))
def asin(x):
    """y = arcsin x;  dy/dx = 1/sqrt(1 - x^2)."""
    return np.arcsin(_float(x))


@_op(lambda y, x: -1 / sqrt((1 - x) * (1 + x)))
def acos(x):
    """y = arccos x;  dy/dx = -1/sqrt(1 - x^2)."""
    return np.arccos(_float(x))


@_op(lambda y, x: 1 / (1 + x * x))
def atan(x):
    """y = arctan x;  dy/dx = 1/(1 + x^2)."""
    return np.arctan(_float(x))


@_op(lambda z, y, x: x / (x * x + y * y), lambda z, y, x: -y / (x * x + y * y))
def atan2(y, x):
    """z = the angle of the point (x, y);  dz/dy = x/(x^2 + y^2), dz/dx = -y/(x^2 + y^2)."""
    return np.arctan2(_float(y), _float(x))


@_op(lambda y, x: cosh(x))
def sinh(x):
    """y = sinh x;  dy/dx = cosh x."""
    return np.sinh(_float(x))


@_op(lambda y, x: sinh(x))
def cosh(x):
    """y = cosh x;  dy/dx = sinh x."""
    return np.cosh(_float(x))


@_op(lambda y, x: 1 - y * y, kernel=lambda x: kernels.elementwise.tanh(x), least=1 << 14)
def tanh(x):
    """y = tanh x;  dy/dx = 1 - y^2."""
    return np.tanh(_float(x))


@_op(lambda y, x: 1 / sqrt(1 + x * x))
def asinh(x):
    """y = arsinh x;  dy/dx = 1/sqrt(1 + x^2)."""
    return np.arcsinh(_float(x))


@_op(lambda y, x: 1 / (sqrt(x - 1) * sqrt(x + 1)))
def acosh(x):
    """y = arcosh x;  dy/dx = 1/sqrt(x^2 - 1)."""
    return np.arccosh(_float(x))


@_op(lambda y, x: 1 / ((1 - x) * (1 + x)))
def atanh(x):
    """y = artanh x;  dy/dx = 1/(1 - x^2)."""
    return np.arctanh(_float(x))


@_op(lambda z, x, y: _direction(x, z), lambda z, x, y: _direction(y, z))
def hypot(x, y):
    """z = sqrt(x^2 + y^2) without overflow;  dz/dx = x/z, 0 at the origin."""
    return np.hypot(_float(x), _float(y))


def _direction(x: Tensor, length: Tensor) -> Tensor:
    """x / length, 0 where the length is 0: the derivative of a norm."""
    return x / where(length._array == 0, 1.0, length)


# The error function; NumPy has none, so the kernel is the definition's arithmetic too


@_op(lambda y, x: (2 / math.sqrt(math.pi)) * exp(-x * x))
def erf(x):
    """y = 2/sqrt(pi) int_0^x exp(-t^2) dt;  dy/dx = 2/sqrt(pi) exp(-x^2)."""
    return _at_least_float32(kernels.elementwise.erf, x)


@_op(lambda y, x: (-2 / math.sqrt(math.pi)) * exp(-x * x))
def erfc(x):
    """y = 1 - erf x, exact for large x;  dy/dx = -2/sqrt(pi) exp(-x^2)."""
    return _at_least_float32(kernels.elementwise.erfc, x)


def _at_least_float32(kernel: Callable, x: np.ndarray) -> np.ndarray:
    """The kernel's values; kernels know no float16, which is a storage format."""
    x = _float(x)
    return kernel(x.astype(np.float32)).astype(x.dtype) if x.dtype == np.float16 else kernel(x)


# Activations


@_op(lambda y, x: y * (1 - y), kernel=lambda x: kernels.elementwise.sigmoid(x))
def sigmoid(x):
    """y = 1/(1 + e^-x);  dy/dx = y (1 - y)."""
    e = np.exp(-np.abs(_float(x)))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


@_op(lambda y, x: sigmoid(x))
def softplus(x):
    """y = ln(1 + e^x);  dy/dx = sigmoid x."""
    x = _float(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@_op(lambda y, x: Tensor((x._array > 0).astype(x.dtype)), kernel=lambda x: kernels.elementwise.relu(x), least=1 << 12)
def relu(x):
    """y = max(x, 0);  dy/dx = 1 for x > 0, else 0."""
    return np.maximum(x, 0)


@_op(lambda y, x, *, negative_slope: Tensor(np.where(x._array > 0, 1, negative_slope).astype(x.dtype)))
def _leaky_relu(x, *, negative_slope):
    """y = x for x > 0, else negative_slope x."""
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """y = x for x > 0, else negative_slope x;  dy/dx = 1 for x > 0, else negative_slope (Maas et al. 2013, section 2)."""
    return _leaky_relu(x, negative_slope=float(negative_slope))


@_op(lambda y, x, *, alpha: where(x._array > 0, 1.0, y + alpha))
def _elu(x, *, alpha):
    """y = x for x > 0, else alpha (e^x - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = x for x > 0, else alpha (e^x - 1);  dy/dx = 1 for x > 0, else y + alpha (Clevert et al. 2016, eq. 15)."""
    return _elu(x, alpha=float(alpha))


# Choices


@_op(lambda z, x, y: _share(x, y), lambda z, x, y: _share(y, x))
def maximum(x, y):
    """z = max(x, y), nan if either is;  the derivative goes to the larger, half to each when equal."""
    return np.maximum(x, y)


@_op(lambda z, x, y: _share(y, x), lambda z, x, y: _share(x, y))
def minimum(x, y):
    """z = min(x, y), nan if either is;  the derivative goes to the smaller, half to each when equal."""
    return np.minimum(x, y)


def _share(winner: Tensor, loser: Tensor) -> Tensor:
    a, b = winner._array, loser._array
    return Tensor(((a > b) + 0.5 * (a == b)).astype(np.result_type(a.dtype, b.dtype)))


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """y = x kept within [min, max], None for no bound;  dy/dx = 1 inside and at the bounds, 0 outside."""
    x = as_tensor(x)
    low = None if min is None else as_tensor(min, [x])._array
    high = None if max is None else as_tensor(max, [x])._array
    return _clip(x, low=low, high=high)


@_op(lambda y, x, *, low, high: _inside(x, low, high))
def _clip(x, *, low, high):
    """y = x kept within [low, high]."""
    return x.copy() if low is None and high is None else np.clip(x, low, high)


def _inside(x: Tensor, low: np.ndarray | None, high: np.ndarray | None) -> Tensor:
    inside = np.logical_and(low is None or x._array >= low, high is None or x._array <= high)
    return Tensor(np.broadcast_to(inside, np.broadcast_shapes(x.shape, inside.shape)).astype(x.dtype))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, else y; the side not taken gets cotangent 0, which is nan behind an infinite slope (0 inf)."""
    chosen = condition._array if isinstance(condition, Tensor) else np.asarray(condition)
    x = as_tensor(x, [y])
    y = as_tensor(y, [x])
    try:
        return _where(x, y, condition=chosen.astype(bool))
    except ValueError as error:
        raise ValueError(disagreement("where", chosen.shape, x.shape, y.shape) or str(error)) from None


@linear(lambda g, x, y, *, condition: (where(condition, g, 0.0), where(condition, 0.0, g)))
def _where(x, y, *, condition):
    """x where the condition holds, else y."""
    return np.where(condition, x, y)


# Steps: piecewise constant, so the derivative is zero


@_op(lambda y, x: 0)
def floor(x):
    """The largest integer not above x;  dy/dx = 0."""
    return np.floor(x)


@_op(lambda y, x: 0)
def ceil(x):
    """The smallest integer not below x;  dy/dx = 0."""
    return np.ceil(x)


@_op(lambda y, x: 0)
def round(x):
    """The nearest integer, halves to even;  dy/dx = 0."""
    return np.round(x)
