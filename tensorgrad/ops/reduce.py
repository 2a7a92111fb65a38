"""Reductions: many entries to one, along an axis, several or all.

Each takes `axis` (an integer, a tuple, or None for all) and `keepdims`.  Sums of float16 are accumulated in float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Op, Tensor, as_tensor
from .elementwise import abs, exp, log, pow, sign, sqrt, square, where
from .kinds import astype, broadcast_to, fused, linear, summed
from .shape import _flip, _reshape, concat, normalize_axes, normalize_axis, permute_dims, squeeze

Axis = int | Sequence[int] | None


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


@linear(lambda g, x, *, axes, keepdims: broadcast_to(_reshape(g, shape=_kept(x.shape, axes)), shape=x.shape))
def _sum(x, *, axes, keepdims):
    """The sum over `axes`."""
    return summed(x, axes, keepdims)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = sum_i x_i;  0 for no entries."""
    x = as_tensor(x)
    return _sum(x, axes=normalize_axes(axis, x.ndim), keepdims=keepdims)


def _count(x: Tensor, axis: Axis) -> int:
    return math.prod(x.shape[i] for i in normalize_axes(axis, x.ndim))


def floating(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of one tensor that integers enter as float32, and float16, a storage format, too, to come out as float16."""

    @functools.wraps(function)
    def wrapped(x: Any, *args: Any, **kwargs: Any) -> Tensor:
        x = _floating(x)
        if x.dtype == np.float16:
            return astype(function(astype(x, dtype=np.float32), *args, **kwargs), dtype=np.float16)
        return function(x, *args, **kwargs)

    return wrapped


def _floating(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else astype(x, dtype=np.float32)


@floating
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = (1/n) sum_i x_i;  nan for no entries."""
    n = _count(x, axis)
    return sum(x, axis, keepdims) / (n if n else math.nan)


@floating
def var(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """y = sum_i (x_i - mean)^2 / (n - correction);  nan when n <= correction.  correction=1 is the unbiased estimate."""
    n = _count(x, axis) - correction
    centred = x - mean(x, axis, keepdims=True)
    return sum(square(centred), axis, keepdims) / (n if n > 0 else math.nan)


@floating
def std(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """y = sqrt(var x);  the derivative of a constant row is 0."""
    return _root(var(x, axis, correction, keepdims))


def _root(x: Tensor) -> Tensor:
    """sqrt with derivative 0 at 0: the root of a sum of squares, whose own derivative there is 0 too."""
    zero = x._array == 0
    return where(zero, 0.0, sqrt(where(zero, 1.0, x)))


# Extremes: a weighted sum, whose weights are 1/k at each of the k entries that are largest (or smallest), else 0


def _weights(x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    y = y.reshape(_kept(x.shape, axes))
    chosen = (x == y) | (np.isnan(x) & np.isnan(y))
    return (chosen / np.maximum(chosen.sum(axis=axes, keepdims=True), 1)).astype(x.dtype)


class _ExtremeKernel:
    def __init__(self, find: Callable):
        self.find = find

    def forward(self, x, *, axes, keepdims):
        return np.asarray(self.find(x, axis=axes, keepdims=keepdims)), ()

    def backward(self, g, y, saved, x, *, axes, keepdims):
        return (np.asarray(g.reshape(_kept(x.shape, axes)) * _weights(x, y, axes)),)

    def definition(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
        x = as_tensor(x)
        weights = _weights(x._array, np.asarray(self.find(x._array, axis=axes)), axes)
        return _sum(where(weights > 0, x * Tensor(weights), 0.0), axes=axes, keepdims=keepdims)


_largest, _smallest = _ExtremeKernel(np.max), _ExtremeKernel(np.min)


@fused(_largest)
def _max(x, *, axes, keepdims):
    """y = max_i x_i."""
    return _largest.definition(x, axes, keepdims)


@fused(_smallest)
def _min(x, *, axes, keepdims):
    """y = min_i x_i."""
    return _smallest.definition(x, axes, keepdims)


def _extreme(op: Op, find: Callable, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes = normalize_axes(axis, x.ndim)
    if _count(x, axes) == 0 and math.prod(n for i, n in enumerate(x.shape) if i not in axes):
        raise ValueError(f"{op.name[1:]} of no entries: shape {x.shape}, axis {axis}")
    if _count(x, axes) == 0:  # nothing of nothing
        return _sum(x, axes=axes, keepdims=keepdims)
    if x.dtype.kind != "f":
        return Tensor(np.asarray(find(x._array, axis=axes, keepdims=keepdims)))
    return op(x, axes=axes, keepdims=keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = max_i x_i, nan if any is;  the derivative is split evenly among equal entries.  Raises ValueError for no entries."""
    return _extreme(_max, np.max, x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = min_i x_i, nan if any is;  the derivative is split evenly among equal entries.  Raises ValueError for no entries."""
    return _extreme(_min, np.min, x, axis, keepdims)


@floating
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = log sum_i exp x_i, without overflow;  -inf, with derivative 0, when all are -inf."""
    top = np.max(x._array, axis=normalize_axes(axis, x.ndim), keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    total = sum(exp(x - Tensor(top)), axis, keepdims=True)
    empty = total._array == 0
    y = where(empty, -math.inf, log(where(empty, 1.0, total)) + Tensor(top))
    return y if keepdims else squeeze(y, normalize_axes(axis, x.ndim))


@floating
def norm(x: Any, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = (sum_i |x_i|^ord)^(1/ord) over the entries along `axis`; ord may be inf, -inf or 0 (a count).

    The derivative at a zero vector is 0.
    """
    if ord == 2:
        scale = np.max(np.abs(x._array), axis=normalize_axes(axis, x.ndim), keepdims=True, initial=0)
        scale = np.where((scale > 0) & np.isfinite(scale), scale, 1).astype(x.dtype)
        y = _root(sum(square(x / Tensor(scale)), axis, keepdims=True)) * Tensor(scale)
        return y if keepdims else squeeze(y, normalize_axes(axis, x.ndim))
    if ord == 1:
        return sum(abs(x), axis, keepdims)
    if ord == math.inf:
        return max(abs(x), axis, keepdims)
    if ord == -math.inf:
        return min(abs(x), axis, keepdims)
    if ord == 0:
        return sum(square(sign(x)), axis, keepdims)
    zero = x._array == 0
    powers = where(zero, 0.0, pow(where(zero, 1.0, abs(x)), ord))
    total = sum(powers, axis, keepdims)
    none = total._array == 0
    return where(none, 0.0, pow(where(none, 1.0, total), 1 / ord))


# Products


def _along_last(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x with `axes` merged into one last axis."""
    rest = [i for i in range(x.ndim) if i not in axes]
    moved = permute_dims(x, (*rest, *axes))
    return _reshape(moved, shape=(*moved.shape[: len(rest)], math.prod(x.shape[i] for i in axes)))


def _countable(x: Tensor) -> Tensor:
    """Booleans and short integers as long ones, as NumPy multiplies them."""
    return x if x.dtype.kind == "f" else x.astype(np.result_type(x.dtype, np.uint if x.dtype.kind == "u" else np.int_))


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = prod_i x_i;  1 for no entries;  dy/dx_i is the product of the others, right also when some are 0.

    A tree of pairwise products: no division, so zeros need no special case at any order.
    """
    x = _countable(as_tensor(x))
    axes = normalize_axes(axis, x.ndim)
    rows = _along_last(x, axes)
    while rows.shape[-1] > 1:
        even = rows.shape[-1] // 2 * 2
        pairs = rows[..., 0:even:2] * rows[..., 1:even:2]
        rows = concat([pairs, rows[..., even:]], -1) if even < rows.shape[-1] else pairs
    lead = rows.shape[:-1]
    y = _reshape(rows, shape=lead) if rows.shape[-1] else sum(rows, -1) + 1
    return _reshape(y, shape=_kept(x.shape, axes)) if keepdims else y


@linear(lambda g, x, *, axis: _flip(_cumulative_sum(_flip(g, axes=(axis,)), axis=axis), axes=(axis,)))
def _cumulative_sum(x, *, axis):
    """y_i = sum_{j <= i} x_j."""
    if x.dtype == np.float16:
        return np.cumsum(x, axis, dtype=np.float32).astype(np.float16)
    return np.cumsum(x, axis)


def _cumulative_axis(x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    if axis is None:
        return _reshape(x, shape=(x.size,)), 0
    return x, normalize_axis(axis, x.ndim)


def cumulative_sum(x: Any, axis: int | None = None) -> Tensor:
    """y_i = sum_{j <= i} x_j along `axis`; of the flattened entries when axis is None."""
    x, axis = _cumulative_axis(as_tensor(x), axis)
    return _cumulative_sum(x, axis=axis)


def cumulative_prod(x: Any, axis: int | None = None) -> Tensor:
    """y_i = prod_{j <= i} x_j along `axis`; of the flattened entries when axis is None.

    Doubling (Hillis and Steele 1986): after step k each entry holds the product of the last 2^k; no division, so zeros are right.
    """
    x, axis = _cumulative_axis(_countable(as_tensor(x)), axis)
    before = (slice(None),) * axis
    reach = 1
    while reach < x.shape[axis]:
        x = concat([x[(*before, slice(reach))], x[(*before, slice(reach, None))] * x[(*before, slice(-reach))]], axis)
        reach *= 2
    return x


# Truth


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some entry is not zero."""
    x = as_tensor(x)
    return Tensor(np.asarray(np.any(x._array, normalize_axes(axis, x.ndim), keepdims=keepdims)))


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether no entry is zero."""
    x = as_tensor(x)
    return Tensor(np.asarray(np.all(x._array, normalize_axes(axis, x.ndim), keepdims=keepdims)))
