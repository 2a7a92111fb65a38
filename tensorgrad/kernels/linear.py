"""A linear map of rows, y = x W^T + b: one matrix product forward, two backward.

    dx = g W,   dW = g^T x,   db = sum over rows of g

Along tangents x', W', b', g' each product becomes a sum of two, the second added in place to the first:

    y' = x' W^T + x W'^T + b',   dx' = g' W + g W',   dW' = g'^T x + g^T x',   db' = sum over rows of g'

For N rows, 2 N n m FLOPs forward and 4 N n m backward, each twice that for its tangent; x, W, y and their gradients move
through memory once each.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import prange

from tensorgrad.kernels.jit import parallel, serial
from tensorgrad.kernels.matmul import matmul
from tensorgrad.kernels.rows import Array, add_chunks, bounds, contiguous, pieces, zeros

READS_RESULT = False


def forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[()]]:
    """(.., n), (m, n), (m,) -> (.., m)."""
    y = matmul(as_rows(x), weight.T, bias=bias)
    return y.reshape(*x.shape[:-1], weight.shape[0]), ()


def backward(
    g: Array,
    y: Array,
    saved: tuple[()],
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    wanted: Sequence[bool] = (True, True, True),
    overwrite: bool = False,
) -> tuple[Array | None, ...]:
    """dL/dy -> dL/dx, in the memory of x if that may be overwritten, dL/dW and, if there is a bias, dL/db; None for those that
    are not wanted."""
    rows, x_rows = as_rows(g), as_rows(x)
    dw = matmul(rows.T, x_rows) if wanted[1] else None
    dx = matmul(rows, weight, x_rows if overwrite else None).reshape(x.shape) if wanted[0] else None
    if bias is None:
        return dx, dw
    return dx, dw, _sum_of_rows(rows) if wanted[2] else None


def tangent(
    ts: tuple[Array | None, ...], y: Array, saved: tuple[()], x: Array, weight: Array, bias: Array | None = None
) -> Array:
    """The tangent of y as the inputs move along ts, each None or of its input's shape."""
    tx, tw, tb = (*ts, None)[:3]
    ty = _sum_of_products(y, (_moving_rows(tx), weight.T), (as_rows(x), _transposed(tw)))
    return ty if tb is None else np.add(ty, tb, out=ty)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[()],
    x: Array,
    weight: Array,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    """The tangents of dL/dx, dL/dW and, if there is a bias, dL/db, as g moves along tg and the inputs along ts."""
    rows, g_rows, tx_rows = as_rows(g), _moving_rows(tg), _moving_rows(ts[0])
    dx = _sum_of_products(x, (g_rows, weight), (rows, ts[1]))
    dw = _sum_of_products(weight, (_transposed(g_rows), as_rows(x)), (rows.T, tx_rows))
    if bias is None:
        return dx, dw
    return dx, dw, zeros(bias.shape, bias.dtype) if g_rows is None else _sum_of_rows(g_rows)


def as_rows(x: Array) -> Array:
    """(.., n) -> (rows, n)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _moving_rows(t: Array | None) -> Array | None:
    return None if t is None else as_rows(t)


def _transposed(t: Array | None) -> Array | None:
    return None if t is None else t.T


def _sum_of_products(like: Array, *pairs: tuple[Array | None, Array | None]) -> Array:
    """a1 b1 + a2 b2 + .., in the shape of `like`, without the pairs of which one stands still."""
    total = None
    for a, b in pairs:
        if a is not None and b is not None:
            total = matmul(a, b, total, add=True)
    return zeros(like.shape, like.dtype) if total is None else total.reshape(like.shape)


def _sum_of_rows(x: Array) -> Array:
    """(N, m) -> (m,), chunk by chunk, then over the chunks in order."""
    chunks = pieces(*x.shape)
    sums = zeros((chunks + 1, x.shape[1]), x.dtype)
    _add_rows.at(x.size)(contiguous(x), sums, chunks)
    return sums[0]


@parallel
def _add_rows(x, sums, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _add_rows_of_chunk(x[start:stop], sums[c + 1])
    add_chunks(sums)


@serial
def _add_rows_of_chunk(x, sums):
    for i in range(len(x)):
        for j in range(sums.size):
            sums[j] += x[i, j]
