"""What the attention kernels share: how queries and keys are cut into tiles, what hides a score, and products of a tile.

q and its kin are (B, H, T, d), k (B, G, S, d), v (B, G, S, e), of any strides but a contiguous last axis. A tile holds the
scores of a block of queries against a range of keys. `where` says which: (batch, head, head of k and v, first query, number of
queries, first key, number of keys, how many keys the block's last query sees).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import types

from tensorgrad.kernels.dropout import chance, drop_row, growth
from tensorgrad.kernels.functions import decay, minus
from tensorgrad.kernels.gemm import SCRATCH, gemm_address, gemm_block
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.philox import GROUP, random_row
from tensorgrad.kernels.rows import Array, empty, zeros
from tensorgrad.kernels.views import address, vector_at

BLOCK = 64  # queries in a tile, at most
WIDTH = 512  # keys in a tile


class Look(NamedTuple):
    """All that decides what a query makes of its scores. mask and bias are (B, H, T, S), or of no elements if absent; the
    threshold is 0 if nothing is dropped. The last four are None if there is nothing of the kind, and the code for them is not
    compiled then."""

    causal: bool
    scale: float
    mask: Array | None
    bias: Array | None
    seed: int | None
    threshold: int | None


def look(
    q: Array,
    k: Array,
    causal: bool = False,
    scale: float = 1.0,
    mask: Array | None = None,
    bias: Array | None = None,
    p: float = 0.0,
    seed: int = 0,
) -> Look:
    """Of mask (booleans) and bias (of q's dtype) that broadcast to (B, H, T, S), and dropout with probability p < 1."""
    if mask is None and bias is None and p == 0:
        return Look(causal, scale, None, None, None, None)
    shape, none = (*q.shape[:3], k.shape[2]), (0, 0, 0, 0)
    hidden = np.empty(none, np.uint8) if mask is None else np.broadcast_to(mask, shape).view(np.uint8)
    added = np.empty(none, q.dtype) if bias is None else np.broadcast_to(bias, shape)
    return Look(causal, scale, hidden, added, seed, chance(p))


class Drivers:
    """Of body(gemm, causal, scale, mask, bias, seed, threshold, lse, *arrays) with `count` arrays, for each dtype, with and
    without mask, bias and dropout; each takes arrays of any strides."""

    def __init__(self, body: Callable, count: int) -> None:
        self.forms = {}
        for element in (types.float32, types.float64):
            array, mask = (types.Array(kind, 4, "A", readonly=True, aligned=False) for kind in (element, types.uint8))
            for extras in ((types.none,) * 4, (mask, array, types.int64, types.int64)):
                lse = types.Array(types.float64, 3, "C")
                signature = (types.int64, types.boolean, element, *extras, lse) + (array,) * count
                self.forms[str(element), extras[0] == types.none] = parallel(body, signature)

    def __call__(self, work: int, look: Look, lse: Array, *arrays: Array) -> None:
        dtype = arrays[0].dtype
        self.forms[dtype.name, look.mask is None].at(work)(gemm_address(dtype), *look, lse, *arrays)


def packed(x: Array) -> Array:
    """x with its last axis contiguous and not empty: a zero in each vector changes no product."""
    if x.shape[-1] == 0:
        return zeros((*x.shape[:-1], 1), x.dtype)
    return x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x)


