"""Shape ops: the same entries in another arrangement, or dtype.  All are linear, and each adjoint is another of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Tensor, as_tensor
from . import kinds
from .kinds import linear

Shape = int | Sequence[int]


def normalize_axis(axis: int, ndim: int) -> int:
    """`axis` counted from the front.  Raises ValueError naming the axis and the number of dimensions."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of range for a tensor with {ndim} dimensions")
    return int(axis) % ndim


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes meant by `axis`, all for None, counted from the front.  Raises ValueError if one is repeated."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(normalize_axis(a, ndim) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis {axis} names an axis twice")
    return axes


def astype(x: Any, dtype: Any) -> Tensor:
    """The same values to the precision of `dtype`; between floating-point types the derivative passes.  TypeError for complex."""
    x, dtype = as_tensor(x), np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise TypeError(f"astype: a tensor holds real numbers or booleans, got dtype {dtype}")
    return x if dtype == x.dtype else kinds.astype(x, dtype=dtype)


@linear(lambda g, x, *, shape: _reshape(g, shape=x.shape))
def _reshape(x, *, shape):
    """The entries of x in row-major order, in another shape."""
    return x.reshape(shape)


def reshape(x: Any, shape: Shape, *more: int) -> Tensor:
    """The entries of x in row-major order in a tensor of `shape`; one length may be -1.  Raises ValueError if they do not fit."""
    x = as_tensor(x)
    new = tuple(int(n) for n in shape) if isinstance(shape, (tuple, list)) else (int(shape), *more)  # type: ignore[arg-type]
    known = math.prod(n for n in new if n != -1)
    if new.count(-1) == 1 and known and x.size % known == 0:
        new = tuple(x.size // known if n == -1 else n for n in new)
    if any(n < 0 for n in new) or math.prod(new) != x.size:
        raise ValueError(f"reshape: a tensor of shape {x.shape}, {x.size} entries, does not fit in shape {new}")
    return _reshape(x, shape=new)


@linear(lambda g, x, *, axes: _permute_dims(g, axes=tuple(int(i) for i in np.argsort(axes))))
def _permute_dims(x, *, axes):
    """Axis i of the result is axis axes[i] of x."""
    return x.transpose(axes)


def permute_dims(x: Any, axes: Sequence[int]) -> Tensor:
    """Axis i of the result is axis axes[i] of x.  Raises ValueError if `axes` is not a permutation."""
    x = as_tensor(x)
    found = normalize_axes(tuple(axes), x.ndim)
    if len(found) != x.ndim:
        raise ValueError(f"permute_dims: axes {tuple(axes)} is not a permutation of the {x.ndim} axes of shape {x.shape}")
    return _permute_dims(x, axes=found)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in reverse order, or in the order of `axes`, as numpy.transpose."""
    x = as_tensor(x)
    return permute_dims(x, tuple(range(x.ndim))[::-1] if axes is None else axes)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """x with two axes exchanged."""
    x = as_tensor(x)
    axes = list(range(x.ndim))
    i, j = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    axes[i], axes[j] = axes[j], axes[i]
    return _permute_dims(x, axes=tuple(axes))


def matrix_transpose(x: Any) -> Tensor:
    """(.., m, n) -> (.., n, m)."""
    return swapaxes(x, -2, -1)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """x with the axes `source` at the places `destination`, the others in their order."""
    x = as_tensor(x)
    sources, places = normalize_axes(source, x.ndim), normalize_axes(destination, x.ndim)
    if len(sources) != len(places):
        raise ValueError(f"moveaxis: source {source} and destination {destination} differ in length")
    axes = [a for a in range(x.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        axes.insert(place, axis)
    return _permute_dims(x, axes=tuple(axes))


def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Tensor:
    """x with new axes of length 1 at the places `axis` of the result."""
    x = as_tensor(x)
    ndim = x.ndim + (len(axis) if isinstance(axis, (tuple, list)) else 1)
    new = normalize_axes(axis, ndim)
    lengths = iter(x.shape)
    return _reshape(x, shape=tuple(1 if i in new else next(lengths) for i in range(ndim)))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """x without the axes of length 1, or without those of `axis`.  Raises ValueError if one of them is longer."""
    x = as_tensor(x)
    axes = normalize_axes(axis, x.ndim) if axis is not None else tuple(i for i, n in enumerate(x.shape) if n == 1)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} is longer than 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def broadcasts_to(shape: Sequence[int], new: Sequence[int]) -> bool:
    """Whether a tensor of `shape` can be repeated to the shape `new`."""
    return len(new) >= len(shape) and all(n in (1, m) for n, m in zip(shape[::-1], new[::-1], strict=False))


def broadcast_to(x: Any, shape: Shape) -> Tensor:
    """x repeated along new leading axes and axes of length 1, to `shape`.  Raises ValueError if the shapes do not agree."""
    x = as_tensor(x)
    new = (shape,) if isinstance(shape, int) else tuple(shape)
    if not broadcasts_to(x.shape, new):
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not broadcast to {new}")
    return kinds.broadcast_to(x, shape=new)


@linear(lambda g, x, *, axes: _flip(g, axes=axes))
def _flip(x, *, axes):
    """x in reverse order along `axes`."""
    return np.flip(x, axes)


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """x in reverse order along `axis`, or along all axes."""
    x = as_tensor(x)
    return _flip(x, axes=normalize_axes(axis, x.ndim))


@linear(lambda g, x, *, shift, axis: _roll(g, shift=tuple(-s for s in shift), axis=axis))
def _roll(x, *, shift, axis):
    """x moved on by `shift` along `axis`, what falls off one end coming back at the other."""
    return np.roll(x, shift, axis)


def roll(x: Any, shift: Shape, axis: int | Sequence[int] | None = None) -> Tensor:
    """x moved on by `shift` places along `axis`, circularly; over the flattened entries when axis is None."""
    x = as_tensor(x)
    shifts = (shift,) if isinstance(shift, int) else tuple(shift)
    if axis is None:
        return _reshape(_roll(_reshape(x, shape=(x.size,)), shift=shifts, axis=(0,)), shape=x.shape)
    axes = normalize_axes(axis, x.ndim)
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ValueError(f"roll: shift {shift} and axis {axis} differ in length")
    return _roll(x, shift=shifts, axis=axes)


@linear(lambda g, *xs, axis: _pieces(g, [x.shape[axis] for x in xs], axis))
def _concat(*xs, axis):
    """The pieces one after another along `axis`."""
    return np.concatenate(xs, axis)


def _pieces(g: Tensor, lengths: Sequence[int], axis: int) -> list[Tensor]:
    ends = np.cumsum(lengths)
    return [g[(slice(None),) * axis + (slice(int(e - n), int(e)),)] for n, e in zip(lengths, ends, strict=True)]


def concat(xs: Sequence[Any], axis: int | None = 0) -> Tensor:
    """The tensors one after another along `axis`; flattened first when axis is None.  Raises ValueError on other mismatch."""
    pieces = [as_tensor(x, xs) for x in xs]
    if not pieces:
        raise ValueError("concat needs at least one tensor")
    if axis is None:
        pieces, axis = [_reshape(x, shape=(x.size,)) for x in pieces], 0
    axis = normalize_axis(axis, pieces[0].ndim)
    rests = {x.shape[:axis] + x.shape[axis + 1 :] for x in pieces}
    if len({x.ndim for x in pieces}) > 1 or len(rests) > 1:
        raise ValueError(f"concat: shapes {', '.join(str(x.shape) for x in pieces)} differ in more than axis {axis}")
    return _concat(*pieces, axis=axis)


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new axis."""
    pieces = [as_tensor(x, xs) for x in xs]
    if len({x.shape for x in pieces}) > 1:
        raise ValueError(f"stack: shapes {', '.join(str(x.shape) for x in pieces)} differ")
    return concat([expand_dims(x, axis) for x in pieces], axis)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that axis.

    They are cut from halves of halves of x: a backward pass through n of them then adds n log n slices, not n^2.
    """
    x = as_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    before, n = (slice(None),) * axis, x.shape[axis]
    if n <= 8:
        return tuple([x[(*before, i)] for i in range(n)])
    return unstack(x[(*before, slice(n // 2))], axis) + unstack(x[(*before, slice(n // 2, None))], axis)


def split(x: Any, indices_or_sections: Shape, axis: int = 0) -> list[Tensor]:
    """x cut along `axis` into equal parts (an integer) or before the given indices, as numpy.split."""
    x = as_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    length = x.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or length % indices_or_sections:
            raise ValueError(f"split: axis {axis} of shape {x.shape} does not divide into {indices_or_sections} equal parts")
        step = length // indices_or_sections
        cuts = [step * i for i in range(1, indices_or_sections)]
    else:
        cuts = list(indices_or_sections)
    bounds = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, length], strict=True)]
    return [x[(slice(None),) * axis + (part,)] for part in bounds]


def tile(x: Any, repetitions: Shape) -> Tensor:
    """x repeated as a block, `repetitions[i]` times along axis i, as numpy.tile."""
    x = as_tensor(x)
    reps = (repetitions,) if isinstance(repetitions, int) else tuple(repetitions)
    if any(r < 0 for r in reps):
        raise ValueError(f"tile: repetitions must be >= 0, got {repetitions}")
    ndim = max(x.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - x.ndim) + x.shape
    apart = _reshape(x, shape=tuple(n for length in shape for n in (1, length)))
    wide = kinds.broadcast_to(apart, shape=tuple(n for r, length in zip(reps, shape, strict=True) for n in (r, length)))
    return _reshape(wide, shape=tuple(r * length for r, length in zip(reps, shape, strict=True)))


@linear(lambda g, x, *, repeats, axis: _sum_repeats(g, repeats=repeats, axis=axis))
def _repeat(x, *, repeats, axis):
    """Entry i along `axis`, repeats[i] times."""
    return np.repeat(x, repeats, axis)


@linear(lambda g, x, *, repeats, axis: _repeat(g, repeats=repeats, axis=axis))
def _sum_repeats(x, *, repeats, axis):
    """Entry i of the result is the sum of the next repeats[i] entries along `axis`."""
    out = np.zeros(x.shape[:axis] + (len(repeats),) + x.shape[axis + 1 :], x.dtype)
    np.add.at(np.moveaxis(out, axis, 0), np.repeat(np.arange(len(repeats)), repeats), np.moveaxis(x, axis, 0))
    return out


def repeat(x: Any, repeats: Shape, axis: int | None = None) -> Tensor:
    """Each entry along `axis` repeated; over the flattened entries when axis is None, as numpy.repeat."""
    x = as_tensor(x)
    if axis is None:
        x, axis = _reshape(x, shape=(x.size,)), 0
    axis = normalize_axis(axis, x.ndim)
    counts = np.asarray(repeats, np.int64)
    if not broadcasts_to(counts.shape, (x.shape[axis],)) or (counts < 0).any():
        raise ValueError(f"repeat: repeats must be >= 0, one for each entry of axis {axis} of shape {x.shape}, got {repeats}")
    return _repeat(x, repeats=np.broadcast_to(counts, (x.shape[axis],)), axis=axis)


@linear(lambda g, x, *, widths: g[tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))])
def _pad(x, *, widths):
    """x in a frame of zeros."""
    return np.pad(x, widths)


def pad(x: Any, pad_width: Any, constant_values: float = 0.0) -> Tensor:
    """x with pad_width[i] = (before, after) constant entries added along axis i, as numpy.pad."""
    x = as_tensor(x)
    given = np.asarray(pad_width)
    if not broadcasts_to(given.shape, (x.ndim, 2)) or (given < 0).any():
        raise ValueError(f"pad: pad_width must be (before, after) >= 0 for each axis of shape {x.shape}, got {pad_width}")
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(given, (x.ndim, 2)))
    padded = _pad(x, widths=widths)
    if constant_values == 0.0:
        return padded
    frame = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=constant_values)
    return padded + frame


@linear(lambda g, x, *, k: _tril(g, k=k))
def _tril(x, *, k):
    """x with zeros above the k-th diagonal."""
    return np.tril(x, k)


def tril(x: Any, k: int = 0) -> Tensor:
    """(.., m, n) -> (.., m, n), zero above the k-th diagonal."""
    return _tril(as_tensor(x), k=k)


def triu(x: Any, k: int = 0) -> Tensor:
    """(.., m, n) -> (.., m, n), zero below the k-th diagonal."""
    x = as_tensor(x)
    return x - _tril(x, k=k - 1)


@linear(lambda g, x, *, offset: _undiagonal(g, offset=offset, shape=x.shape[-2:]))
def _diagonal(x, *, offset):
    """(.., m, n) -> (.., k), the entries x[.., i, i + offset]."""
    return np.diagonal(x, offset, -2, -1)


@linear(lambda g, x, *, offset, shape: _diagonal(g, offset=offset))
def _undiagonal(x, *, offset, shape):
    """(.., k) -> (.., m, n), zero but for the diagonal `offset`."""
    out = np.zeros(x.shape[:-1] + shape, x.dtype)
    i = np.arange(x.shape[-1])
    out[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return out


def diagonal(x: Any, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """The entries whose places along axis1 and axis2 differ by `offset`, along a new last axis."""
    x = as_tensor(x)
    return _diagonal(moveaxis(x, (axis1, axis2), (-2, -1)), offset=int(offset))
