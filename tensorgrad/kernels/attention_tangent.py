"""Attention as q, k, v and the cotangent g move along q', k', v', g': the tangent of y, and those of the gradients.

With the scores x = scale q k^T and the weights p = softmax(x) = e^(x - L), from the L that the forward pass saved:

    x' = scale (q' k^T + q k'^T),   p' = p (x' - sum_j p x'),   y' = p' v + p v'

The gradients are dv = p^T g, dq = scale dx k, dk = scale dx^T q with dx = p (dp - s), dp = g v^T, s = sum_j p dp. Hence

    dp' = g' v^T + g v'^T,   s' = sum_j (p' dp + p dp'),   dx' = p' (dp - s) + p (dp' - s')
    dv' = p'^T g + p^T g',   dq' = scale (dx' k + dx k'),   dk' = scale (dx'^T q + dx^T q')

A block of queries holds two tiles for y' (p and p'), four for the gradients (p, p', dx, dx'); the second product of each sum
is added in place to the first. FLOPs a head: 2 T S (3 d + 2 e) for y' and 2 T S (7 d + 5 e) for the gradients, half of each
when causal, and an exponential for each score each time. Memory: every array once.
"""

from collections.abc import Sequence

from numba import prange

from tensorgrad.kernels.attention_tiles import (
    add_transposed,
    blocks,
    drivers,
    heads_last,
    packed,
    place,
    scores,
    scratch,
    tile,
    weighted_sum,
    weights_and_slopes,
    work,
)
from tensorgrad.kernels.gemm import gemm_address
from tensorgrad.kernels.jit import serial
from tensorgrad.kernels.rows import Array, bounds, or_zeros


def tangent(
    ts: tuple[Array | None, ...],
    y: Array,
    saved: tuple[Array],
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    scale: float,
) -> Array:
    """The tangent of y (B, H, T, e), laid out as y is, as q, k and v move along ts."""
    inputs = packed(q), packed(k), packed(v)
    ty = heads_last((*q.shape[:3], inputs[2].shape[3]), q.dtype)
    tangent_into(ty, _moving(ts, (q, k, v)), saved[0], *inputs, causal, scale)
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
    *,
    causal: bool = False,
    scale: float,
) -> tuple[Array, ...]:
    """The tangents of dL/dq, dL/dk and dL/dv, as g moves along tg and q, k and v along ts."""
    inputs = packed(q), packed(k), packed(v)
    grads = [heads_last(x.shape, x.dtype) for x in inputs]
    moving = _moving((tg, *ts), (g, q, k, v))
    backward_tangent_into(grads, moving, packed(g), saved[0], *inputs, causal, scale)
    return tuple([grad[..., : x.shape[-1]] for grad, x in zip(grads, (q, k, v), strict=True)])


def tangent_into(ty: Array, ts: Sequence[Array], lse: Array, q: Array, k: Array, v: Array, causal: bool, scale: float) -> None:
    """Write the tangent of y, where zeros stand. The last axis of every array is contiguous and not empty."""
    _tangent[q.dtype].at(work(q, k))(gemm_address(q.dtype), causal, scale, lse, *ts, q, k, v, ty)


def backward_tangent_into(
    grads: Sequence[Array], ts: Sequence[Array], g: Array, lse: Array, q: Array, k: Array, v: Array, causal: bool, scale: float
) -> None:
    """Write the tangents of dL/dq, dL/dk and dL/dv, where zeros stand; ts are those of g, q, k and v."""
    _backward_tangent[q.dtype].at(4 * work(q, k))(gemm_address(q.dtype), causal, scale, lse, *ts, g, q, k, v, *grads)


def _moving(ts: Sequence[Array | None], xs: Sequence[Array]) -> list[Array]:
    return [packed(or_zeros(t, x)) for t, x in zip(ts, xs, strict=True)]


def _share_tangent(gemm, causal, scale, lse, tq, tk, tv, q, k, v, ty):
    tasks = q.shape[0] * q.shape[1] * blocks(q, k, causal)
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _tangent_tasks(gemm, start, stop, causal, scale, lse, tq, tk, tv, q, k, v, ty)


_tangent = drivers(_share_tangent, 7)


@serial
def _tangent_tasks(gemm, start, stop, causal, scale, lse, tq, tk, tv, q, k, v, ty):
    """A task is a block of queries of one head."""
    tools, x, tx = (gemm, scratch()), tile(k, scale), tile(k, scale)
    count = blocks(q, k, causal)
    for task in range(start, stop):
        b, h = divmod(task // count, q.shape[1])
        where = place(b, h, task % count, q, k, causal)
        _score_tangents(x, tx, tq, tk, q, k, where, tools)
        weights_and_slopes(x, tx, where, causal, scale, lse)
        weighted_sum(0, tx, v, ty, where, tools)
        weighted_sum(1, x, tv, ty, where, tools)


def _share_backward_tangent(gemm, causal, scale, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv):
    tasks = k.shape[0] * k.shape[1]
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _backward_tangent_tasks(gemm, start, stop, causal, scale, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv)


_backward_tangent = drivers(_share_backward_tangent, 11)


@serial
def _backward_tangent_tasks(gemm, start, stop, causal, scale, lse, tg, tq, tk, tv, g, q, k, v, dq, dk, dv):
    """A task is a head of k and v, with the heads of q that it serves."""
    tools = gemm, scratch()
    x, tx, dx, tdx = tile(k, scale), tile(k, scale), tile(k, scale), tile(k, scale)
    heads, groups = q.shape[1], k.shape[1]
    for task in range(start, stop):
        b, kv = divmod(task, groups)
        for h in range(kv * heads // groups, (kv + 1) * heads // groups):
            for block in range(blocks(q, k, causal)):
                where = place(b, h, block, q, k, causal)
                _score_tangents(x, tx, tq, tk, q, k, where, tools)
                _score_tangents(dx, tdx, tg, tv, g, v, where, tools)
                weights_and_slopes(x, tx, where, causal, scale, lse)
                _slope_tangents(x, tx, dx, tdx, where, scale)
                add_transposed(tx, g, dv, where, tools)
                add_transposed(x, tg, dv, where, tools)
                add_transposed(tdx, q, dk, where, tools)
                add_transposed(dx, tq, dk, where, tools)
                weighted_sum(0, tdx, k, dq, where, tools)
                weighted_sum(1, dx, tk, dq, where, tools)


@serial
def _score_tangents(x, tx, tq, tk, q, k, where, tools):
    """x = q k^T and tx = q' k^T + q k'^T."""
    scores(0, x, q, k, where, tools)
    scores(0, tx, tq, k, where, tools)
    scores(1, tx, q, tk, where, tools)


@serial
def _slope_tangents(p, tp, dp, tdp, where, scale):
    """dp and its tangent become scale dx and scale dx'."""
    rows, columns = where[4], where[5]
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
