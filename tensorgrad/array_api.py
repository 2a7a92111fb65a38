"""The Python array-API standard (2024.12) on Tensors: what `t.__array_namespace__()` returns.

Functions with the standard's names and arguments, ops of tensorgrad all, so differentiable where mathematics allows.  Left out:
complex numbers, writing into arrays (tensors are immutable: `x += 1` makes a new one), the Fourier extension, and of the linear
algebra extension the decompositions.  The one device is "cpu".
"""

# ruff: noqa: F401
from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from math import e, inf, nan, pi
from typing import Any, Literal

import numpy as np

from . import creation, linalg
from .creation import asarray, check_device, from_dlpack
from .graph import Tensor, as_tensor
from .ops import index as _index
from .ops import reduce as _reduce
from .ops import shape as _shape
from .ops.elementwise import (
    abs,
    acos,
    acosh,
    add,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    clip,
    cos,
    cosh,
    divide,
    exp,
    expm1,
    floor,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    reciprocal,
    round,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)  # fmt: skip
from .ops.index import argmax, argmin, nonzero, take, take_along_axis
from .ops.linalg import matmul, tensordot, vecdot
from .ops.logic import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    nextafter,
    not_equal,
    remainder,
    signbit,
)  # fmt: skip
from .ops.reduce import all, any, max, mean, min, std, var
from .ops.shape import (
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    repeat,
    roll,
    squeeze,
    stack,
    tile,
    tril,
    triu,
    unstack,
)  # fmt: skip

__array_api_version__ = "2024.12"
newaxis = None

# Dtypes

bool, float32, float64 = np.dtype(np.bool), np.dtype(np.float32), np.dtype(np.float64)
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
isdtype = np.isdtype


def astype(x: Any, dtype: Any, /, *, copy: builtins.bool = True, device: str | None = None) -> Tensor:
    """The same values as another dtype.  A tensor is immutable, so a copy is the tensor itself."""
    check_device(device)
    return _shape.astype(x, dtype)


def _dtype(x: Any) -> Any:
    return x.dtype if isinstance(x, Tensor) else x


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The dtype of the sum of such operands; Python numbers bend to the others."""
    return np.result_type(*map(_dtype, arrays_and_dtypes))


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether every value of one dtype is a value of the other."""
    return builtins.bool(np.can_cast(_dtype(from_), to))


def finfo(type: Any, /) -> np.finfo:
    """Limits of a floating-point dtype: bits, eps, max, min, smallest_normal, dtype."""
    return np.finfo(_dtype(type))


def iinfo(type: Any, /) -> np.iinfo:
    """Limits of an integer dtype: bits, max, min, dtype."""
    return np.iinfo(_dtype(type))


# Creation


def _with_device(function: Callable) -> Callable:
    @functools.wraps(function)
    def created(*args: Any, device: str | None = None, **kwargs: Any) -> Tensor:
        check_device(device)
        return function(*args, **kwargs)

    return created


arange, eye, linspace = _with_device(creation.arange), _with_device(creation.eye), _with_device(creation.linspace)
zeros, ones, full = _with_device(creation.zeros), _with_device(creation.ones), _with_device(creation.full)
zeros_like, ones_like = _with_device(creation.zeros_like), _with_device(creation.ones_like)
full_like = _with_device(creation.full_like)
empty, empty_like = zeros, zeros_like


