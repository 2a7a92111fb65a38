"""BART, Blenderbot, M2M-100 and Marian: encoder-decoders with absolute positions (Lewis et al. 2020, section 2.1).

They differ in what is normalised, before or after each branch, and in their positions, learned or sinusoidal.  Equations only.
Shapes as in seq2seq.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, LayerNorm, Module, ModuleList, Parameter

from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes, check_tokens
from .layers import ACTIVATIONS, MLP, Attention, Rng, initialise
from .positions import sinusoids
from .seq2seq import Block, DecoderCache, EncoderDecoder, post_norm, pre_norm, source_mask


@dataclass(frozen=True)
class BartConfig:
    """The shape of a BART, BART-base unless given.  Raises ValueError for a value that makes no model.

    Where 0: n_inner is 4 n_embd, and the decoder is as the encoder.
    """

    vocab_size: int
    block_size: int = 1024
    n_layer: int = 6
    n_decoder_layer: int = 0
    n_head: int = 12
    n_decoder_head: int = 0
    n_embd: int = 768
    n_inner: int = 0
    n_decoder_inner: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation: str = "gelu"
    positions: str = "learned"
    pre_norm: bool = False  # and a norm at the end of each stack
    embedding_norm: bool = True
    scale_embedding: bool = False  # by sqrt n_embd
    output_bias: bool = True
    norm_eps: float = 1e-5
    start_token: int = 2
    end_token: int = 2
    pad_token: int = 1

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        check_sizes(self, "n_inner", "n_decoder_layer", "n_decoder_head", "n_decoder_inner", least=0)
        derived = {"n_inner": 4 * self.n_embd, "n_decoder_layer": self.n_layer, "n_decoder_head": self.n_head}
        derived["n_decoder_inner"] = self.n_inner or derived["n_inner"]
        for name, value in derived.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        check_multiple(self, "n_embd", "n_head")
        check_multiple(self, "n_embd", "n_decoder_head")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")
        check_positive(self, "norm_eps")
        check_known(self, activation=ACTIVATIONS, positions=POSITIONS)
        check_tokens(self, "start_token", "end_token", "pad_token")
        if self.n_embd % 2 and self.positions != "learned":
            raise ValueError(f"n_embd must be even with {self.positions} positions, got {self.n_embd}")


class Learned(Module):
    """Positions (T,) -> (T, C): a learned vector each."""

    def __init__(self, config: BartConfig, rng: Rng):
        self.table = Embedding(config.block_size, config.n_embd, rng=rng)

    def forward(self, positions: np.ndarray) -> Tensor:
        return self.table(positions)


class Sinusoidal(Module):
    """Positions (T,) -> (T, C): sines and cosines of them, as the paper of the transformer has it."""

    def __init__(self, config: BartConfig, rng: Rng):
        self.features = config.n_embd

    def forward(self, positions: np.ndarray) -> Tensor:
        return Tensor(sinusoids(positions, self.features))


class SinusoidalAfterPadding(Module):
    """The same as fairseq has it: down to a rate of 1/10000, the first position being the one after the pad token's id."""

    def __init__(self, config: BartConfig, rng: Rng):
        self.features, self.first = config.n_embd, config.pad_token + 1

    def forward(self, positions: np.ndarray) -> Tensor:
        return Tensor(sinusoids(positions + self.first, self.features, to_the_end=True))


POSITIONS: dict[str, Callable[[BartConfig, Rng], Module]] = {
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "sinusoidal_after_padding": SinusoidalAfterPadding,
}


class Stack(Module):
    """(B, T, C) embeddings -> (B, T, C): positions added, then the blocks of an encoder or a decoder."""

    def __init__(self, config: BartConfig, layers: int, heads: int, inner: int, decoder: bool, rng: Rng):
        c = config
        self.config = c
        norm = partial(LayerNorm, c.n_embd, c.norm_eps)
        attention = partial(Attention, c.n_embd, heads, dropout=c.attention_dropout, rng=rng)
        mlp = partial(MLP, c.n_embd, inner, c.activation, dropout=c.activation_dropout, rng=rng)
        join = pre_norm if c.pre_norm else post_norm
        self.positions = POSITIONS[c.positions](c, rng)
        self.ln = norm() if c.embedding_norm else None
        self.h = ModuleList(Block(norm, attention, mlp, decoder, join, c.dropout) for _ in range(layers))
        self.ln_f = norm() if c.pre_norm else None

    def forward(
        self, x: Tensor, mask: Any, memory: Tensor | None = None, cache: list[DecoderCache] | None = None, rng: Rng = None
    ) -> Tensor:
        start = cache[0].length if cache else 0
        end = start + x.shape[1]
        if end > self.config.block_size:
            raise ValueError(f"{end} tokens do not fit in the {self.config.block_size} positions of the model")
        x = x + self.positions(np.arange(start, end)).astype(x.dtype)
        x = x if self.ln is None else self.ln(x)
        x = tg.dropout(x, self.config.dropout, self.training, rng)
        for i, block in enumerate(self.h):
            x = block(x, mask, None, memory, cache[i] if cache else None, rng)  # (B, T, C)
        return x if self.ln_f is None else self.ln_f(x)


class Bart(EncoderDecoder):
    """(B, S), (B, T) token ids -> (B, T, V) logits; the output map is the embedding table, transposed.

    Weights start normal(0, 0.02), biases 0, gains 1.  The output's bias is not learned.
    """

    def __init__(self, config: BartConfig, rng: Rng = None, dtype: Any = "float32"):
        c, rng = config, rng or np.random.default_rng()
        self.config = c
        self.wte = Embedding(c.vocab_size, c.n_embd, rng=rng)
        self.encoder = Stack(c, c.n_layer, c.n_head, c.n_inner, False, rng)
        self.decoder = Stack(c, c.n_decoder_layer, c.n_decoder_head, c.n_decoder_inner, True, rng)
        self.output_bias = Parameter(np.zeros(c.vocab_size, np.float32), requires_grad=False) if c.output_bias else None
        initialise(self, rng)
        self.astype(dtype)

    def _embed(self, ids: Any) -> Tensor:
        x = self.wte(ids)  # (B, T, C)
        return x * math.sqrt(self.config.n_embd) if self.config.scale_embedding else x

    def encode(self, ids: Any, mask: Any = None, rng: Rng = None) -> Tensor:
        return self.encoder(self._embed(ids), source_mask(np.shape(ids), mask), rng=rng)

    def decode(
        self, ids: Any, memory: Tensor, mask: Any = None, cache: list[DecoderCache] | None = None, rng: Rng = None
    ) -> Tensor:
        x = self.decoder(self._embed(ids), source_mask(memory.shape, mask), memory, cache, rng)  # (B, T, C)
        logits = tg.linear(x, self.wte.weight)  # (B, T, V)
        return logits if self.output_bias is None else logits + self.output_bias
