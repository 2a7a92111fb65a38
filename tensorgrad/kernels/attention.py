"""Attention (Vaswani et al. 2017, eq. 1): y = D softmax(scale q k^T + bias) v for every head, without storing the (T, S) weights;
D is dropout.

A block of 32 or 64 queries meets its keys a tile at a time (Milakov and Gimelshein 2018; Dao et al. 2022, "FlashAttention").
With m the largest score so far and l the sum of e^(x - m) so far, a tile whose largest score is M > m first shrinks both l and
the row of y by e^(m - M). At the end y is divided by l, and only L = m + log l is kept, in float64. The backward pass makes the
weights again as p = e^(x - L):

    dv = (D p)^T g,   dp = D (g v^T),   dx = p (dp - s),   dq = scale dx k,   dk = scale dx^T q

where s_i = sum_j p_ij dp_ij = <g_i, y_i> is known beforehand, D being symmetric.

When causal, query i sees keys j <= i + S - T; tiles that no query of a block sees are skipped. The first queries are blind if
T > S, all if S = 0: they give 0 and are left out of every sum. A query whose scores are all -inf, hidden by mask or bias, also
gives 0 and passes no gradient: its L is saved as inf, so that p = 0.

One task of the backward pass owns a head of k and v and adds up its query heads and blocks in order. Where such heads are few,
their blocks are dealt to several tasks, each with its own sums, which are added last.

FLOPs: 2 T S (d + e) a head forward and 2 T S (3 d + 2 e) backward, half of each when causal, and an exponential for each
score each way. Memory: q, k, v, y and their gradients once, tiles stay in the cache.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import prange

from tensorgrad.kernels.attention_tangent import backward_tangent, backward_tangent_into, tangent, tangent_into
from tensorgrad.kernels.attention_tiles import (
    BLOCK,
    WIDTH,
    Drivers,
    Look,
    add_transposed,
    blind,
    blocks,
    drop,
    folded,
    heads_last,
    look,
    numbers,
    onward,
    packed,
    place,
    scores,
    scratch,
    seen,
    tile,
    veiled,
    weighted_sum,
    weights,
    work,
)
from tensorgrad.kernels.dropout import growth
from tensorgrad.kernels.functions import decay
from tensorgrad.kernels.jit import serial
from tensorgrad.kernels.rows import Array, bounds, empty, from_ordered, ordered
from tensorgrad.kernels.views import vector_at

__all__ = [
    "backward",
    "backward_into",
    "backward_tangent",
    "backward_tangent_into",
    "forward",
    "forward_into",
    "tangent",
    "tangent_into",
]


def forward(q: Array, k: Array, v: Array, **how: Any) -> tuple[Array, tuple[Array]]:
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e), and what is saved: L (B, H, T). G divides H.

    Arrays may have any strides; they are copied only if the last axis is not contiguous. y is laid out as (B, T, H, e).
    """
    width = v.shape[3]
    q, k, v = packed(q), packed(k), packed(v)
    y = heads_last((*q.shape[:3], v.shape[3]), q.dtype)
    return y[..., :width], (forward_into(y, q, k, v, look(q, k, **how)),)


def backward(g: Array, y: Array, saved: tuple[Array], q: Array, k: Array, v: Array, **how: Any) -> tuple[Array, ...]:
    """dL/dy (B, H, T, e) -> dL/dq, dL/dk, dL/dv, each laid out with the heads next to last."""
    inputs = packed(q), packed(k), packed(v)
    grads = [heads_last(x.shape, x.dtype) for x in inputs]
    backward_into(grads, packed(g), packed(y), saved[0], *inputs, look(q, k, **how))
    return tuple([grad[..., : x.shape[-1]] for grad, x in zip(grads, (q, k, v), strict=True)])


def forward_into(y: Array, q: Array, k: Array, v: Array, how: Look) -> Array:
    """Write y; L. The last axis of every array is contiguous and not empty."""
    lse = np.full(q.shape[:3], np.inf)
    y[:, :, : blind(q, k, how.causal)] = 0
    _forward(work(q, k), how, lse, q, k, v, y)
    return lse


