"""Index ops: choose entries by position.  Gathering is linear in what is gathered from; its adjoint scatters and adds.

A position that occurs several times is read several times, so its cotangents add up.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .. import kernels
from ..cotangents import Late
from ..graph import Tensor, as_tensor, state
from .elementwise import where
from .kinds import astype, broadcast_to, disagreement, linear
from .shape import _reshape, broadcasts_to, moveaxis, normalize_axis


def indices(given: Any, size: int, name: str, what: str) -> np.ndarray:
    """`given` as an int64 array of positions from the front, negative ones counted from the end.

    Raises TypeError if they are not integers, IndexError naming the first that is not in [-size, size).
    """
    array = given._array if isinstance(given, Tensor) else np.asarray(given)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, got {array.dtype}")
    array = array.astype(np.int64)
    low, high = array.min(), array.max()
    if low < -size or high >= size:
        where = np.unravel_index(int(np.argmax((array < -size) | (array >= size))), array.shape)
        bad = array[where]
        raise IndexError(f"{name}: index {bad} at position {tuple(map(int, where))} is out of range for {what} of size {size}")
    return np.where(array < 0, array + size, array) if low < 0 else array


def _plain(key: Any) -> Any:
    """An index as NumPy takes it: Tensors inside become arrays."""
    if isinstance(key, tuple):
        return tuple(_plain(k) for k in key)
    if isinstance(key, Tensor):
        key = key._array
    if isinstance(key, list):
        key = np.asarray(key, dtype=None if key else np.int64)
    if isinstance(key, np.ndarray) and key.dtype.kind not in "iub":
        raise IndexError(f"getitem: an index must be integers or booleans, got {key.dtype}")
    return key


def _repeats(key: Any) -> bool:
    """Whether an index may name a place twice: only arrays of integers can."""
    keys = key if isinstance(key, tuple) else (key,)
    return any(isinstance(k, np.ndarray) and k.dtype.kind != "b" for k in keys)


@linear(lambda g, x, *, key: _put(g, key=key, shape=x.shape))
def _getitem(x, *, key):
    """x[key]."""
    return x[key]


@linear(lambda g, x, *, key, shape: _getitem(g, key=key))
def _put(x, *, key, shape):
    """Zeros of `shape`, with x added at `key`."""
    out = np.zeros(shape, x.dtype)
    if _repeats(key):
        np.add.at(out, key, x)
    else:
        out[key] = x
    return out


def getitem(x: Any, key: Any) -> Tensor:
    """x[key], as NumPy indexes: slices, None, .., integer arrays, boolean masks.  A place read twice gets both cotangents."""
    x = as_tensor(x)
    return _getitem(x, key=_plain(key))


def index_update(x: Any, key: Any, values: Any) -> Tensor:
    """A copy of x in which x[key] = values, broadcast; of a place named twice, the last value stays and has the derivative."""
    x = as_tensor(x)
    key = _plain(key)
    places = _getitem.forward(np.arange(x.size).reshape(x.shape), key=key)
    source = np.full(x.size, -1)  # for each entry of x, which of the values lands there
    source[places.reshape(-1)] = np.arange(places.size)
    landed = source >= 0
    values = as_tensor(values, [x])
    if not broadcasts_to(values.shape, places.shape):
        raise ValueError(f"index_update: values of shape {values.shape} do not fit x[key] of shape {places.shape}")
    values = broadcast_to(astype(values, dtype=x.dtype), shape=places.shape)
    chosen = _getitem(_reshape(values, shape=(places.size,)), key=source[landed])
    mask = landed.reshape(x.shape)
    return where(mask, _put(chosen, key=mask, shape=x.shape), x)


@linear(
    lambda g, x, *, index: _scattered(g, index, x.shape[0]),
    kernel=lambda x, index: kernels.scatter.gather(x, index),
)
def _gather_rows(x, *, index):
    """(R, C), (N,) -> (N, C);  y_n = x_index[n]."""
    return x[index]


@linear(
    lambda g, x, *, index, rows: _gather_rows(g, index=index),
    kernel=lambda x, index, rows: kernels.scatter.scatter_add(x, index, rows),
)
def _scatter_rows(x, *, index, rows):
    """(N, C), (N,) -> (rows, C);  y_r = the sum of x_n over all n with index[n] = r."""
    out = np.zeros((rows, x.shape[1]), np.float64 if x.dtype == np.float32 else x.dtype)
    np.add.at(out, index, x)
    return out.astype(x.dtype)


def _scattered(g: Tensor, index: np.ndarray, rows: int) -> Tensor:
    """_scatter_rows, made when it is read if most rows are 0: added to another gradient of the table, it touches few of them."""
    if state.recording or rows <= index.size:
        return _scatter_rows(g, index=index, rows=rows)

    def add_to(table: np.ndarray) -> None:
        touched, places = np.unique(index, return_inverse=True)
        table[touched] += _scatter_rows.forward(g._array, index=places, rows=touched.size)

    return Late(lambda: _scatter_rows.forward(g._array, index=index, rows=rows), add_to)


def take(x: Any, index: Any, axis: int | None = None) -> Tensor:
    """The slices of x at the positions `index` along `axis`; of the flattened entries when axis is None, as numpy.take.

    Raises IndexError naming the position and the size for an index outside [-size, size).
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = _reshape(x, shape=(x.size,)), 0
    axis = normalize_axis(axis, x.ndim)
    places = indices(index, x.shape[axis], "take", f"axis {axis}")
    front = moveaxis(x, axis, 0)
    rest = front.shape[1:]
    rows = _reshape(front, shape=(front.shape[0], math.prod(rest)))
    taken = _reshape(_gather_rows(rows, index=places.reshape(-1)), shape=places.shape + rest)
    return moveaxis(taken, tuple(range(places.ndim)), tuple(range(axis, axis + places.ndim)))


