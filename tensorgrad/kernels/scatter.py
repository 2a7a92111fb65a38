"""Rows of a table by number (embedding), and its adjoint: gather y_i = w[t_i], scatter-add dw[r] = sum over t_i = r of g_i.

The adjoint sorts the positions by row with a counting sort, which keeps their order. Then each row of the result is owned by
one chunk and is written once, its terms added in float64 in the order of i: no two threads meet, the result does not depend
on their number, and ten thousand repeats of one row lose nothing. Chunks hold about equal numbers of rows and terms.

Memory: gather reads and writes each element of y once. Scatter-add reads g once and writes every row of the table once.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.jit import parallel, pasted, serial
from tensorgrad.kernels.rows import Array, bounds, empty, matrix, pieces, put, vector


def gather(weight: Array, ids: Array) -> Array:
    """(R, C), (N,) integers in [0, R) -> (N, C)."""
    table = matrix(weight)
    y = empty((ids.size, table.shape[1]), table.dtype)
    _gather.at(y.size)(table, vector(ids.astype(np.int64, copy=False)), y, pieces(*y.shape))
    return y


def scatter_add(g: Array, ids: Array, rows: int) -> Array:
    """(N, C), (N,) integers in [0, rows) -> (rows, C)."""
    terms = matrix(g)
    dw = empty((rows, terms.shape[1]), terms.dtype)
    order, starts = empty(ids.size, np.int64), empty(rows + 1, np.int64)
    _sort(vector(ids.astype(np.int64, copy=False)), starts, order)
    _scatter.at(2 * terms.size + dw.size)(terms, order, starts, dw, pieces(rows + len(terms), terms.shape[1]))
    return dw


@parallel
def _gather(weight, ids, y, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, ids.size)
        _gather_rows(weight, ids[start:stop], y[start:stop])


@serial
def _gather_rows(weight, ids, y):
    for i in range(ids.size):
        put(weight[ids[i]], y[i])


@serial
def _sort(ids, starts, order):
    """order lists the positions of row 0 in ids, then of row 1, ..; those of row r begin at starts[r]."""
    starts[:] = 0
    for i in range(ids.size):
        starts[ids[i] + 1] += 1
    for r in range(starts.size - 1):
        starts[r + 1] += starts[r]
    for i in range(ids.size):
        order[starts[ids[i]]] = i
        starts[ids[i]] += 1
    for r in range(starts.size - 1, 0, -1):
        starts[r] = starts[r - 1]
    starts[0] = 0


@parallel
def _scatter(g, order, starts, dw, chunks):
    for c in prange(chunks):
        first, after = bounds(c, chunks, len(dw) + len(g))
        _scatter_rows(g, order, starts, _row_at(starts, first), _row_at(starts, after), dw)


@pasted
def _row_at(starts, place):
    """The first row that has `place` rows and terms before it."""
    low, high = 0, starts.size - 1
    while low < high:
        middle = (low + high) // 2
        if starts[middle] + middle < place:
            low = middle + 1
        else:
            high = middle
    return low


@serial
def _scatter_rows(g, order, starts, first, after, dw):
    total = np.empty(g.shape[1])
    for r in range(first, after):
        if starts[r] == starts[r + 1]:
            dw[r] = 0
        elif starts[r] + 1 == starts[r + 1]:
            put(g[order[starts[r]]], dw[r])
        else:
            total[:] = 0
            for i in range(starts[r], starts[r + 1]):
                _add(g[order[i]], total)
            put(total, dw[r])


@pasted
def _add(term, total):
    for j in range(total.size):
        total[j] += term[j]
