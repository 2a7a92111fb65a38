"""Questions about entries, and arithmetic of integers: ops whose answers carry no derivative.

Each takes Tensors, arrays or Python numbers, broadcasts as NumPy does, and never records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Tensor, as_tensor
from .kinds import disagreement


def _answer(name: str, ufunc: np.ufunc, xs: tuple[Any, ...]) -> Tensor:
    arrays = [as_tensor(x, xs)._array for x in xs]
    try:
        with np.errstate(all="ignore"):
            return Tensor(np.asarray(ufunc(*arrays)))
    except ValueError as error:
        raise ValueError(disagreement(name, *[a.shape for a in arrays]) or str(error)) from None
    except TypeError:
        raise TypeError(f"{name} is not defined for {' and '.join(str(a.dtype) for a in arrays)}") from None


def _one(name: str, ufunc: np.ufunc, doc: str) -> Callable[[Any], Tensor]:
    def op(x: Any) -> Tensor:
        return _answer(name, ufunc, (x,))

    op.__name__, op.__qualname__, op.__doc__ = name, name, doc
    return op


def _two(name: str, ufunc: np.ufunc, doc: str, constants_only: bool = False) -> Callable[[Any, Any], Tensor]:
    """`constants_only` is for results that a user could take for differentiable: it refuses tensors that want a derivative."""

    def op(x: Any, y: Any) -> Tensor:
        if constants_only and any(isinstance(a, Tensor) and a.requires_grad for a in (x, y)):
            raise TypeError(f"{name} has no derivative; call .detach() on its arguments first")
        return _answer(name, ufunc, (x, y))

    op.__name__, op.__qualname__, op.__doc__ = name, name, doc
    return op


# Comparisons; all are False where an entry is nan, but for not_equal

equal = _two("equal", np.equal, "Where x = y.")
not_equal = _two("not_equal", np.not_equal, "Where x and y differ.")
less = _two("less", np.less, "Where x < y.")
less_equal = _two("less_equal", np.less_equal, "Where x <= y.")
greater = _two("greater", np.greater, "Where x > y.")
greater_equal = _two("greater_equal", np.greater_equal, "Where x >= y.")

# Truth

logical_and = _two("logical_and", np.logical_and, "Where neither x nor y is zero.")
logical_or = _two("logical_or", np.logical_or, "Where x or y is not zero.")
logical_xor = _two("logical_xor", np.logical_xor, "Where one of x and y is zero and the other is not.")
logical_not = _one("logical_not", np.logical_not, "Where x is zero.")
isnan = _one("isnan", np.isnan, "Where x is not a number.")
isinf = _one("isinf", np.isinf, "Where x is inf or -inf.")
isfinite = _one("isfinite", np.isfinite, "Where x is neither infinite nor nan.")
signbit = _one("signbit", np.signbit, "Where the sign of x is negative, -0.0 included.")

# Bits of integers and booleans

bitwise_and = _two("bitwise_and", np.bitwise_and, "The bits set in both x and y.")
bitwise_or = _two("bitwise_or", np.bitwise_or, "The bits set in x or y.")
bitwise_xor = _two("bitwise_xor", np.bitwise_xor, "The bits set in one of x and y.")
bitwise_invert = _one("bitwise_invert", np.bitwise_invert, "The bits not set in x; for booleans, not x.")
bitwise_left_shift = _two("bitwise_left_shift", np.bitwise_left_shift, "x with its bits moved y places up.")
bitwise_right_shift = _two("bitwise_right_shift", np.bitwise_right_shift, "x with its bits moved y places down.")

# Steps in two variables

floor_divide = _two("floor_divide", np.floor_divide, "The largest integer not above x / y, of constants.", constants_only=True)
remainder = _two("remainder", np.remainder, "x - y floor(x / y), of constants.", constants_only=True)
nextafter = _two("nextafter", np.nextafter, "The number after x on the way to y, of constants.", constants_only=True)
