"""Layers that models are made of.  Shapes: B sequences, T positions, C features, H heads of d = C / H features."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Linear, Module

Rng = np.random.Generator | None


class KeyValueCache:
    """The keys and values of the positions read so far, (B, H, T, d) each, in room made once for `length` positions.

    The first padding[b] positions of row b are no tokens: nothing sees them, and their own results are 0.
    """

    def __init__(self, batch: int, heads: int, length: int, features: int, dtype: Any, padding: np.ndarray | None = None):
        self.keys = np.empty((batch, heads, length, features), dtype)
        self.values = np.empty_like(self.keys)
        self.length = 0
        self.padding = None if padding is None or not np.any(padding) else np.asarray(padding)

    def select(self, rows: Any) -> None:
        """Keep these rows, in this order; one may be kept several times."""
        for name in ("keys", "values"):
            room = getattr(self, name)
            kept = room[rows, :, : self.length]
            room = room[: len(kept)] if len(kept) <= len(room) else np.empty((len(kept), *room.shape[1:]), room.dtype)
            room[:, :, : self.length] = kept
            setattr(self, name, room)
        self.padding = None if self.padding is None else self.padding[rows]

    def attend(self, qkv: Tensor) -> Tensor:
        """(B, T, 3 C) -> (B, T, C): T more positions see those before them and themselves. No derivative passes through.

        Raises ValueError when there is no room.
        """
        batch, length, features = qkv.shape
        _, heads, room, d = self.keys.shape
        start, end = self.length, self.length + length
        if end > room:
            raise ValueError(f"the cache has room for {room} positions, {end} are needed")
        q, k, v = qkv.data.reshape(batch, length, 3, heads, d).transpose(2, 0, 3, 1, 4)  # (B, H, T, d) each
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        if self.padding is None:
            y = self._attend(q, slice(None), 0)
        else:
            y = np.zeros((batch, length, heads, d), q.dtype)
            for rows, padding in self._equally_padded():
                blank = max(padding - start, 0)
                y[rows, blank:] = self._attend(q[rows, :, blank:], rows, padding)
        return Tensor(y.reshape(batch, length, features // 3))

    def _attend(self, q: np.ndarray, rows: slice, padding: int) -> np.ndarray:
        """(b, H, t, d) -> (b, t, H, d)."""
        k, v = (x[rows, :, padding : self.length] for x in (self.keys, self.values))
        return tg.attention(Tensor(q), Tensor(k), Tensor(v), causal=True).data.swapaxes(1, 2)

    def _equally_padded(self) -> Iterator[tuple[slice, int]]:
        """The rows, in slices that have the same padding."""
        assert self.padding is not None
        starts = [0, *(np.flatnonzero(np.diff(self.padding)) + 1).tolist(), len(self.padding)]
        return ((slice(a, b), int(self.padding[a])) for a, b in pairwise(starts))


class Attention(Module):
    """(B, T, C) -> (B, T, C): H heads of softmax(q k^T / sqrt d) v, joined by a linear map (Vaswani et al. 2017, 3.2.2).

    With a cache, attention is causal, and x continues what the cache holds.  With a residual, that is added to the result.
    """

    def __init__(self, n_embd: int, n_head: int, dropout: float, bias: bool, rng: np.random.Generator):
        self.n_head = n_head
        self.dropout = dropout
        self.c_attn = Linear(n_embd, 3 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(n_embd, n_embd, bias=bias, rng=rng)

    def forward(
        self,
        x: Tensor,
        causal: bool = False,
        mask: Any = None,
        cache: KeyValueCache | None = None,
        rng: Rng = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        p = self.dropout if self.training else 0.0
        qkv = self.c_attn(x)  # (B, T, 3 C)
        if cache is None:
            y = tg.self_attention(qkv, self.n_head, mask=mask, causal=causal, dropout_p=p, rng=rng)  # (B, T, C)
        else:
            y = cache.attend(qkv)
        if p == 0:
            return self.c_proj(y, residual)
        return _added(residual, tg.dropout(self.c_proj(y), p, rng=rng))


class FeedForward(Module):
    """(B, T, C) -> (B, T, C);  W2 gelu(W1 x), added to the residual if there is one."""

    def __init__(self, n_embd: int, dropout: float, bias: bool, rng: np.random.Generator):
        self.dropout = dropout
        self.c_fc = Linear(n_embd, 4 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(4 * n_embd, n_embd, bias=bias, rng=rng)

    def forward(self, x: Tensor, rng: Rng = None, residual: Tensor | None = None) -> Tensor:
        p = self.dropout if self.training else 0.0
        y = tg.gelu(self.c_fc(x))
        if p == 0:
            return self.c_proj(y, residual)
        return _added(residual, tg.dropout(self.c_proj(y), p, rng=rng))


def _added(residual: Tensor | None, branch: Tensor) -> Tensor:
    return branch if residual is None else residual + branch
