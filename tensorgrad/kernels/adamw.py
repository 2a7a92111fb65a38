"""AdamW (Loshchilov and Hutter 2019, algorithm 2) for many parameters in one launch, in place. With the gradient g scaled
for clipping, at step t = 1, 2, ..:

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
    p = p (1 - lr decay) - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

Memory, float32: 16 bytes read and 12 written an element, which is the limit; 14 FLOPs with a root and a division. The norm
that clipping needs reads 4 more.

Parameters lie anywhere in memory, so a launch gets a table of addresses and sizes, one row a parameter, and a list of
pieces, (row, start, stop), of at most PIECE elements. The list depends on the sizes alone, and so do all results.
"""

import ctypes
import functools
import math
from collections.abc import Sequence

import numpy as np
from numba import carray, prange, types
from numba.extending import intrinsic

from tensorgrad.kernels.jit import config, inline, parallel, serial
from tensorgrad.kernels.rows import Array, contiguous, zeros

PIECE = 8192  # elements


def step(
    rows: Sequence[tuple[Array, Array, Array, Array]],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    scale: float = 1.0,
) -> None:
    """For every row (p, g, m, v) of contiguous arrays of one size, and of one dtype in all rows, move the parameter p and
    its moments m, v along the gradient `scale` g."""
    rate = lr / -math.expm1(step * math.log(beta1)) if beta1 else lr
    correction = 1 / math.sqrt(-math.expm1(step * math.log(beta2))) if beta2 else 1.0
    factors = (scale, beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay, rate, correction, eps)
    table = np.empty((len(rows), 4), np.int64)
    for i, row in enumerate(rows):
        _enter_row(table, i, *row)
    pieces = _pieces(tuple([row[0].size for row in rows]))
    _step.at(4 * _elements(pieces))(table, pieces, np.array(factors, rows[0][0].dtype))


def sum_of_squares(arrays: Sequence[Array]) -> float:
    """The sum of g^2 over all elements of all arrays, in float64 and in an order that depends on the sizes alone."""
    total = 0.0
    for alike in _by_dtype([contiguous(a) for a in arrays]):
        table, pieces = _table(alike)
        sums = zeros(len(pieces))
        _sum_of_squares.at(2 * _elements(pieces))(table, pieces, sums, alike[0].dtype.type(0))
        total += float(sums.sum())
    return total


def multiply(arrays: Sequence[Array], factor: float) -> None:
    """Multiply all elements of contiguous arrays, in place."""
    for alike in _by_dtype(arrays):
        table, pieces = _table(alike)
        _multiply.at(2 * _elements(pieces))(table, pieces, alike[0].dtype.type(factor))


def _by_dtype(arrays: Sequence[Array]) -> list[list[Array]]:
    return [[a for a in arrays if a.dtype == dtype] for dtype in dict.fromkeys(a.dtype for a in arrays)]


def _table(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Addresses, (rows, 1), and pieces. The arrays must outlive their addresses."""
    table = np.empty((len(arrays), 1), np.int64)
    for i, a in enumerate(arrays):
        _enter(table, i, a)
    return table, _pieces(tuple([a.size for a in arrays]))


@functools.lru_cache(maxsize=64)
def _pieces(sizes: tuple[int, ...]) -> Array:
    """(pieces, 3): row, start and stop of each."""
    cuts = [(row, start, min(start + PIECE, n)) for row, n in enumerate(sizes) for start in range(0, n, PIECE)]
    return np.array(cuts, np.int64).reshape(-1, 3)


def _elements(pieces: Array) -> int:
    return int((pieces[:, 2] - pieces[:, 1]).sum())


@serial
def _enter(table, i, a):
    table[i, 0] = a.ctypes.data


@serial
def _enter_row(table, i, p, g, m, v):
    if not (_fits(p, p) and _fits(g, p) and _fits(m, p) and _fits(v, p)):
        raise ValueError("a parameter, its gradient and its moments must be contiguous arrays of one size and dtype")
    table[i, 0], table[i, 1], table[i, 2], table[i, 3] = p.ctypes.data, g.ctypes.data, m.ctypes.data, v.ctypes.data


@inline
def _fits(a, p):
    return a.size == p.size and a.itemsize == p.itemsize and a.flags.c_contiguous


@intrinsic
def _pointer(typing, address, index, like):
    """To an element of an array of numbers of the type of `like`."""

    def emit(context, builder, signature, args):
        first = builder.inttoptr(args[0], context.get_value_type(signature.return_type))
        return builder.gep(first, [args[1]])

    return types.CPointer(like)(types.int64, types.int64, like), emit


def _plain_pointer(address, index, like):
    """The same in plain Python, for NUMBA_DISABLE_JIT."""
    number = np.ctypeslib.as_ctypes_type(like.dtype)
    return ctypes.cast(int(address) + int(index) * like.itemsize, ctypes.POINTER(number))


if config.DISABLE_JIT:
    _pointer = _plain_pointer  # type: ignore[assignment]


@inline
def _part(address, start, stop, like):
    """Elements start .. stop of the array at an address."""
    return carray(_pointer(address, start, like), stop - start)


@parallel
def _step(table, pieces, factors):
    for c in prange(len(pieces)):
        row, start, stop = pieces[c, 0], pieces[c, 1], pieces[c, 2]
        _step_piece(
            _part(table[row, 0], start, stop, factors[0]),
            _part(table[row, 1], start, stop, factors[0]),
            _part(table[row, 2], start, stop, factors[0]),
            _part(table[row, 3], start, stop, factors[0]),
            factors,
        )


@serial
def _step_piece(p, g, m, v, factors):
    scale, beta1, gain1, beta2, gain2 = factors[0], factors[1], factors[2], factors[3], factors[4]
    keep, rate, correction, eps = factors[5], factors[6], factors[7], factors[8]
    for i in range(p.size):
        gradient = scale * g[i]
        first = beta1 * m[i] + gain1 * gradient
        second = beta2 * v[i] + gain2 * (gradient * gradient)
        m[i] = first
        v[i] = second
        p[i] = keep * p[i] - rate * first / (np.sqrt(second) * correction + eps)


@parallel
def _sum_of_squares(table, pieces, sums, like):
    for c in prange(len(pieces)):
        sums[c] = _sum_of_squares_piece(_part(table[pieces[c, 0], 0], pieces[c, 1], pieces[c, 2], like))


@serial
def _sum_of_squares_piece(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@parallel
def _multiply(table, pieces, factor):
    for c in prange(len(pieces)):
        _multiply_piece(_part(table[pieces[c, 0], 0], pieces[c, 1], pieces[c, 2], factor), factor)


@serial
def _multiply_piece(a, factor):
    for i in range(a.size):
        a[i] *= factor
