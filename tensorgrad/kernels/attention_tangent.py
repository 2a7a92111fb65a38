"""Attention as q, k, v and the cotangent g move along q', k', v', g': the tangent of y, and those of the gradients.

With the scores x = scale q k^T and the weights p = softmax(x) = e^(x - L), from the L that the forward pass saved:

    x' = scale (q' k^T + q k'^T),   p' = p (x' - sum_j p x'),   y' = p' v + p v'

The gradients are dv = p^T g, dq = scale dx k, dk = scale dx^T q with dx = p (dp - s), dp = g v^T, s = sum_j p dp. Hence

    dp' = g' v^T + g v'^T,   s' = sum_j (p' dp + p dp'),   dx' = p' (dp - s) + p (dp' - s')
    dv' = p'^T g + p^T g',   dq' = scale (dx' k + dx k'),   dk' = scale (dx'^T q + dx^T q')

Dropout D multiplies p and p' on their way to a sum, and dp and dp' on their way from g. A tile is as wide as S.
A block of queries holds two tiles for y' (p and p'), four for the gradients (p, p', dx, dx'); the second product of each sum
is added in place to the first. FLOPs a head: 2 T S (3 d + 2 e) for y' and 2 T S (7 d + 5 e) for the gradients, half of each
when causal, and an exponential for each score each time. Memory: every array once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import prange

from tensorgrad.kernels.attention_tiles import (
    Drivers,
    Look,
    add_transposed,
    blind,
    blocks,
    drop,
    folded,
    heads_last,
    look,
    onward,
    packed,
    place,
    scores,
    scratch,
    tile,
    weighted_sum,
    weights,
    work,
)
from tensorgrad.kernels.jit import serial
from tensorgrad.kernels.rows import Array, bounds, or_zeros


def tangent(ts: tuple[Array | None, ...], y: Array, saved: tuple[Array], q: Array, k: Array, v: Array, **how: Any) -> Array:
    """The tangent of y (B, H, T, e), laid out as y is, as q, k and v move along ts."""
    inputs = packed(q), packed(k), packed(v)
    ty = heads_last((*q.shape[:3], inputs[2].shape[3]), q.dtype)
    tangent_into(ty, _moving(ts, (q, k, v)), saved[0], *inputs, look(q, k, **how))
    return ty[..., : v.shape[3]]


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[Array],
    q: Array,
    k: Array,
    v: Array,
    **how: Any,
) -> tuple[Array, ...]:
    """The tangents of dL/dq, dL/dk and dL/dv, as g moves along tg and q, k and v along ts."""
    inputs = packed(q), packed(k), packed(v)
    grads = [heads_last(x.shape, x.dtype) for x in inputs]
    backward_tangent_into(grads, _moving((tg, *ts), (g, q, k, v)), packed(g), saved[0], *inputs, look(q, k, **how))
    return tuple([grad[..., : x.shape[-1]] for grad, x in zip(grads, (q, k, v), strict=True)])


def tangent_into(ty: Array, ts: Sequence[Array], lse: Array, q: Array, k: Array, v: Array, how: Look) -> None:
    """Write the tangent of y. The last axis of every array is contiguous and not empty."""
    ty[:, :, : blind(q, k, how.causal)] = 0
    _tangent(work(q, k), how, lse, *ts, q, k, v, ty)


def backward_tangent_into(
    grads: Sequence[Array], ts: Sequence[Array], g: Array, lse: Array, q: Array, k: Array, v: Array, how: Look
) -> None:
    """Write the tangents of dL/dq, dL/dk and dL/dv; ts are those of g, q, k and v."""
    for grad in grads:
        grad[:] = 0
    _backward_tangent(4 * work(q, k), how, lse, *ts, g, q, k, v, *grads)


def _moving(ts: Sequence[Array | None], xs: Sequence[Array]) -> list[Array]:
    return [packed(or_zeros(t, x)) for t, x in zip(ts, xs, strict=True)]


def _share_tangent(gemm, causal, scale, mask, bias, seed, threshold, lse, tq, tk, tv, q, k, v, ty):
    tasks = q.shape[0] * q.shape[1] * blocks(q, k, causal)
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _tangent_tasks(start, stop, gemm, Look(causal, scale, mask, bias, seed, threshold), lse, tq, tk, tv, q, k, v, ty)


_tangent = Drivers(_share_tangent, 7)


@serial
def _tangent_tasks(start, stop, gemm, look, lse, tq, tk, tv, q, k, v, ty):
    """A task is a block of queries of one head."""
    width = k.shape[2]
    tools, x, tx = (gemm, scratch()), tile(k, width), tile(k, width)
    words = np.empty(x.shape[1], np.uint32)
    count = blocks(q, k, look.causal)
    for task in range(start, stop):
        b, h = divmod(task // count, q.shape[1])
        where = onward(place(b, h, folded(task % count, count), q, k, look.causal), width)
        _score_tangents(x, tx, tq, tk, q, k, where, tools)
        _weight_tangents(x, tx, where, look, lse)
        drop(x, words, where, look.seed, look.threshold, q)
        drop(tx, words, where, look.seed, look.threshold, q)
        weighted_sum(0, tx, v, ty, where, tools)
        weighted_sum(1, x, tv, ty, where, tools)


def _share_backward_tangent(gemm, causal, scale, mask, bias, seed, threshold, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv):
    tasks = k.shape[0] * k.shape[1]
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        look = Look(causal, scale, mask, bias, seed, threshold)
        _backward_tangent_tasks(start, stop, gemm, look, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv)


_backward_tangent = Drivers(_share_backward_tangent, 11)


@serial
def _backward_tangent_tasks(start, stop, gemm, look, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv):
    """A task is a head of k and v, with the heads of q that it serves."""
    tools, width = (gemm, scratch()), k.shape[2]
    x, tx, dx, tdx = tile(k, width), tile(k, width), tile(k, width), tile(k, width)
    words = np.empty(x.shape[1], np.uint32)
    heads, groups = q.shape[1], k.shape[1]
    for task in range(start, stop):
        b, kv = divmod(task, groups)
        for h in range(kv * heads // groups, (kv + 1) * heads // groups):
            for block in range(blocks(q, k, look.causal)):
                where = onward(place(b, h, block, q, k, look.causal), width)
                _score_tangents(x, tx, tq, tk, q, k, where, tools)
                _score_tangents(dx, tdx, tg, tv, g, v, where, tools)
                _weight_tangents(x, tx, where, look, lse)
                drop(dx, words, where, look.seed, look.threshold, q)
                drop(tdx, words, where, look.seed, look.threshold, q)
                _slope_tangents(x, tx, dx, tdx, where, look.scale)
                drop(x, words, where, look.seed, look.threshold, q)
                drop(tx, words, where, look.seed, look.threshold, q)
                add_transposed(tx, g, dv, kv, where, tools)
                add_transposed(x, tg, dv, kv, where, tools)
                add_transposed(tdx, q, dk, kv, where, tools)
                add_transposed(dx, tq, dk, kv, where, tools)
                weighted_sum(0, tdx, k, dq, where, tools)
                weighted_sum(1, dx, tk, dq, where, tools)


@serial
def _score_tangents(x, tx, tq, tk, q, k, where, tools):
    """x = q k^T and tx = q' k^T + q k'^T."""
    scores(0, x, q, k, where, tools)
    scores(0, tx, tq, k, where, tools)
    scores(1, tx, q, tk, where, tools)


@serial
def _weight_tangents(x, tx, where, look, lse):
    """Products x become p, and tx, the tangent of the products, becomes p' = p (scale tx - sum p scale tx)."""
    weights(x, where, look, lse)
    for i in range(where[4]):
        p, t = x[i, : where[6]], tx[i, : where[6]]
        _weight_tangent(p, t, look.scale, _dot(p, t))


