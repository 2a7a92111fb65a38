"""What the attention kernels share: how queries are cut into blocks, and the products of a tile of scores.

q and its kin are (B, H, T, d), k (B, G, S, d), v (B, G, S, e), of any strides but a contiguous last axis. `where` is a block
of queries and what it sees: (b, h, head of k and v, first query, queries, keys that its last query sees).
"""

from collections.abc import Callable

import numpy as np
from numba import types

from tensorgrad.kernels.functions import decay, minus
from tensorgrad.kernels.gemm import SCRATCH, gemm_block
from tensorgrad.kernels.jit import Driver, inline, parallel, serial
from tensorgrad.kernels.rows import Array, zeros

BLOCK = 64  # queries in a tile


def drivers(body: Callable, count: int) -> dict[np.dtype, Driver]:
    """Of body(gemm, causal, scale, lse, *arrays) with `count` arrays, by dtype; each takes arrays of any strides."""
    return {np.dtype(dtype): parallel(body, _signature(element, count))
            for dtype, element in ((np.float32, types.float32), (np.float64, types.float64))}  # fmt: skip


def _signature(element: types.Float, count: int) -> tuple:
    array = types.Array(element, 4, "A", readonly=True, aligned=False)
    return (types.int64, types.boolean, element, types.Array(types.float64, 3, "C")) + (array,) * count


def packed(x: Array) -> Array:
    """x with its last axis contiguous and not empty: a zero in each vector changes no product."""
    if x.shape[-1] == 0:
        return zeros((*x.shape[:-1], 1), x.dtype)
    return x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x)


def heads_last(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Zeros (B, H, T, d) in the order (B, T, H, d) of memory, in which heads are joined without a copy."""
    b, h, t, d = shape
    return zeros((b, t, h, d), dtype).swapaxes(1, 2)


def work(q: Array, k: Array) -> int:
    """Scores, each about as dear as eight elements of a simple loop."""
    return 8 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]


@inline
def blind(q, k, causal):
    """How many queries, the first, see no key."""
    queries, keys = q.shape[2], k.shape[2]
    return queries if keys == 0 else max(queries - keys, 0) if causal else 0


@inline
def blocks(q, k, causal):
    """How many blocks a head's queries are cut into."""
    return (q.shape[2] - blind(q, k, causal) + BLOCK - 1) // BLOCK


@inline
def place(b, h, block, q, k, causal):
    """`where` of a block of head h."""
    queries, keys = q.shape[2], k.shape[2]
    first = blind(q, k, causal) + block * BLOCK
    rows = min(BLOCK, queries - first)
    columns = first + rows + keys - queries if causal else keys
    return b, h, h * k.shape[1] // q.shape[1], first, rows, columns


@inline
def seen(i, where, causal):
    """How many keys row i of a tile sees."""
    return where[5] - (where[4] - 1 - i) if causal else where[5]


@serial
def tile(k, scale):
    """Room for a block's scores: rows of whole vectors, with room for one number beside the scores, and never a power of
    two long, for such rows would share a cache set."""
    return np.empty((BLOCK, (k.shape[2] + 15) // 16 * 16 + 16), k.dtype)


@serial
def scratch():
    """Room for the packed panels of one product at a time."""
    return np.empty(SCRATCH, np.uint8)


@serial
def weights_and_slopes(x, t, where, causal, scale, lse):
    """Each row of scores x becomes p = e^(scale x - lse), 0 for what is not seen, and t becomes p scale (t - sum p t).

    That is softmax and, because dp/dx is symmetric, both its tangent and its gradient, with the scale of x.
    """
    b, h, _, first, rows, columns = where
    for i in range(rows):
        high = x.dtype.type(lse[b, h, first + i])
        low = x.dtype.type(lse[b, h, first + i] - high) if high < np.inf else x.dtype.type(0)
        t[i, columns] = _weights(x[i, :columns], t[i, :columns], seen(i, where, causal), scale, high, low)
    for i in range(rows):
        _slopes(x[i, :columns], t[i, :columns], scale, t[i, columns])


@serial
def _weights(x, t, seen, scale, high, low):
    """x becomes p; sum p t."""
    total = x.dtype.type(0)
    for j in range(x.size):
        p = decay(minus(x[j] * scale, high, low))
        p = p if j < seen else x.dtype.type(0)
        x[j] = p
        total += p * t[j]
    return total


@serial
def _slopes(p, t, scale, mean):
    for j in range(p.size):
        t[j] = p[j] * (t[j] - mean) * scale


# Products of a tile x; tools are (address of gemm, scratch).


@serial
def scores(beta, x, q, k, where, tools):
    """x = beta x + q k^T."""
    b, h, kv, first, rows, columns = where
    gemm_block(
        tools[0], x.dtype.type(beta), rows, columns, q.shape[3], _at(q, b, h, first), q.strides[2], x.itemsize,
        _at(k, b, kv, 0), x.itemsize, k.strides[2], x.ctypes.data, x.strides[0], tools[1].ctypes.data,
    )  # fmt: skip


@serial
def weighted_sum(beta, x, v, y, where, tools):
    """y = beta y + x v, for the queries of the block."""
    b, h, kv, first, rows, columns = where
    gemm_block(
        tools[0], x.dtype.type(beta), rows, v.shape[3], columns, x.ctypes.data, x.strides[0], x.itemsize,
        _at(v, b, kv, 0), v.strides[2], x.itemsize, _at(y, b, h, first), y.strides[2], tools[1].ctypes.data,
    )  # fmt: skip


@serial
def add_transposed(x, g, dv, where, tools):
    """dv = dv + x^T g, for the keys that the block sees."""
    b, h, kv, first, rows, columns = where
    gemm_block(
        tools[0], x.dtype.type(1), columns, g.shape[3], rows, x.ctypes.data, x.itemsize, x.strides[0],
        _at(g, b, h, first), g.strides[2], x.itemsize, _at(dv, b, kv, 0), dv.strides[2], tools[1].ctypes.data,
    )  # fmt: skip


@inline
def _at(x, b, h, t):
    """The address of a vector."""
    return x.ctypes.data + b * x.strides[0] + h * x.strides[1] + t * x.strides[2]
