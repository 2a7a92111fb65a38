"""Attention (Vaswani et al. 2017, eq. 1): y = softmax(scale q k^T) v for every head, without storing the (T, S) weights.

A block of 64 queries sees its scores against all its keys in one scratch tile. Only L_i = log sum_j e^(x_ij) is kept, in
float64; the backward pass makes the weights again as p = e^(x - L) (Dao et al. 2022, "FlashAttention", section 3.1):

    dv = p^T g,   dp = g v^T,   dx = scale p (dp - sum_j p dp),   dq = dx k,   dk = dx^T q

When causal, query i sees keys j <= i + S - T; keys that no query of the tile sees are skipped. The first queries are
blind if T > S, all if S = 0: they give 0 and are left out of every sum. A query whose scores are all -inf also gives 0 and
passes no gradient: its L is saved as inf, so that p = 0.
With grouped heads one task owns a head of k and v and adds up its query heads in order.

FLOPs: 2 T S (d + e) a head forward and 2 T S (3 d + 2 e) backward, half of each when causal, and an exponential for each
score each way. Memory: q, k, v, y and their gradients once, tiles stay in the cache.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import decay, minus
from tensorgrad.kernels.gemm import SCRATCH, gemm_address, gemm_block
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.rows import Array, bounds, from_ordered, ordered

_BLOCK = 64  # queries in a tile


def forward(q: Array, k: Array, v: Array, *, causal: bool = False, scale: float) -> tuple[Array, tuple[Array]]:
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e), and what is saved: L (B, H, T). G divides H.

    Arrays may have any strides; they are copied only if the last axis is not contiguous. y is laid out as (B, T, H, e).
    """
    width = v.shape[3]
    q, k, v = map(_packed, (q, k, v))
    y = _heads_last((*q.shape[:3], v.shape[3]), q.dtype)
    lse = np.full(q.shape[:3], np.inf)
    sizes = _sizes(q, k, v, causal)
    tasks = q.shape[0] * q.shape[1] * -(-(q.shape[2] - sizes[-1]) // _BLOCK)
    _forward.at(_work(q, k))(
        gemm_address(q.dtype), _place(q), _place(k), _place(v), _place(y), sizes, causal, q.dtype.type(scale), lse,
        tasks, min(tasks, 64),
    )  # fmt: skip
    return y[..., :width], (lse,)


def backward(
    g: Array, y: Array, saved: tuple[Array], q: Array, k: Array, v: Array, *, causal: bool = False, scale: float
) -> tuple[Array, ...]:
    """dL/dy (B, H, T, e) -> dL/dq, dL/dk, dL/dv, each laid out with the heads next to last."""
    inputs = (q, k, v)
    g, q, k, v = map(_packed, (g, q, k, v))
    grads = [_heads_last(x.shape, x.dtype) for x in (q, k, v)]
    tasks = k.shape[0] * k.shape[1]
    _backward.at(2 * _work(q, k))(
        gemm_address(q.dtype), _place(g), _place(q), _place(k), _place(v), *map(_place, grads), _sizes(q, k, v, causal),
        causal, q.dtype.type(scale), saved[0], tasks, min(tasks, 64),
    )  # fmt: skip
    return tuple(grad[..., : x.shape[-1]] for grad, x in zip(grads, inputs, strict=True))


def _packed(x: Array) -> Array:
    """x with its last axis contiguous and not empty: a zero in each vector changes no product."""
    if x.shape[-1] == 0:
        return np.zeros((*x.shape[:-1], 1), x.dtype)
    return x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x)


