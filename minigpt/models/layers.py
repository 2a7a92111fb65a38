"""Layers that models are made of.  Shapes: B sequences, T positions, C features, H heads of d = C / H features."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Linear, Module

Rng = np.random.Generator | None


class KeyValueCache:
    """The keys and values of the positions read so far, (B, H, T, d) each, in room made once for `length` positions."""

    def __init__(self, batch: int, heads: int, length: int, features: int, dtype: Any):
        self.keys = np.empty((batch, heads, length, features), dtype)
        self.values = np.empty_like(self.keys)
        self.length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember (B, H, T, d) more; all keys and all values so far.  Raises ValueError when there is no room."""
        start, end = self.length, self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"the cache has room for {self.keys.shape[2]} positions, {end} are needed")
        self.keys[:, :, start:end] = k.data
        self.values[:, :, start:end] = v.data
        self.length = end
        return Tensor(self.keys[:, :, :end]), Tensor(self.values[:, :, :end])


class Attention(Module):
    """(B, T, C) -> (B, T, C): H heads of softmax(q k^T / sqrt d) v, joined by a linear map (Vaswani et al. 2017, 3.2.2)."""

    def __init__(self, n_embd: int, n_head: int, dropout: float, bias: bool, rng: np.random.Generator):
        self.n_head = n_head
        self.dropout = dropout
        self.c_attn = Linear(n_embd, 3 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(n_embd, n_embd, bias=bias, rng=rng)

    def forward(
        self, x: Tensor, causal: bool = False, mask: Any = None, cache: KeyValueCache | None = None, rng: Rng = None
    ) -> Tensor:
        p = self.dropout if self.training else 0.0
        qkv = self.c_attn(x)  # (B, T, 3 C)
        if cache is None:
            y = tg.self_attention(qkv, self.n_head, mask=mask, causal=causal, dropout_p=p, rng=rng)  # (B, T, C)
        else:
            q, k, v = (self._heads(part) for part in tg.split(qkv, 3, axis=-1))  # (B, H, T, d) each
            y = tg.attention(q, *cache.extend(k, v), mask=mask, causal=causal).swapaxes(1, 2).reshape(x.shape)
        return tg.dropout(self.c_proj(y), p, rng=rng)

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, features = x.shape
        return x.reshape(batch, length, self.n_head, features // self.n_head).swapaxes(1, 2)  # (B, H, T, d)


class FeedForward(Module):
    """(B, T, C) -> (B, T, C);  W2 gelu(W1 x)."""

    def __init__(self, n_embd: int, dropout: float, bias: bool, rng: np.random.Generator):
        self.dropout = dropout
        self.c_fc = Linear(n_embd, 4 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(4 * n_embd, n_embd, bias=bias, rng=rng)

    def forward(self, x: Tensor, rng: Rng = None) -> Tensor:
        y = self.c_proj(tg.gelu(self.c_fc(x)))
        return tg.dropout(y, self.dropout if self.training else 0.0, rng=rng)
