"""Layers that models are made of.  Shapes: B sequences, T positions, C features, H heads of d features, G of them with keys
and values of their own; S positions that are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.models.cache import KeyValueCache
from tensorgrad import Tensor
from tensorgrad.nn import Linear, Module

Rng = np.random.Generator | None
KeysValues = tuple[Tensor, Tensor]  # (B, G, S, d) each

IGNORED = -100  # a target that does not count

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": tg.gelu,
    "gelu_tanh": partial(tg.gelu, approximate="tanh"),
    "relu": tg.relu,
    "silu": tg.silu,
    "tanh": tg.tanh,
}


def initialise(module: Module, rng: np.random.Generator, branch_ends: tuple[str, ...] = (), n_layer: int = 1) -> None:
    """Matrices normal(0, 0.02), those that end a residual branch scaled by 1 / sqrt(2 n_layer) (Radford et al. 2019, section
    2.3); biases 0.  Gains stay 1."""
    for name, p in module.named_parameters():
        if p.ndim == 2:
            p.data = rng.normal(0.0, 0.02 / math.sqrt(2 * n_layer) if name.endswith(branch_ends) else 0.02, p.shape)
        elif name.endswith("bias"):
            p.data = np.zeros(p.shape)


class SelfAttention(Module):
    """(B, T, C) -> (B, T, C): causal heads of softmax(q k^T / sqrt d) v, joined by a linear map (Vaswani et al. 2017, 3.2.2).

    One linear map makes all q, k and v.  With a cache, x continues what it holds.  The residual is added to the result.
    """

    def __init__(self, n_embd: int, n_head: int, dropout: float, bias: bool, rng: np.random.Generator):
        self.n_head = n_head
        self.dropout = dropout
        self.c_attn = Linear(n_embd, 3 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(n_embd, n_embd, bias=bias, rng=rng)

    def forward(self, x: Tensor, residual: Tensor, cache: KeyValueCache | None = None, rng: Rng = None) -> Tensor:
        p = self.dropout if self.training else 0.0
        qkv = self.c_attn(x)  # (B, T, 3 C)
        if cache is None:
            y = tg.self_attention(qkv, self.n_head, causal=True, dropout_p=p, rng=rng)  # (B, T, C)
        else:
            y = cache.attend(qkv)
        if p == 0:
            return self.c_proj(y, residual)
        return residual + tg.dropout(self.c_proj(y), p, rng=rng)


class Attention(Module):
    """(B, T, C) -> (B, T, C): H heads of softmax(scale q k^T + bias) v, joined by a linear map (Vaswani et al. 2017, 3.2.2).

    Keys and values come from x itself, or are `keys_values` of another sequence.  G = `groups` of them serve H / G heads each
    (Ainslie et al. 2023).  `mask` is True and `bias` finite where a query sees a key, each broadcast to (B, H, T, S); `turn`
    gives queries and keys their positions.  With a cache, x continues what it holds, and no derivative passes through it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        groups: int | None = None,
        features: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        rng: Rng = None,
    ):
        """`features` is d, width / heads unless given; `out_bias` is `bias` unless given; scale is 1 / sqrt d unless given."""
        groups, d = groups or heads, features or width // heads
        self.heads, self.groups, self.scale, self.dropout = heads, groups, scale, dropout
        self.q_proj = Linear(width, heads * d, bias=bias, rng=rng)
        self.k_proj = Linear(width, groups * d, bias=bias, rng=rng)
        self.v_proj = Linear(width, groups * d, bias=bias, rng=rng)
        self.out_proj = Linear(heads * d, width, bias=bias if out_bias is None else out_bias, rng=rng)

    def keys_values(self, source: Tensor) -> KeysValues:
        """(B, S, C) -> the keys and the values of a sequence, (B, G, S, d) each."""
        return _split(self.k_proj(source), self.groups), _split(self.v_proj(source), self.groups)

    def forward(
        self,
        x: Tensor,
        keys_values: KeysValues | None = None,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        turn: Callable[[Tensor], Tensor] | None = None,
        cache: KeyValueCache | None = None,
        rng: Rng = None,
    ) -> Tensor:
        q = _split(self.q_proj(x), self.heads)  # (B, H, T, d)
        k, v = self.keys_values(x) if keys_values is None else keys_values  # (B, G, S, d)
        if turn is not None:
            q, k = turn(q), turn(k)
        if cache is not None:
            k, v = (Tensor(array) for array in cache.append(k.data, v.data))
        p = self.dropout if self.training else 0.0
        y = tg.attention(q, k, v, mask=mask, bias=bias, causal=causal, scale=self.scale, dropout_p=p, rng=rng)
        return self.out_proj(_join(y))


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, T, H d) -> (B, H, T, d)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)


def _join(y: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, H d)."""
    batch, heads, length, d = y.shape
    return y.swapaxes(1, 2).reshape(batch, length, heads * d)


class MLP(Module):
    """(B, T, C) -> (B, T, C);  W2 f(W1 x), or gated: W2 (f(Wg x) * W1 x) (Shazeer 2020; with SiLU, SwiGLU)."""

    def __init__(
        self, width: int, inner: int, activation: str = "gelu", gated: bool = False, bias: bool = True, dropout: float = 0.0,
        rng: Rng = None,
    ):  # fmt: skip
        """`dropout` is of the inner activations."""
        self.activation, self.dropout = activation, dropout
        self.gate = Linear(width, inner, bias=bias, rng=rng) if gated else None
        self.up = Linear(width, inner, bias=bias, rng=rng)
        self.down = Linear(inner, width, bias=bias, rng=rng)

    def forward(self, x: Tensor, rng: Rng = None) -> Tensor:
        f = ACTIVATIONS[self.activation]
        y = f(self.up(x)) if self.gate is None else f(self.gate(x)) * self.up(x)
        return self.down(tg.dropout(y, self.dropout if self.training else 0.0, rng=rng))


class FeedForward(Module):
    """(B, T, C) -> (B, T, C);  W2 f(W1 x), added to the residual.  W1 x has 4 C features unless given."""

    def __init__(
        self, n_embd: int, dropout: float, bias: bool, rng: np.random.Generator, activation: str = "gelu",
        n_inner: int | None = None,
    ):  # fmt: skip
        self.dropout = dropout
        self.activation = activation
        self.c_fc = Linear(n_embd, n_inner or 4 * n_embd, bias=bias, rng=rng)
        self.c_proj = Linear(n_inner or 4 * n_embd, n_embd, bias=bias, rng=rng)

    def forward(self, x: Tensor, residual: Tensor, rng: Rng = None) -> Tensor:
        p = self.dropout if self.training else 0.0
        y = ACTIVATIONS[self.activation](self.c_fc(x))
        if p == 0:
            return self.c_proj(y, residual)
        return residual + tg.dropout(self.c_proj(y), p, rng=rng)