def backward_into(grads: Sequence[Array], g: Array, y: Array, lse: Array, q: Array, k: Array, v: Array, how: Look) -> None:
    """Write dL/dq, dL/dk and dL/dv."""
    dq, dk, dv = grads
    dq[:, :, : blind(q, k, how.causal)] = 0
    parts = _parts(q, k)
    dks, dvs = (dk, dv) if parts == 1 else [empty((x.shape[0], x.shape[1] * parts, *x.shape[2:]), x.dtype) for x in (k, v)]
    _backward(2 * work(q, k), how, lse, g, y, q, k, v, dq, dks, dvs)
    if parts > 1:
        for sums, total in ((dks, dk), (dvs, dv)):
            np.add.reduce(sums.reshape(*total.shape[:2], parts, *total.shape[2:]), axis=2, out=total)


def _parts(q: Array, k: Array) -> int:
    """Into how many tasks the queries of a head of k are dealt: enough for sixteen tasks in all, of 64 queries or more."""
    return max(1, min(q.shape[2] // BLOCK * q.shape[1] // k.shape[1], 16 // max(k.shape[0] * k.shape[1], 1)))


def _share_forward(gemm, causal, scale, mask, bias, seed, threshold, lse, q, k, v, y):
    tasks = q.shape[0] * q.shape[1] * blocks(q, k, causal)
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _forward_tasks(start, stop, gemm, Look(causal, scale, mask, bias, seed, threshold), lse, q, k, v, y)


_forward = Drivers(_share_forward, 4)


@serial
def _forward_tasks(start, stop, gemm, look, lse, q, k, v, y):
    """A task is a block of queries of one head."""
    width = min(k.shape[2], WIDTH)
    tools, x = (gemm, scratch()), tile(k, width)
    most, total, words = np.empty(BLOCK, x.dtype), np.empty(BLOCK), np.empty(x.shape[1], np.uint32)
    count = blocks(q, k, look.causal)
    for task in range(start, stop):
        b, h = divmod(task // count, q.shape[1])
        where = place(b, h, folded(task % count, count), q, k, look.causal)
        most[:], total[:] = -np.inf, 0
        while where[5] + where[6] < where[7]:
            where = onward(where, width)
            scores(0, x, q, k, where, tools)
            _exponentials(x, y, most, total, where, look)
            drop(x, words, where, look.seed, look.threshold, q)
            weighted_sum(where[5] > 0, x, v, y, where, tools)
        _finish(y, most, total, lse, where, x[0, 0])


@serial
def _exponentials(x, y, most, total, where, look):
    """Each row of products becomes e^(score - most), and is added to total; what the row had before shrinks to fit.

    Two passes over the tile, so that the processor can overlap its rows.
    """
    b, h, _, first, rows, start, columns, _ = where
    scale = veiled(x, where, look.scale, look.mask, look.bias)
    for i in range(rows):
        before = most[i]
        most[i] = _scaled_max(x[i, :columns], seen(i, where, look.causal), scale, before)
        if start > 0 and most[i] != before:
            shrinking = decay(before - most[i])
            total[i] *= shrinking
            _multiply(vector_at(y, b, h, first + i, scale), shrinking)
    for i in range(rows):
        total[i] += _sum_exponentials(x[i, :columns], x.dtype.type(0) if most[i] == -np.inf else most[i])


@serial
def _scaled_max(x, seen, scale, most):
    """x becomes scale x, and -inf where it is not seen; the largest of its elements and `most`, of which nan is one."""
    most = ordered(most)
    for j in range(x.size):
        score = x[j] * scale
        score = score if j < seen else x.dtype.type(-np.inf)
        x[j] = score
        key = ordered(score)
        most = key if key > most else most
    return from_ordered(most)


@serial
def _sum_exponentials(x, most):
    """x becomes e^(x - most); its sum."""
    total = x.dtype.type(0)
    for j in range(x.size):
        p = decay(x[j] - most)
        x[j] = p
        total += p
    return total


@serial
def _multiply(x, factor):
    for j in range(x.size):
        x[j] *= factor


@serial
def _finish(y, most, total, lse, where, like):
    """Divide each row of y by its total; its log-sum-exp, or inf for a row that saw nothing, which becomes 0."""
    b, h, _, first, rows, _, _, _ = where
    for i in range(rows):
        row = vector_at(y, b, h, first + i, like)
        if total[i] == 0:
            row[:] = 0
        else:
            lse[b, h, first + i] = most[i] + np.log(total[i])
            _multiply(row, row.dtype.type(1 / total[i]))


def _share_backward(gemm, causal, scale, mask, bias, seed, threshold, lse, g, y, q, k, v, dq, dks, dvs):
    tasks = dks.shape[0] * dks.shape[1]
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _backward_tasks(start, stop, gemm, Look(causal, scale, mask, bias, seed, threshold), lse, g, y, q, k, v, dq, dks, dvs)


_backward = Drivers(_share_backward, 8)


@serial
def _backward_tasks(start, stop, gemm, look, lse, g, y, q, k, v, dq, dks, dvs):
    """A task is one part of the blocks of the heads of q that a head of k and v serves."""
    width = min(k.shape[2], WIDTH)
    tools, x, dx = (gemm, scratch()), tile(k, width), tile(k, width)
    means, words = np.empty(BLOCK, x.dtype), np.empty(x.shape[1], np.uint32)
    served, parts = q.shape[1] // k.shape[1], dks.shape[1] // k.shape[1]
    count = blocks(q, k, look.causal)
    for task in range(start, stop):
        b, to = divmod(task, dks.shape[1])
        kv, part = divmod(to, parts)
        _clear(dks, b, to, x[0, 0])
        _clear(dvs, b, to, x[0, 0])
        for item in range(*bounds(part, parts, served * count)):
            where = place(b, kv * served + item // count, folded(item % count, count), q, k, look.causal)
            dots(g, y, where, means)
            while where[5] + where[6] < where[7]:
                where = onward(where, width)
                scores(0, x, q, k, where, tools)
                scores(0, dx, g, v, where, tools)
                weights_and_slopes(x, dx, means, words, where, look, lse, q, look.scale)
                add_transposed(x, g, dvs, to, where, tools)
                add_transposed(dx, q, dks, to, where, tools)
                weighted_sum(where[5] > 0, dx, k, dq, where, tools)


@serial
def _clear(x, b, h, like):
    for t in range(x.shape[2]):
        vector_at(x, b, h, t, like)[:] = 0


@serial
def dots(g, y, where, means):
    """<g, y> for each query of a block."""
    b, h, _, first, rows, _, _, _ = where
    for i in range(rows):
        means[i] = _dot(vector_at(g, b, h, first + i, means[0]), vector_at(y, b, h, first + i, means[0]))


@serial
def _dot(x, y):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@serial
def weights_and_slopes(x, dx, means, words, where, look, lse, q, scale):
    """Each row of products x becomes D p, and dp in dx becomes scale dx."""
    rows, columns = where[4], where[6]
    weights(x, where, look, lse)
    for i in range(rows):
        _row_slopes(x[i, :columns], dx[i, :columns], means[i], scale, i, words, where, look.seed, look.threshold, q)


@serial
def _row_slopes(p, dp, mean, scale, i, words, where, seed, threshold, q):
    if seed is None or threshold == 0:
        _slopes(p, dp, mean, scale)
    else:
        numbers(i, words, where, seed, q)
        _dropped_slopes(p, dp, mean, scale, words, np.uint32(threshold), p.dtype.type(growth(threshold)))


@serial
def _slopes(p, dp, mean, scale):
    """dp becomes scale dx."""
    for j in range(p.size):
        dp[j] = p[j] * (dp[j] - mean) * scale


@serial
def _dropped_slopes(p, dp, mean, scale, words, threshold, growth):
    """dp, before D, becomes scale dx, and p becomes D p."""
    for j in range(p.size):
        factor = growth if words[j] >= threshold else p.dtype.type(0)
        weight = p[j]
        p[j] = weight * factor
        dp[j] = weight * (dp[j] * factor - mean) * scale
