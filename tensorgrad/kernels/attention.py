"""Attention (Vaswani et al. 2017, eq. 1): y = softmax(scale q k^T) v for every head, without storing the (T, S) weights.

A block of 64 queries sees its scores against all its keys in one scratch tile. Only L_i = log sum_j e^(x_ij) is kept, in
float64; the backward pass makes the weights again as p = e^(x - L) (Dao et al. 2022, "FlashAttention", section 3.1):

    dv = p^T g,   dp = g v^T,   dx = p (dp - sum_j p dp),   dq = scale dx k,   dk = scale dx^T q

When causal, query i sees keys j <= i + S - T; keys that no query of the tile sees are skipped. The first queries are
blind if T > S, all if S = 0: they give 0 and are left out of every sum. A query whose scores are all -inf also gives 0 and
passes no gradient: its L is saved as inf, so that p = 0.
With grouped heads one task owns a head of k and v and adds up its query heads in order.

FLOPs: 2 T S (d + e) a head forward and 2 T S (3 d + 2 e) backward, half of each when causal, and an exponential for each
score each way. Memory: q, k, v, y and their gradients once, tiles stay in the cache.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange

from tensorgrad.kernels.attention_tangent import backward_tangent, backward_tangent_into, tangent, tangent_into
from tensorgrad.kernels.attention_tiles import (
    add_transposed,
    blocks,
    drivers,
    heads_last,
    packed,
    place,
    scores,
    scratch,
    seen,
    tile,
    weighted_sum,
    weights_and_slopes,
    work,
)
from tensorgrad.kernels.functions import decay
from tensorgrad.kernels.gemm import gemm_address
from tensorgrad.kernels.jit import serial
from tensorgrad.kernels.rows import Array, bounds, from_ordered, ordered

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


def forward(q: Array, k: Array, v: Array, *, causal: bool = False, scale: float) -> tuple[Array, tuple[Array]]:
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e), and what is saved: L (B, H, T). G divides H.

    Arrays may have any strides; they are copied only if the last axis is not contiguous. y is laid out as (B, T, H, e).
    """
    width = v.shape[3]
    q, k, v = packed(q), packed(k), packed(v)
    y = heads_last((*q.shape[:3], v.shape[3]), q.dtype)
    return y[..., :width], (forward_into(y, q, k, v, causal, scale),)


def backward(
    g: Array, y: Array, saved: tuple[Array], q: Array, k: Array, v: Array, *, causal: bool = False, scale: float
) -> tuple[Array, ...]:
    """dL/dy (B, H, T, e) -> dL/dq, dL/dk, dL/dv, each laid out with the heads next to last."""
    inputs = packed(q), packed(k), packed(v)
    grads = [heads_last(x.shape, x.dtype) for x in inputs]
    backward_into(grads, packed(g), saved[0], *inputs, causal, scale)
    return tuple([grad[..., : x.shape[-1]] for grad, x in zip(grads, (q, k, v), strict=True)])


def forward_into(y: Array, q: Array, k: Array, v: Array, causal: bool, scale: float) -> Array:
    """Write y, where zeros stand; L. The last axis of every array is contiguous and not empty."""
    lse = np.full(q.shape[:3], np.inf)
    _forward[q.dtype].at(work(q, k))(gemm_address(q.dtype), causal, scale, lse, q, k, v, y)
    return lse


def backward_into(grads: Sequence[Array], g: Array, lse: Array, q: Array, k: Array, v: Array, causal: bool, scale: float) -> None:
    """Write dL/dq, dL/dk and dL/dv, where zeros stand."""
    _backward[q.dtype].at(2 * work(q, k))(gemm_address(q.dtype), causal, scale, lse, g, q, k, v, *grads)


def _share_forward(gemm, causal, scale, lse, q, k, v, y):
    tasks = q.shape[0] * q.shape[1] * blocks(q, k, causal)
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _forward_tasks(gemm, start, stop, causal, scale, lse, q, k, v, y)


_forward = drivers(_share_forward, 4)


@serial
def _forward_tasks(gemm, start, stop, causal, scale, lse, q, k, v, y):
    """A task is a block of queries of one head."""
    tools, x = (gemm, scratch()), tile(k, scale)
    count = blocks(q, k, causal)
    for task in range(start, stop):
        b, h = divmod(task // count, q.shape[1])
        where = place(b, h, task % count, q, k, causal)
        scores(0, x, q, k, where, tools)
        _softmax(x, where, causal, scale, lse)
        weighted_sum(0, x, v, y, where, tools)


@serial
def _softmax(x, where, causal, scale, lse):
    """Each row of scores becomes softmax(scale x), or 0 if nothing is above -inf; lse its log-sum-exp, or inf.

    Three passes over the tile, so that the processor can overlap its rows.
    """
    b, h, _, first, rows, columns = where
    lse = lse[b, h, first : first + rows]
    for i in range(rows):
        lse[i] = _scaled_max(x[i, :columns], seen(i, where, causal), scale)
    for i in range(rows):
        most = x.dtype.type(0 if lse[i] == -np.inf else lse[i])
        total = _exponentials(x[i, :columns], most)
        lse[i] = most + np.log(np.float64(total)) if total != 0 else np.inf
        x[i, columns] = x.dtype.type(1) / total if total != 0 else x.dtype.type(0)
    for i in range(rows):
        _multiply(x[i, :columns], x[i, columns])


@serial
def _scaled_max(x, seen, scale):
    """x becomes scale x, and -inf where it is not seen; its largest element, of which nan is one."""
    most = ordered(x.dtype.type(-np.inf))
    for j in range(x.size):
        score = x[j] * scale
        score = score if j < seen else x.dtype.type(-np.inf)
        x[j] = score
        key = ordered(score)
        most = key if key > most else most
    return from_ordered(most)


@serial
def _exponentials(x, most):
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


def _share_backward(gemm, causal, scale, lse, g, q, k, v, dq, dk, dv):
    tasks = k.shape[0] * k.shape[1]
    chunks = min(tasks, 64)
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _backward_tasks(gemm, start, stop, causal, scale, lse, g, q, k, v, dq, dk, dv)


_backward = drivers(_share_backward, 7)


@serial
def _backward_tasks(gemm, start, stop, causal, scale, lse, g, q, k, v, dq, dk, dv):
    """A task is a head of k and v, with the heads of q that it serves."""
    tools, x, dx = (gemm, scratch()), tile(k, scale), tile(k, scale)
    heads, groups = q.shape[1], k.shape[1]
    for task in range(start, stop):
        b, kv = divmod(task, groups)
        for h in range(kv * heads // groups, (kv + 1) * heads // groups):
            for block in range(blocks(q, k, causal)):
                where = place(b, h, block, q, k, causal)
                scores(0, x, q, k, where, tools)
                scores(0, dx, g, v, where, tools)
                weights_and_slopes(x, dx, where, causal, scale, lse)
                add_transposed(x, g, dv, where, tools)
                add_transposed(dx, q, dk, where, tools)
                weighted_sum(0, dx, k, dq, where, tools)