def heads_last(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Room for (B, H, T, d) in the order (B, T, H, d) of memory, in which heads are joined without a copy."""
    b, h, t, d = shape
    return empty((b, t, h, d), dtype).swapaxes(1, 2)


def work(q: Array, k: Array) -> int:
    """Scores, each about as dear as eight elements of a simple loop."""
    return 8 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]


def blind(q, k, causal):
    """How many queries, the first, see no key."""
    queries, keys = q.shape[2], k.shape[2]
    return queries if keys == 0 else max(queries - keys, 0) if causal else 0


_blind = inline(blind)  # in kernels; called from Python it would be compiled in every process


@inline
def height(k, causal):
    """Queries in a tile: fewer where a good part of each would lie beyond the diagonal, which is computed in vain."""
    return BLOCK // 2 if causal and k.shape[2] <= 256 else BLOCK


@inline
def blocks(q, k, causal):
    """How many blocks a head's queries are cut into."""
    return (q.shape[2] - _blind(q, k, causal) + height(k, causal) - 1) // height(k, causal)


@inline
def folded(i, count):
    """Last, first, last but one, second, ..: an order in which any range of blocks is about as much work, if causal."""
    return i // 2 if i % 2 else count - 1 - i // 2


@inline
def place(b, h, block, q, k, causal):
    """`where` of the first tile of a block of head h, before its keys: 0 of them yet."""
    queries, keys = q.shape[2], k.shape[2]
    first = _blind(q, k, causal) + block * height(k, causal)
    rows = min(height(k, causal), queries - first)
    last = first + rows + keys - queries if causal else keys
    return b, h, h * k.shape[1] // q.shape[1], first, rows, 0, 0, last


@inline
def onward(where, width):
    """The next tile of the same block, of at most `width` keys."""
    b, h, kv, first, rows, start, columns, last = where
    start += columns
    return b, h, kv, first, rows, start, min(width, last - start), last


@inline
def seen(i, where, causal):
    """How many keys of the tile row i sees; more than there are, or fewer than none, mean all and none."""
    return where[7] - where[5] - (where[4] - 1 - i if causal else 0)


@serial
def tile(k, width):
    """Room for scores: rows of whole groups of random numbers, and never a power of two long, for such rows would share a
    cache set."""
    return np.empty((BLOCK, (width + GROUP - 1) // GROUP * GROUP + 16), k.dtype)


@serial
def scratch():
    """Room for the packed panels of one product at a time."""
    return np.empty(SCRATCH, np.uint8)


# What hides and drops scores.


@serial
def veiled(x, where, scale, mask, bias):
    """Apply mask and bias to a tile: scale x + bias, or -inf where masked. Returns the scale that is still to be applied."""
    if mask is None:
        return scale
    rows, columns = where[4], where[6]
    if bias.size != 0:
        room = np.empty(columns, x.dtype)
        for i in range(rows):
            _add(x[i, :columns], _entries(bias, i, where, room, scale), scale)
        scale = x.dtype.type(1)
    if mask.size != 0:
        bits = np.empty(columns, np.uint8)
        for i in range(rows):
            _hide(x[i, :columns], _entries(mask, i, where, bits, np.uint8(0)), scale)
        scale = x.dtype.type(1)
    return scale


@inline
def _entries(x, i, where, room, like):
    """The part of a mask or bias that belongs to row i of a tile, contiguous: in place, or copied to `room`."""
    b, h, _, first, _, start, columns, _ = where
    if x.strides[3] == x.itemsize:
        return vector_at(x, b, h, first + i, like)[start : start + columns]
    for j in range(columns):
        room[j] = x[b, h, first + i, start + j]
    return room


@serial
def weights(x, where, look, lse):
    """Each row of products x becomes p = e^(score - lse), 0 for what is not seen."""
    b, h, _, first, rows, _, columns, _ = where
    scale = veiled(x, where, look.scale, look.mask, look.bias)
    for i in range(rows):
        high = x.dtype.type(lse[b, h, first + i])
        low = x.dtype.type(lse[b, h, first + i] - high) if high < np.inf else x.dtype.type(0)
        _weights(x[i, :columns], seen(i, where, look.causal), scale, high, low)


@serial
def _weights(x, seen, scale, high, low):
    for j in range(x.size):
        p = decay(minus(x[j] * scale, high, low))
        x[j] = p if j < seen else x.dtype.type(0)


@serial
def _add(x, bias, scale):
    for j in range(x.size):
        x[j] = x[j] * scale + bias[j]


@serial
def _hide(x, mask, scale):
    for j in range(x.size):
        score = x[j] * scale
        x[j] = score if mask[j] != 0 else x.dtype.type(-np.inf)


@serial
def numbers(i, words, where, seed, q):
    """The random words of row i of a tile: those of row (b, h, query) and columns that are keys."""
    b, h, _, first, _, start, columns, _ = where
    random_row(words[: (columns + GROUP - 1) // GROUP * GROUP], seed, (b * q.shape[1] + h) * q.shape[2] + first + i, start)


@serial
def drop(x, words, where, seed, threshold, q):
    """x becomes D x: 0 where a random word is below the threshold, else grown to keep the mean."""
    if seed is None or threshold == 0:
        return
    for i in range(where[4]):
        numbers(i, words, where, seed, q)
        drop_row(x[i, : where[6]], words, np.uint32(threshold), x.dtype.type(growth(threshold)))


# Products of a tile x; tools are (address of gemm, scratch).


@serial
def scores(beta, x, q, k, where, tools):
    """x = beta x + q k^T."""
    b, h, kv, first, rows, start, columns, _ = where
    gemm_block(
        tools[0], x.dtype.type(beta), rows, columns, q.shape[3], address(q, b, h, first), q.strides[2], x.itemsize,
        address(k, b, kv, start), x.itemsize, k.strides[2], x.ctypes.data, x.strides[0], tools[1].ctypes.data,
    )  # fmt: skip


@serial
def weighted_sum(beta, x, v, y, where, tools):
    """y = beta y + x v, for the queries of the block."""
    b, h, kv, first, rows, start, columns, _ = where
    gemm_block(
        tools[0], x.dtype.type(beta), rows, v.shape[3], columns, x.ctypes.data, x.strides[0], x.itemsize,
        address(v, b, kv, start), v.strides[2], x.itemsize, address(y, b, h, first), y.strides[2], tools[1].ctypes.data,
    )  # fmt: skip


@serial
def add_transposed(x, g, dv, to, where, tools):
    """dv = dv + x^T g, for the keys of the tile, in head `to` of dv."""
    b, h, _, first, rows, start, columns, _ = where
    gemm_block(
        tools[0], x.dtype.type(1), columns, g.shape[3], rows, x.ctypes.data, x.itemsize, x.strides[0],
        address(g, b, h, first), g.strides[2], x.itemsize, address(dv, b, to, start), dv.strides[2], tools[1].ctypes.data,
    )  # fmt: skip