def embedding(ids: Any, weight: Any) -> Tensor:
    """(..) integers, (V, C) -> (.., C);  row ids[..] of the table.  Raises IndexError for an id outside [0, V)."""
    weight = as_tensor(weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: the table must be (V, C), got shape {weight.shape}")
    array = ids._array if isinstance(ids, Tensor) else np.asarray(ids)
    rows = indices(array, weight.shape[0], "embedding", "a table")
    if array.size and array.min() < 0:
        raise IndexError(f"embedding: id {array.min()} is negative; ids are in [0, {weight.shape[0]})")
    return _reshape(_gather_rows(weight, index=rows.reshape(-1)), shape=rows.shape + weight.shape[1:])


@linear(lambda g, x, *, index, axis: _put_along_axis(g, index=index, axis=axis, shape=x.shape))
def _take_along_axis(x, *, index, axis):
    """y[.., i, ..] = x[.., index[.., i, ..], ..]."""
    return np.take_along_axis(x, index, axis)


@linear(lambda g, x, *, index, axis, shape: _take_along_axis(g, index=index, axis=axis))
def _put_along_axis(x, *, index, axis, shape):
    """Zeros of `shape`, with x[.., i, ..] added at place index[.., i, ..] along `axis`."""
    out = np.zeros(shape, x.dtype)
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = index
    np.add.at(out, tuple(grid), x)
    return out


def take_along_axis(x: Any, index: Any, axis: int = -1) -> Tensor:
    """One entry of x along `axis` for each of `index`, which has x's shape but for that axis; lengths of 1 broadcast."""
    x = as_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    places = indices(index, x.shape[axis], "take_along_axis", f"axis {axis}")
    if places.ndim != x.ndim:
        raise ValueError(f"take_along_axis: index has {places.ndim} dimensions, x has {x.ndim}")
    rests = [s[:axis] + (1,) + s[axis + 1 :] for s in (x.shape, places.shape)]
    if fault := disagreement("take_along_axis", *rests):
        raise ValueError(f"{fault}, in x of shape {x.shape} and index of shape {places.shape} but for axis {axis}")
    lengths = np.broadcast_shapes(*rests)
    x = broadcast_to(x, shape=lengths[:axis] + (x.shape[axis],) + lengths[axis + 1 :])
    return _take_along_axis(
        x, index=np.broadcast_to(places, lengths[:axis] + (places.shape[axis],) + lengths[axis + 1 :]), axis=axis
    )


def scatter_add(x: Any, axis: int, index: Any, src: Any) -> Tensor:
    """A copy of x with src[.., i, ..] added at place index[.., i, ..] along `axis`; places named twice get the sum."""
    x = as_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    places = indices(index, x.shape[axis], "scatter_add", f"axis {axis}")
    src = as_tensor(src, [x])
    if src.shape != places.shape:
        raise ValueError(f"scatter_add: src has shape {src.shape}, index has shape {places.shape}")
    if places.ndim != x.ndim or any(n > m for i, (n, m) in enumerate(zip(places.shape, x.shape, strict=True)) if i != axis):
        raise ValueError(f"scatter_add: an index of shape {places.shape} goes beyond x of shape {x.shape} but along axis {axis}")
    return x + _put_along_axis(src, index=places, axis=axis, shape=x.shape)


# Choosing by value.  The positions carry no derivative; what is found at them does.


def argsort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """The positions that sort x along `axis`; equal values keep their order."""
    array = as_tensor(x)._array
    if not descending:
        return Tensor(np.argsort(array, axis, kind="stable"))
    backward = np.argsort(np.flip(array, axis), axis, kind="stable")
    return Tensor(np.flip(array.shape[axis] - 1 - backward, axis).copy())


def sort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """x in ascending (or descending) order along `axis`; the derivative follows each entry to its new place."""
    x = as_tensor(x)
    return take_along_axis(x, argsort(x, axis, descending), axis) if x.ndim else x


def topk(x: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest entries along `axis`, largest first, and their positions; of equal ones the first comes first."""
    x = as_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"topk: k is {k}, axis {axis} of shape {x.shape} has {x.shape[axis]} entries")
    places = Tensor(argsort(x, axis, descending=True)._array[(slice(None),) * axis + (slice(k),)])
    return take_along_axis(x, places, axis), places


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the largest entry, the first of equal ones."""
    return Tensor(np.asarray(np.argmax(as_tensor(x)._array, axis, keepdims=keepdims)))


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the smallest entry, the first of equal ones."""
    return Tensor(np.asarray(np.argmin(as_tensor(x)._array, axis, keepdims=keepdims)))


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """The positions of the entries that are not zero, one tensor of integers for each axis."""
    return tuple(Tensor(i) for i in np.nonzero(as_tensor(x)._array))


def searchsorted(x1: Any, x2: Any, side: Literal["left", "right"] = "left") -> Tensor:
    """Where the values x2 would go into the sorted x1 to keep it sorted."""
    x1 = as_tensor(x1)
    if x1.ndim != 1:
        raise ValueError(f"searchsorted: x1 must have one dimension, got shape {x1.shape}")
    return Tensor(np.asarray(np.searchsorted(x1._array, as_tensor(x2)._array, side)))
