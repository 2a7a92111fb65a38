"""BERT: a transformer that reads a text in both directions at once (Devlin et al. 2019, section 3).

RoBERTa and DistilBERT are the same equations, with one segment and with none.  What is made of the vectors is in heads.py.
Equations only: no loading or optimizing.  Shapes: B sequences, T positions, C features, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, LayerNorm, Linear, Module, ModuleList

from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes
from .layers import ACTIVATIONS, MLP, Attention, Rng, initialise


@dataclass(frozen=True)
class BERTConfig:
    """The shape of a BERT, BERT-base unless given.  Raises ValueError for a value that makes no model."""

    vocab_size: int
    block_size: int = 512
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_inner: int = 0  # 4 n_embd
    n_segments: int = 2  # 0: segments are not told apart
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    pooler: str | None = "tanh"  # the activation of the map of the first position, None without that
    norm_eps: float = 1e-12
    labels: tuple[str, ...] = ()  # what a classifier tells apart

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        check_sizes(self, "n_inner", "n_segments", least=0)
        object.__setattr__(self, "n_inner", self.n_inner or 4 * self.n_embd)
        check_multiple(self, "n_embd", "n_head")
        check_rates(self, "dropout", "attention_dropout")
        check_positive(self, "norm_eps")
        check_known(self, activation=ACTIVATIONS)
        if self.pooler is not None:
            check_known(self, pooler=ACTIVATIONS)
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must differ from one another, got {self.labels}")


class Block(Module):
    """(B, T, C) -> (B, T, C): attention, then a feed-forward network, each added to its input and the sum normalised."""

    def __init__(self, config: BERTConfig, rng: Rng):
        c = config
        self.dropout = c.dropout
        self.attn = Attention(c.n_embd, c.n_head, dropout=c.attention_dropout, rng=rng)
        self.ln_1 = LayerNorm(c.n_embd, c.norm_eps)
        self.mlp = MLP(c.n_embd, c.n_inner, c.activation, rng=rng)
        self.ln_2 = LayerNorm(c.n_embd, c.norm_eps)

    def forward(self, x: Tensor, mask: Any = None, rng: Rng = None) -> Tensor:
        x = self.ln_1(x + tg.dropout(self.attn(x, mask=mask, rng=rng), self.dropout, self.training, rng))
        return self.ln_2(x + tg.dropout(self.mlp(x), self.dropout, self.training, rng))


class BERT(Module):
    """(B, T) token ids -> (B, T, C), a vector for each token that depends on all of them.

    Weights start normal(0, 0.02), biases 0, gains 1 (Devlin et al. 2019, appendix A.2 and its code).
    """

    def __init__(self, config: BERTConfig, rng: Rng = None, dtype: Any = "float32"):
        c, rng = config, rng or np.random.default_rng()
        self.config = c
        self.wte = Embedding(c.vocab_size, c.n_embd, rng=rng)
        self.wpe = Embedding(c.block_size, c.n_embd, rng=rng)
        self.wse = Embedding(c.n_segments, c.n_embd, rng=rng) if c.n_segments else None
        self.ln = LayerNorm(c.n_embd, c.norm_eps)
        self.h = ModuleList(Block(c, rng) for _ in range(c.n_layer))
        self.pooler = Linear(c.n_embd, c.n_embd, rng=rng) if c.pooler else None
        initialise(self, rng)
        self.astype(dtype)

    def forward(self, ids: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        """(B, T) -> (B, T, C).  `mask` (B, T) is True at tokens and False at padding, which no token sees.

        Segments (B, T) are 0 unless given, and a model without them passes them over.  Raises ValueError for more tokens
        than there are positions.
        """
        length = np.shape(ids)[1]
        if length > self.config.block_size:
            raise ValueError(f"{length} tokens do not fit in the {self.config.block_size} positions of the model")
        mask = None if mask is None or np.all(mask) else np.asarray(mask, bool)
        x = self.wte(ids) + self._positions(length, mask)  # (B, T, C)
        if self.wse is not None:
            x = x + (self.wse.weight[0] if segments is None else self.wse(segments))
        x = tg.dropout(self.ln(x), self.config.dropout, self.training, rng)
        seen = None if mask is None else mask[:, None, None]  # (B, 1, 1, T)
        for block in self.h:
            x = block(x, seen, rng)  # (B, T, C)
        return x

    def _positions(self, length: int, mask: np.ndarray | None) -> Tensor:
        """Positions are counted among the tokens, so that padding on the left moves nothing."""
        if mask is None or not (mask[:, 1:] > mask[:, :-1]).any():
            return self.wpe.weight[:length]  # (T, C)
        return self.wpe(np.maximum(np.cumsum(mask, 1) - 1, 0))  # (B, T, C)

    def pooled(self, x: Tensor, mask: Any = None) -> Tensor:
        """(B, T, C) -> (B, C): f(W x_0 + b), of the first token.  Raises ValueError for a model without a pooler."""
        if self.pooler is None or self.config.pooler is None:
            raise ValueError("this model has no pooler")
        first = x[:, 0] if mask is None else x[np.arange(len(mask)), np.argmax(mask, 1)]  # (B, C)
        return ACTIVATIONS[self.config.pooler](self.pooler(first))
