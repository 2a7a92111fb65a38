"""What the kernels that work row by row share: how arrays are laid out for them, and how rows are shared among threads."""

import math
from typing import Any

import numpy as np

from tensorgrad.kernels.functions import I32, I64, D, F, by_dtype
from tensorgrad.kernels.jit import inline, pasted, serial

Array = np.ndarray[Any, Any]


class _Writable:
    """Presents a read-only array as writable. Kernels write to inputs only where they are told to overwrite one, which is
    writeable, but Numba counts the two as different types and would compile everything twice."""

    def __init__(self, array: Array) -> None:
        self.owner = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def contiguous(x: Array) -> Array:
    """x with at least one axis, C-contiguous and aligned, copied only if it is not; of one type to the compiler."""
    if x.flags.carray and x.ndim:  # contiguous, aligned and writeable: nearly always
        return x
    x = np.ascontiguousarray(x)
    if not x.flags.aligned:
        return x.copy()
    return x if x.flags.writeable else np.asarray(_Writable(x))


def vector(x: Array) -> Array:
    """(..) -> (x.size,), contiguous."""
    x = contiguous(x)
    return x if x.ndim == 1 else x.reshape(-1)


def matrix(x: Array) -> Array:
    """(.., n) -> (rows, n), contiguous."""
    x = contiguous(x)
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


_APART = 512  # bytes


def empty(shape: int | tuple[int, ...], dtype: Any = np.float64) -> Array:
    """An array for results, not initialised, that begins at least _APART bytes after whatever lies before it in memory.

    A vectorised loop falls back to its scalar form, which rounds differently, when what it writes begins less than a few vectors
    after something it reads.  So without the gap a small result could depend on where the allocator put it.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, np.empty(size + _APART, np.uint8), _APART)


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float64) -> Array:
    """The same, all 0."""
    x = empty(shape, dtype)
    x.fill(0)
    return x


def or_zeros(t: Array | None, x: Array) -> Array:
    """t, or if that is None zeros of the shape of x: the tangent of what stands still."""
    return zeros(x.shape, x.dtype) if t is None else t


def by_rows(driver: Any, *arrays: Array, work: int) -> Array:
    """A new array of the shape of the arrays, filled by driver(*arrays, result, chunks), all of them as rows; `work` is that on
    one element, to choose between one thread and all."""
    y = empty(arrays[0].shape, arrays[0].dtype)
    if y.size:
        rows = [matrix(x) for x in arrays]
        driver.at(work * y.size)(*rows, y.reshape(rows[0].shape), pieces(*rows[0].shape))
    return y


@inline
def bounds(chunk, chunks, n):
    """Where chunk number `chunk` of `chunks` nearly equal pieces of range(n) begins and ends."""
    return n * chunk // chunks, n * (chunk + 1) // chunks


def pieces(items: int, size: int = 1) -> int:
    """How many chunks to cut `items` items of `size` elements into: of 4096 elements or more, and at most 64 chunks.
    It depends on the shape alone, so that sums over chunks do not depend on the number of threads."""
    return min(max(items * size // 4096, 1), items, 64)


@pasted
def put(x, y):
    """y = x for vectors: y[:] = x compares shapes, with a message for those that differ, which takes 2 s to compile."""
    for i in range(x.size):
        y[i] = x[i]


@serial
def add_chunks(sums):
    """sums[0] = sums[1] + sums[2] + .., one after the other."""
    for c in range(1, len(sums)):
        for j in range(sums.shape[1]):
            sums[0, j] += sums[c, j]


# Floats as integers in the same order: the bits, with those of negative numbers inverted. +nan is above inf, -nan below -inf.


@inline
def _flip32(bits):
    return I32(bits ^ (I32(bits >> 31) & I32(0x7FFFFFFF)))


@inline
def _flip64(bits):
    return I64(bits ^ ((bits >> 63) & I64(0x7FFFFFFFFFFFFFFF)))


ordered = by_dtype(inline(lambda x: _flip32(F(x).view(I32))), inline(lambda x: _flip64(D(x).view(I64))))
from_ordered = by_dtype(inline(lambda key: I32(_flip32(key)).view(F)), inline(lambda key: I64(_flip64(key)).view(D)))


@pasted
def row_max(x):
    """The largest element of a vector; of nan, some nan or what is largest beside it.

    Compared as integers, because the maximum of floats is not vectorised unless NaN is ruled out.
    """
    most = ordered(x[0])
    for i in range(1, x.size):
        key = ordered(x[i])
        most = key if key > most else most
    return from_ordered(most)