def _heads_last(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Zeros (B, H, T, d) in the order (B, T, H, d) of memory, in which heads are joined without a copy."""
    b, h, t, d = shape
    return np.zeros((b, t, h, d), dtype).swapaxes(1, 2)


def _place(x: Array) -> tuple[int, ...]:
    """Where x is: its address, and the bytes from one batch, head and position to the next."""
    return (x.ctypes.data, *x.strides[:3])


def _sizes(q: Array, k: Array, v: Array, causal: bool) -> tuple[int, ...]:
    """H, G, T, S, d, e, and how many queries are blind."""
    queries, keys = q.shape[2], k.shape[2]
    blind = queries if keys == 0 else max(queries - keys, 0) if causal else 0
    return (q.shape[1], k.shape[1], queries, keys, q.shape[3], v.shape[3], blind)


def _work(q: Array, k: Array) -> int:
    """Scores, each about as dear as eight elements of a simple loop."""
    return 8 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]


@parallel
def _forward(gemm, q, k, v, y, sizes, causal, scale, lse, tasks, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _forward_tasks(gemm, start, stop, q, k, v, y, sizes, causal, scale, lse)


@serial
def _forward_tasks(gemm, start, stop, q, k, v, y, sizes, causal, scale, lse):
    """A task is a block of queries of one head."""
    heads, groups, queries, keys, d, e, blind = sizes
    step = 1 if causal else 0
    blocks = (queries - blind + _BLOCK - 1) // _BLOCK
    x = np.empty((_BLOCK, _row_length(keys)), type(scale))
    scratch = np.empty(SCRATCH, np.uint8)
    for task in range(start, stop):
        b, h, first = task // (heads * blocks), task // blocks % heads, blind + task % blocks * _BLOCK
        rows = min(_BLOCK, queries - first)
        seen = first + 1 + keys - queries if causal else keys  # by the first row; each row sees `step` more
        columns = seen + (rows - 1) * step
        kv = h * groups // heads
        _scores(x, rows, columns, d, _at(q, b, h, first), q[3], _at(k, b, kv, 0), k[3], gemm, scratch)
        _softmax(x, rows, columns, seen, step, scale, lse[b, h, first : first + rows])
        _weighted_sum(x, rows, columns, e, _at(v, b, kv, 0), v[3], _at(y, b, h, first), y[3], gemm, scratch)


@inline
def _at(place, b, h, t):
    return place[0] + b * place[1] + h * place[2] + t * place[3]


@inline
def _row_length(keys):
    """Of a tile: whole vectors, room for one number beside the scores, and never a power of two, whose rows would share a
    cache set."""
    return (keys + 15) // 16 * 16 + 16


@serial
def _scores(x, rows, columns, d, q, q_step, k, k_step, gemm, scratch):
    """x = q k^T."""
    zero, size = x.dtype.type(0), x.itemsize
    gemm_block(
        gemm, zero, rows, columns, d, q, q_step, size, k, size, k_step, x.ctypes.data, x.strides[0], scratch.ctypes.data
    )


@serial
def _weighted_sum(x, rows, columns, e, v, v_step, y, y_step, gemm, scratch):
    """y = x v."""
    zero, size = x.dtype.type(0), x.itemsize
    gemm_block(gemm, zero, rows, e, columns, x.ctypes.data, x.strides[0], size, v, v_step, size, y, y_step, scratch.ctypes.data)


@serial
def _add_transposed(x, rows, columns, d, g, g_step, dv, dv_step, gemm, scratch):
    """dv = dv + x^T g."""
    one, size = x.dtype.type(1), x.itemsize
    gemm_block(gemm, one, columns, d, rows, x.ctypes.data, size, x.strides[0], g, g_step, size, dv, dv_step, scratch.ctypes.data)


@serial
def _softmax(x, rows, columns, seen, step, scale, lse):
    """Each row of scores becomes softmax(scale x), or 0 if nothing is above -inf; lse its log-sum-exp, or inf.

    Row i sees `seen + i step` columns. Three passes over the tile, so that the processor can overlap its rows.
    """
    for i in range(rows):
        lse[i] = _scaled_max(x[i, :columns], seen + i * step, scale)
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


@parallel
def _backward(gemm, g, q, k, v, dq, dk, dv, sizes, causal, scale, lse, tasks, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, tasks)
        _backward_tasks(gemm, start, stop, g, q, k, v, dq, dk, dv, sizes, causal, scale, lse)


@serial
def _backward_tasks(gemm, start, stop, g, q, k, v, dq, dk, dv, sizes, causal, scale, lse):
    """A task is a head of k and v, with the heads of q that it serves."""
    heads, groups, queries, keys, d, e, blind = sizes
    step = 1 if causal else 0
    x = np.empty((_BLOCK, _row_length(keys)), type(scale))
    dx = np.empty((_BLOCK, _row_length(keys)), type(scale))
    scratch = np.empty(SCRATCH, np.uint8)
    for task in range(start, stop):
        b, kv = task // groups, task % groups
        k_here, dk_here = _at(k, b, kv, 0), _at(dk, b, kv, 0)
        v_here, dv_here = _at(v, b, kv, 0), _at(dv, b, kv, 0)
        for h in range(kv * heads // groups, (kv + 1) * heads // groups):
            for first in range(blind, queries, _BLOCK):
                rows = min(_BLOCK, queries - first)
                seen = first + 1 + keys - queries if causal else keys  # by the first row; each row sees `step` more
                columns = seen + (rows - 1) * step
                q_here, g_here = _at(q, b, h, first), _at(g, b, h, first)
                _scores(x, rows, columns, d, q_here, q[3], k_here, k[3], gemm, scratch)
                _scores(dx, rows, columns, e, g_here, g[3], v_here, v[3], gemm, scratch)
                _softmax_backward(x, dx, rows, columns, seen, step, scale, lse[b, h, first : first + rows])
                _add_transposed(x, rows, columns, e, g_here, g[3], dv_here, dv[3], gemm, scratch)
                _add_transposed(dx, rows, columns, d, q_here, q[3], dk_here, dk[3], gemm, scratch)
                _weighted_sum(dx, rows, columns, d, k_here, k[3], _at(dq, b, h, first), dq[3], gemm, scratch)


@serial
def _softmax_backward(x, dp, rows, columns, seen, step, scale, lse):
    """Each row of scores becomes p = e^(scale x - lse), and dp becomes scale p (dp - sum p dp)."""
    for i in range(rows):
        high = x.dtype.type(lse[i])
        low = x.dtype.type(lse[i] - high) if lse[i] < np.inf else x.dtype.type(0)
        dp[i, columns] = _weights(x[i, :columns], dp[i, :columns], seen + i * step, scale, high, low)
    for i in range(rows):
        _slopes(x[i, :columns], dp[i, :columns], scale, dp[i, columns])


@serial
def _weights(x, dp, seen, scale, high, low):
    """x becomes p, 0 where it is not seen; sum p dp."""
    total = x.dtype.type(0)
    for j in range(x.size):
        p = decay(minus(x[j] * scale, high, low))
        p = p if j < seen else x.dtype.type(0)
        x[j] = p
        total += p * dp[j]
    return total


@serial
def _slopes(p, dp, scale, mean):
    for j in range(p.size):
        dp[j] = p[j] * (dp[j] - mean) * scale
