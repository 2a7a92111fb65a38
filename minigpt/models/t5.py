"""T5: an encoder-decoder that knows only how far apart tokens are (Raffel et al. 2020, section 2.1).

Norms subtract no mean, scores are not divided by sqrt(d), no map has a bias, and the position enters as a learned number that
is added to the scores, by head and bucket of distances, the same in all layers of a stack.  Version 1.1 has a gated network
and an output map of its own (Shazeer 2020).  Equations only.  Shapes as in seq2seq.py; H heads of d features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, Linear, Module, ModuleList, RMSNorm

from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes, check_tokens
from .layers import MLP, Attention, Rng
from .positions import relative_buckets
from .seq2seq import Block, DecoderCache, EncoderDecoder, pre_norm, source_mask

FEED_FORWARD: dict[str, dict[str, Any]] = {
    "relu": {"activation": "relu"},
    "gated_gelu": {"activation": "gelu_tanh", "gated": True},  # version 1.1
    "gated_silu": {"activation": "silu", "gated": True},
}


@dataclass(frozen=True)
class T5Config:
    """The shape of a T5, T5-small unless given.  Raises ValueError for a value that makes no model.

    Where 0: the decoder has n_layer layers too, n_inner is 4 n_embd, and head_size n_embd / n_head.
    """

    vocab_size: int
    n_layer: int = 6
    n_decoder_layer: int = 0
    n_head: int = 8
    n_embd: int = 512
    n_inner: int = 0
    head_size: int = 0
    n_buckets: int = 32
    farthest: int = 128  # all distances beyond share a bucket
    dropout: float = 0.1
    feed_forward: str = "relu"
    tied: bool = True  # the output map is the embedding table
    norm_eps: float = 1e-6
    start_token: int = 0
    end_token: int = 1
    pad_token: int = 0
    block_size: ClassVar[None] = None  # there is no longest text

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "n_layer", "n_head", "n_embd", "farthest")
        check_sizes(self, "n_decoder_layer", "n_inner", "head_size", least=0)
        if not self.head_size:
            check_multiple(self, "n_embd", "n_head")
        if self.n_buckets < 4 or self.n_buckets % 4 or self.farthest <= self.n_buckets // 2:
            raise ValueError(
                f"n_buckets must be a multiple of 4 and less than 2 farthest, got {self.n_buckets} and farthest {self.farthest}"
            )
        check_rates(self, "dropout")
        check_positive(self, "norm_eps")
        check_known(self, feed_forward=FEED_FORWARD)
        check_tokens(self, "start_token", "end_token", "pad_token")
        derived = {"n_decoder_layer": self.n_layer, "n_inner": 4 * self.n_embd, "head_size": self.n_embd // self.n_head}
        for name, value in derived.items():
            object.__setattr__(self, name, getattr(self, name) or value)


class Stack(Module):
    """(B, T, C) -> (B, T, C): the blocks of an encoder or a decoder, and what they know of positions."""

    def __init__(self, config: T5Config, layers: int, decoder: bool, rng: Rng):
        c = config
        self.config, self.is_decoder = c, decoder
        norm = partial(RMSNorm, c.n_embd, c.norm_eps)
        attention = partial(
            Attention, c.n_embd, c.n_head, features=c.head_size, bias=False, scale=1.0, dropout=c.dropout, rng=rng
        )
        feed_forward = FEED_FORWARD[c.feed_forward]
        mlp = partial(MLP, c.n_embd, c.n_inner, **feed_forward, bias=False, dropout=c.dropout, rng=rng)
        self.distance = Embedding(c.n_buckets, c.n_head, rng=rng)
        self.h = ModuleList(Block(norm, attention, mlp, decoder, pre_norm, c.dropout) for _ in range(layers))
        self.ln_f = norm()

    def forward(
        self, x: Tensor, mask: Any, memory: Tensor | None = None, cache: list[DecoderCache] | None = None, rng: Rng = None
    ) -> Tensor:
        p = self.config.dropout
        bias = self._bias(cache[0].length if cache else 0, x.shape[1])
        x = tg.dropout(x, p, self.training, rng)
        for i, block in enumerate(self.h):
            x = block(x, mask, bias, memory, cache[i] if cache else None, rng)  # (B, T, C)
        return tg.dropout(self.ln_f(x), p, self.training, rng)

    def _bias(self, start: int, length: int) -> Tensor:
        """(1, H, T, S): what is added to the scores of T queries, the first of them at `start`, and all keys so far."""
        end = start + length
        queries, keys = np.arange(start, end), np.arange(end)
        buckets = relative_buckets(queries, keys, self.config.n_buckets, self.config.farthest, not self.is_decoder)
        return tg.permute_dims(self.distance(buckets), (2, 0, 1))[None]  # (T, S, H) -> (1, H, T, S)


class T5(EncoderDecoder):
    """(B, S), (B, T) token ids -> (B, T, V) logits; a tied output map reads vectors divided by sqrt C.

    Weights start normal: the embedding 1, the rest 1 / sqrt(inputs), queries 1 / sqrt(C d), as scores are not divided by sqrt d.
    """

    def __init__(self, config: T5Config, rng: Rng = None, dtype: Any = "float32"):
        c, rng = config, rng or np.random.default_rng()
        self.config = c
        self.wte = Embedding(c.vocab_size, c.n_embd, rng=rng)
        self.encoder = Stack(c, c.n_layer, False, rng)
        self.decoder = Stack(c, c.n_decoder_layer, True, rng)
        self.head = None if c.tied else Linear(c.n_embd, c.vocab_size, bias=False, rng=rng)
        self._initialise(rng)
        self.astype(dtype)

    def _initialise(self, rng: np.random.Generator) -> None:
        c = self.config
        special = {"wte": 1.0, "distance": c.n_embd**-0.5, "q_proj": (c.n_embd * c.head_size) ** -0.5}
        for name, p in self.named_parameters():
            if p.ndim == 2:
                p.data = rng.normal(0.0, special.get(name.split(".")[-2], p.shape[1] ** -0.5), p.shape)

    def encode(self, ids: Any, mask: Any = None, rng: Rng = None) -> Tensor:
        return self.encoder(self.wte(ids), source_mask(np.shape(ids), mask), rng=rng)

    def decode(
        self, ids: Any, memory: Tensor, mask: Any = None, cache: list[DecoderCache] | None = None, rng: Rng = None
    ) -> Tensor:
        x = self.decoder(self.wte(ids), source_mask(memory.shape, mask), memory, cache, rng)  # (B, T, C)
        if self.head is not None:
            return self.head(x)
        return tg.linear(x * (1 / math.sqrt(self.config.n_embd)), self.wte.weight)  # (B, T, V)
