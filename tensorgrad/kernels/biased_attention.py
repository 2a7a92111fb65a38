"""Attention with a bias that has a gradient: that of attention.py, and

    dL/dbias = the sum of dx = p (dp - s) over the axes along which the bias is repeated

A second pass over the tiles makes dx again. A task owns a part of the bias: of one head, a block of queries by a tile of keys, or
all along an axis where the bias is repeated. It adds up in order what falls on its part, so nothing is stored but the result.

FLOPs: 2 T S (d + e) a head more than in attention.py. Memory: the bias and its gradient once.
"""

from typing import Any

import numpy as np
from numba import prange

from tensorgrad.kernels import attention
from tensorgrad.kernels.attention import dots, weights_and_slopes
from tensorgrad.kernels.attention_tiles import (
    BLOCK,
    WIDTH,
    Drivers,
    Look,
    blocks,
    look,
    packed,
    place,
    scores,
    scratch,
    tile,
    work,
)
from tensorgrad.kernels.jit import inline, serial
from tensorgrad.kernels.rows import Array, zeros
from tensorgrad.kernels.views import vector_at


def forward(q: Array, k: Array, v: Array, bias: Array, **how: Any) -> tuple[Array, tuple[Array]]:
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) and what broadcasts to (B, H, T, S) -> (B, H, T, e), and L (B, H, T)."""
    return attention.forward(q, k, v, bias=bias, **how)


def backward(g: Array, y: Array, saved: tuple[Array], q: Array, k: Array, v: Array, bias: Array, **how: Any) -> tuple[Array, ...]:
    """dL/dy (B, H, T, e) -> dL/dq, dL/dk, dL/dv, dL/dbias."""
    grads = attention.backward(g, y, saved, q, k, v, bias=bias, **how)
    g, y, q, k, v = (packed(x) for x in (g, y, q, k, v))
    dbias = zeros((1,) * (4 - bias.ndim) + bias.shape, bias.dtype)
    _bias_gradient(2 * work(q, k), look(q, k, bias=bias, **how), saved[0], g, y, q, k, v, dbias)
    return (*grads, dbias.reshape(bias.shape))


def _share_bias_gradient(gemm, causal, scale, mask, bias, seed, threshold, lse, g, y, q, k, v, dbias):
    tasks = dbias.shape[0] * dbias.shape[1] * _own_blocks(dbias, q, k, causal) * _own_tiles(dbias)
    for task in prange(tasks):
        _part(task, gemm, Look(causal, scale, mask, bias, seed, threshold), lse, g, y, q, k, v, dbias)


_bias_gradient = Drivers(_share_bias_gradient, 6)


@inline
def _own_blocks(dbias, q, k, causal):
    return blocks(q, k, causal) if dbias.shape[2] > 1 else 1


@inline
def _own_tiles(dbias):
    return (dbias.shape[3] + WIDTH - 1) // WIDTH


@inline
def _span(index, owners, n):
    """Which of n places an owner sums over: its own, or all if there is one owner."""
    return range(index, index + 1) if owners > 1 else range(n)


@serial
def _part(task, gemm, look, lse, g, y, q, k, v, dbias):
    """Add up the part of dbias of one task."""
    width = max(min(k.shape[2], WIDTH), 1)
    tools, x, dx = (gemm, scratch()), tile(k, width), tile(k, width)
    means, words = np.empty(BLOCK, x.dtype), np.empty(x.shape[1], np.uint32)
    count, tiles = blocks(q, k, look.causal), (k.shape[2] + width - 1) // width
    own_blocks, own_tiles = _own_blocks(dbias, q, k, look.causal), _own_tiles(dbias)
    rest, own_tile = divmod(task, own_tiles)
    rest, own_block = divmod(rest, own_blocks)
    own_b, own_h = divmod(rest, dbias.shape[1])
    for b in _span(own_b, dbias.shape[0], q.shape[0]):
        for h in _span(own_h, dbias.shape[1], q.shape[1]):
            for block in _span(own_block, own_blocks, count):
                head, _, kv, first, rows, _, _, last = place(b, h, block, q, k, look.causal)
                dots(g, y, place(b, h, block, q, k, look.causal), means)
                for t in _span(own_tile, own_tiles, tiles):
                    columns = min(width, last - t * width)
                    if columns > 0:
                        where = head, h, kv, first, rows, t * width, columns, last
                        scores(0, x, q, k, where, tools)
                        scores(0, dx, g, v, where, tools)
                        weights_and_slopes(x, dx, means, words, where, look, lse, q, x.dtype.type(1))
                        _add(dx, dbias, own_b, own_h, where)


@serial
def _add(dx, dbias, b, h, where):
    """Add a tile to the part of dbias that it falls on."""
    _, _, _, first, rows, start, columns, _ = where
    for i in range(rows):
        total = vector_at(dbias, b, h, first + i if dbias.shape[2] > 1 else 0, dx[0, 0])
        if total.size > 1:
            _add_row(dx[i, :columns], total[start : start + columns])
        else:
            total[0] += _sum(dx[i, :columns])


@serial
def _add_row(x, total):
    for j in range(x.size):
        total[j] += x[j]


@serial
def _sum(x):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += x[j]
    return total
