"""Decoders after GPT-2: GPT-Neo, GPT-J, GPT-NeoX, BLOOM, LLaMA, OPT and what is built like them.

They differ in what decoder_config.py lists, and in which keys are seen.  Equations only.  Shapes: B sequences, T new
positions of S so far, C features, H heads of d features, V tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, Identity, Linear, Module, ModuleList

from .cache import KeyValueCache
from .decoder_config import NORMS, RESIDUALS, DecoderConfig, Map
from .layers import MLP, Attention, Rng, initialise
from .positions import alibi_slopes


class Block(Module):
    """(B, T, C) -> (B, T, C): attention and a feed-forward network, wired as `residual` says."""

    def __init__(self, config: DecoderConfig, rng: np.random.Generator):
        c = config
        self.residual, self.dropout = c.residual, c.dropout
        self.ln_1 = NORMS[c.norm](c.n_embd, c.norm_eps)
        self.attn = Attention(
            c.n_embd, c.n_head, groups=c.groups, features=c.features, bias=c.attention_bias, out_bias=c.out_bias,
            scale=c.attention_scale, dropout=c.attention_dropout, rng=rng,
        )  # fmt: skip
        self.ln_2 = None if c.residual == "shared" else NORMS[c.norm](c.n_embd, c.norm_eps)
        self.mlp = MLP(c.n_embd, c.n_inner, c.activation, c.gated, c.mlp_bias, rng=rng)

    def forward(self, x: Tensor, rng: Rng = None, **how: Any) -> Tensor:
        """`how` is what attention is told: mask, bias, turn and cache."""

        def attend(x: Tensor) -> Tensor:
            return tg.dropout(self.attn(x, causal=True, rng=rng, **how), self.dropout, self.training, rng)

        def feed(x: Tensor) -> Tensor:
            return tg.dropout(self.mlp(x, rng=rng), self.dropout, self.training, rng)

        return RESIDUALS[self.residual](x, attend, self.ln_1, feed, self.ln_2 or self.ln_1)


class Decoder(Module):
    """(B, T) token ids -> (B, T, V) logits of the next token.

    Weights start normal(0, 0.02), those that end a residual branch scaled by 1/sqrt(2 n_layer); biases 0, gains 1.
    """

    def __init__(self, config: DecoderConfig, rng: Rng = None, dtype: Any = "float32"):
        c, rng = config, rng or np.random.default_rng()
        self.config = c
        norm, width = partial(NORMS[c.norm], c.n_embd, c.norm_eps), c.embedding_size or c.n_embd
        self.wte = Embedding(c.vocab_size, width, rng=rng)
        self.map_in = Identity() if width == c.n_embd else Linear(width, c.n_embd, bias=False, rng=rng)
        self.wpe = Embedding(c.block_size, c.n_embd, rng=rng) if c.positions == "learned" else None
        self.ln_e = norm() if c.embedding_norm else Identity()
        self.h = ModuleList(Block(c, rng) for _ in range(c.n_layer))
        self.ln_f = norm() if c.final_norm else Identity()
        self.map_out = Identity() if width == c.n_embd else Linear(c.n_embd, width, bias=False, rng=rng)
        self.head = None if c.tied else Linear(width, c.vocab_size, bias=c.head_bias, rng=rng)
        initialise(self, rng, ("out_proj.weight", "down.weight"), config.n_layer)
        self.astype(dtype)

    def forward(self, ids: Any, cache: list[KeyValueCache] | None = None, rng: Rng = None, last: int | None = None) -> Tensor:
        """(B, T) -> (B, T, V), or (B, last, V) if logits are wanted for the `last` positions only."""
        c, length = self.config, np.shape(ids)[1]
        start = cache[0].length if cache else 0
        if start + length > c.block_size:
            raise ValueError(f"{start + length} tokens do not fit in the context of {c.block_size}")
        x = self.map_in(self.wte(ids))  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe(_places(start, length, cache[0].padding if cache else None))
        x = tg.dropout(self.ln_e(x), c.dropout, self.training, rng=rng)
        how = {"bias": self._distances(start + length), "turn": self._turn(np.arange(start, start + length))}
        real = cache[0].tokens(extra=length) if cache else None
        near = _near(start, length, c.window, real) if any(c.local) else None
        for i, block in enumerate(self.h):
            mask = near if c.local and c.local[i] else real
            x = block(x, rng, mask=mask, cache=cache[i] if cache else None, **how)  # (B, T, C)
        x = x if last is None or last == length else x[:, length - last :]
        x = self.map_out(self.ln_f(x))
        return tg.linear(x, self.wte.weight) if self.head is None else self.head(x)  # (B, T, V)

    def _turn(self, places: np.ndarray) -> Map | None:
        """(.., T, d) -> (.., T, d): the first `turned` features of each vector are turned by its place."""
        c = self.config
        if c.positions != "rotary":
            return None

        def turn(x: Tensor) -> Tensor:
            turned = tg.rotary(x[..., : c.turned], places, c.rotary_base, c.rotary_interleaved)
            return turned if c.turned == c.features else tg.concat([turned, x[..., c.turned :]], -1)

        return turn

    def _distances(self, length: int) -> Tensor | None:
        """(H, 1, S): each slope times the place of the key, which is minus the distance and what all keys share."""
        if self.config.positions != "alibi":
            return None
        places = np.arange(length, dtype=self.wte.weight.dtype)
        return Tensor(alibi_slopes(self.config.n_head).astype(places.dtype)[:, None, None] * places)

    def loss(self, ids: Any, targets: Any, rng: Rng = None) -> Tensor:
        """(B, T), (B, T) -> the mean of -log p(target) in nats."""
        return tg.cross_entropy(self(ids, rng=rng), targets)

    def new_cache(self, batch: int = 1, length: int | None = None, padding: np.ndarray | None = None) -> list[KeyValueCache]:
        """An empty cache for each layer, with room for `length` positions, the whole context unless given.

        The first padding[b] positions of row b will be no tokens, so that rows of unequal length end together.
        """
        c = self.config
        size = batch, c.groups, length or c.block_size, c.features
        return [KeyValueCache(*size, self.wte.weight.dtype, padding) for _ in range(c.n_layer)]


def _places(start: int, length: int, padding: np.ndarray | None) -> np.ndarray:
    """(1, T), or (B, T) if some positions are padding, which has no place of its own."""
    places = np.arange(start, start + length)[None]
    return places if padding is None else np.maximum(places - padding[:, None], 0)


def _near(start: int, length: int, window: int, real: np.ndarray | None) -> np.ndarray | None:
    """(.., T, S): True at the tokens that are less than a window behind; what is ahead is hidden by causal attention."""
    if start + length <= window:
        return real
    near = np.arange(start + length) > np.arange(start, start + length)[:, None] - window
    return near if real is None else near & real
