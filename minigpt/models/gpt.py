"""GPT-2: a causal transformer that predicts the next token (Radford et al. 2019, section 2.3).

Equations only: no loading, sampling or optimizing.  Shapes: B sequences, T positions, C features, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, LayerNorm, Module, ModuleList

from .cache import KeyValueCache
from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes
from .layers import ACTIVATIONS, FeedForward, Rng, SelfAttention, initialise


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.  Raises ValueError for a value that makes no model."""

    vocab_size: int
    block_size: int = 64
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = True
    activation: str = "gelu"
    n_inner: int | None = None  # features inside a feed-forward network, 4 n_embd unless given
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        check_sizes(self, "n_inner", optional=True)
        check_multiple(self, "n_embd", "n_head")
        check_rates(self, "dropout")
        check_positive(self, "norm_eps")
        check_known(self, activation=ACTIVATIONS)


class Block(Module):
    """(B, T, C) -> (B, T, C): attention, then a feed-forward network, each normalised before and added to its input."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator):
        c = config
        self.ln_1 = LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.attn = SelfAttention(c.n_embd, c.n_head, c.dropout, c.bias, rng)
        self.ln_2 = LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.mlp = FeedForward(c.n_embd, c.dropout, c.bias, rng, c.activation, c.n_inner)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, rng: Rng = None) -> Tensor:
        x = self.attn(self.ln_1(x), residual=x, cache=cache, rng=rng)  # x + attention of x
        return self.mlp(self.ln_2(x), residual=x, rng=rng)  # x + feed-forward of x


class GPT(Module):
    """(B, T) token ids -> (B, T, V) logits of the next token; the output map is the embedding table, transposed.

    Weights start normal(0, 0.02), those that end a residual branch scaled by 1/sqrt(2 n_layer); biases 0, gains 1.
    """

    def __init__(self, config: GPTConfig, rng: Rng = None, dtype: Any = "float32"):
        rng = rng or np.random.default_rng()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd, rng=rng)
        self.wpe = Embedding(config.block_size, config.n_embd, rng=rng)
        self.h = ModuleList(Block(config, rng) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        initialise(self, rng, ("c_proj.weight",), config.n_layer)
        self.astype(dtype)

    def forward(self, ids: Any, cache: list[KeyValueCache] | None = None, rng: Rng = None, last: int | None = None) -> Tensor:
        """(B, T) -> (B, T, V), or (B, last, V) if logits are wanted for the `last` positions only."""
        length = np.shape(ids)[1]
        start = cache[0].length if cache else 0
        if start + length > self.config.block_size:
            raise ValueError(f"{start + length} tokens do not fit in the context of {self.config.block_size}")
        x = self.wte(ids) + self._positions(start, length, cache[0].padding if cache else None)  # (B, T, C)
        x = tg.dropout(x, self.config.dropout if self.training else 0.0, rng=rng)
        for i, block in enumerate(self.h):
            x = block(x, cache=cache[i] if cache else None, rng=rng)  # (B, T, C)
        x = x if last is None or last == length else x[:, length - last :]
        return tg.linear(self.ln_f(x), self.wte.weight)  # (B, T, V)

    def _positions(self, start: int, length: int, padding: np.ndarray | None) -> Tensor:
        if padding is None:
            return self.wpe.weight[start : start + length]  # (T, C)
        return self.wpe(np.maximum(np.arange(start, start + length) - padding[:, None], 0))  # (B, T, C)

    def loss(self, ids: Any, targets: Any, rng: Rng = None) -> Tensor:
        """(B, T), (B, T) -> the mean of -log p(target) in nats."""
        return tg.cross_entropy(self(ids, rng=rng), targets)

    def new_cache(self, batch: int = 1, length: int | None = None, padding: np.ndarray | None = None) -> list[KeyValueCache]:
        """An empty cache for each layer, with room for `length` positions, the whole context unless given.

        The first padding[b] positions of row b will be no tokens, so that rows of unequal length end together.
        """
        c = self.config
        size = batch, c.n_head, length or c.block_size, c.n_embd // c.n_head
        return [KeyValueCache(*size, self.wte.weight.dtype, padding) for _ in range(c.n_layer)]