@serial
def _dot(p, t):
    total = p.dtype.type(0)
    for j in range(p.size):
        total += p[j] * t[j]
    return total


@serial
def _weight_tangent(p, t, scale, mean):
    for j in range(p.size):
        t[j] = p[j] * (t[j] - mean) * scale


@serial
def _slope_tangents(p, tp, dp, tdp, where, scale):
    """dp and its tangent become scale dx and scale dx'."""
    rows, columns = where[4], where[6]
    for i in range(rows):
        dp[i, columns], tdp[i, columns] = _sums(p[i, :columns], tp[i, :columns], dp[i, :columns], tdp[i, :columns])
    for i in range(rows):
        _slope_tangent(p[i, :columns], tp[i, :columns], dp[i, :columns], tdp[i, :columns], scale, dp[i, columns], tdp[i, columns])


@serial
def _sums(p, tp, dp, tdp):
    """s and s'."""
    total, change = p.dtype.type(0), p.dtype.type(0)
    for j in range(p.size):
        total += p[j] * dp[j]
        change += tp[j] * dp[j] + p[j] * tdp[j]
    return total, change


@serial
def _slope_tangent(p, tp, dp, tdp, scale, total, change):
    for j in range(p.size):
        above = dp[j] - total
        tdp[j] = (tp[j] * above + p[j] * (tdp[j] - change)) * scale
        dp[j] = p[j] * above * scale