def meshgrid(*arrays: Any, indexing: Literal["xy", "ij"] = "xy") -> tuple[Tensor, ...]:
    """The coordinates of a grid with these axes, each as an array of the grid's shape; 'xy' swaps the first two axes."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shaped = [_shape.reshape(x, tuple(-1 if i == place else 1 for i in range(n))) for x, place in zip(arrays, order, strict=True)]
    return broadcast_arrays(*shaped)


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """The arrays, each repeated to the shape that all broadcast to."""
    tensors = [as_tensor(x) for x in arrays]
    shape = broadcast_shapes(*[x.shape for x in tensors])
    return tuple(broadcast_to(x, shape) for x in tensors)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    return np.broadcast_shapes(*shapes)


# Elementwise


def positive(x: Any, /) -> Tensor:
    """y = x."""
    return as_tensor(x)


def trunc(x: Any, /) -> Tensor:
    """The nearest integer towards 0;  dy/dx = 0."""
    return where(less(x, 0), ceil(x), floor(x))


def copysign(x1: Any, x2: Any, /) -> Tensor:
    """|x1| with the sign of x2."""
    size = abs(as_tensor(x1, [x2]))
    return where(signbit(as_tensor(x2, [x1])), -size, size)


# Shape, order, sets


def reshape(x: Any, /, shape: tuple[int, ...], *, copy: builtins.bool | None = None) -> Tensor:
    """The entries in row-major order in another shape."""
    return _shape.reshape(x, shape)


def sort(x: Any, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True) -> Tensor:
    """x in order along `axis`; always stable."""
    return _index.sort(x, axis, descending)


def argsort(x: Any, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True) -> Tensor:
    """The positions that sort x along `axis`; always stable."""
    return _index.argsort(x, axis, descending)


def searchsorted(x1: Any, x2: Any, /, *, side: Literal["left", "right"] = "left", sorter: Any = None) -> Tensor:
    """Where the values x2 would go into the sorted x1, or into x1[sorter], to keep it sorted."""
    return _index.searchsorted(x1 if sorter is None else as_tensor(x1)[sorter], x2, side)


def isin(x1: Any, x2: Any, /, *, invert: builtins.bool = False) -> Tensor:
    """Where an entry of x1 is among those of x2, or is not."""
    return Tensor(np.asarray(np.isin(as_tensor(x1, [x2])._array, as_tensor(x2, [x1])._array, invert=invert)))


def _unique(name: str, find: Callable, doc: str) -> Callable[[Any], Any]:
    def function(x: Any, /) -> Any:
        x = as_tensor(x)
        if x.requires_grad:
            raise TypeError(f"{name} has no derivative; call .detach() on its argument first")
        found = find(x._array)
        return type(found)(*map(Tensor, found)) if isinstance(found, tuple) else Tensor(found)

    function.__name__, function.__qualname__, function.__doc__ = name, name, doc
    return function


unique_values = _unique("unique_values", np.unique, "The different entries of x, sorted.")
unique_counts = _unique(
    "unique_counts", np.unique_counts, "(values, counts): the different entries of x, and how often each occurs."
)
unique_inverse = _unique(
    "unique_inverse", np.unique_inverse, "(values, inverse_indices), with values[inverse_indices] equal to x."
)
unique_all = _unique(
    "unique_all", np.unique_all, "(values, indices, inverse_indices, counts): where each entry first occurs, and the above."
)

# Reductions


def sum(x: Any, /, *, axis: int | Sequence[int] | None = None, dtype: Any = None, keepdims: builtins.bool = False) -> Tensor:
    """The sum over `axis`, in `dtype`."""
    return _reduce.sum(x if dtype is None else astype(x, dtype), axis, keepdims)


def prod(x: Any, /, *, axis: int | Sequence[int] | None = None, dtype: Any = None, keepdims: builtins.bool = False) -> Tensor:
    """The product over `axis`, in `dtype`."""
    return _reduce.prod(x if dtype is None else astype(x, dtype), axis, keepdims)


def count_nonzero(x: Any, /, *, axis: int | Sequence[int] | None = None, keepdims: builtins.bool = False) -> Tensor:
    """How many entries along `axis` are not zero."""
    return _reduce.sum(not_equal(x, 0), axis, keepdims)


def _scan(op: Callable, first: float) -> Callable:
    def scan(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: builtins.bool = False) -> Tensor:
        x = as_tensor(x)
        if axis is None and x.ndim != 1:
            raise ValueError(f"{op.__name__}: axis may be left out for one dimension only, got shape {x.shape}")
        axis = 0 if axis is None else axis
        y = op(x if dtype is None else astype(x, dtype), axis)
        if not include_initial:
            return y
        start = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
        return concat([full(start, first, dtype=y.dtype), y], axis)

    scan.__name__, scan.__qualname__, scan.__doc__ = op.__name__, op.__name__, op.__doc__
    return scan


cumulative_sum, cumulative_prod = _scan(_reduce.cumulative_sum, 0), _scan(_reduce.cumulative_prod, 1)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """The differences x_{i+1} - x_i along `axis`, taken n times, after adding what is to stand before and behind."""
    x = concat([as_tensor(part) for part in (prepend, x, append) if part is not None], axis)
    axis = _shape.normalize_axis(axis, x.ndim)
    before = (builtins.slice(None),) * axis
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = not_equal(later, earlier) if x.dtype == bool else later - earlier
    return x


# What there is


class __array_namespace_info__:
    """The standard's questions about this library."""

    def capabilities(self) -> dict[str, Any]:
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, np.dtype]:
        check_device(device)
        return {"real floating": float32, "integral": int64, "indexing": int64}

    def dtypes(self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None) -> dict[str, np.dtype]:
        check_device(device)
        names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split()
        return {name: np.dtype(name) for name in names if kind is None or isdtype(np.dtype(name), kind)}
