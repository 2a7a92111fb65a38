"""What encoder-decoders have in common: blocks that may look at a memory, and how the two halves are put together.

An encoder turns the source into a memory, once; a decoder, which sees what it wrote so far and the memory, predicts the next
token (Vaswani et al. 2017, section 3).  T5 and BART differ in what they pass to these blocks.  Shapes: B sequences,
S tokens of the source, T of the target, C features, V tokens known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Module

from .cache import KeyValueCache
from .layers import Attention, KeysValues, Rng

Map = Callable[[Tensor], Tensor]  # (B, T, C) -> (B, T, C)
Join = Callable[[Tensor, Map, Map], Tensor]


def pre_norm(x: Tensor, norm: Map, branch: Map) -> Tensor:
    """What a branch reads is normalised (Xiong et al. 2020, figure 1b)."""
    return x + branch(norm(x))


def post_norm(x: Tensor, norm: Map, branch: Map) -> Tensor:
    """The sum is normalised (Vaswani et al. 2017, section 3.1)."""
    return norm(x + branch(x))


class DecoderCache(KeyValueCache):
    """A decoder layer's keys and values: of the tokens so far, and, once they were made, those of the memory."""

    memory: KeysValues | None = None

    def select_memory(self, rows: Any) -> None:
        """Keep these rows of the memory's, in this order; one may be kept several times."""
        if self.memory is not None:
            k, v = self.memory
            self.memory = Tensor(k.data[rows]), Tensor(v.data[rows])


class Block(Module):
    """(B, T, C) -> (B, T, C): attention to itself, in a decoder to the memory too, then a feed-forward network."""

    def __init__(
        self,
        norm: Callable[[], Module],
        attention: Callable[[], Attention],
        mlp: Callable[[], Module],
        decoder: bool,
        join: Join,
        dropout: float,
    ):
        """`join` joins each of them to its input, `dropout` is of their results."""
        self.join, self.dropout = join, dropout
        self.ln_1, self.attn = norm(), attention()
        self.ln_cross = norm() if decoder else None
        self.cross = attention() if decoder else None
        self.ln_2, self.mlp = norm(), mlp()

    def forward(
        self,
        x: Tensor,
        mask: Any = None,
        bias: Tensor | None = None,
        memory: Tensor | None = None,
        cache: DecoderCache | None = None,
        rng: Rng = None,
    ) -> Tensor:
        """`mask` (B, 1, 1, S) is of the source, wherever that is looked at, and `bias` (1, H, T, T) of x itself."""

        def dropped(y: Tensor) -> Tensor:
            return tg.dropout(y, self.dropout, self.training, rng)

        if self.cross is None or self.ln_cross is None:
            x = self.join(x, self.ln_1, lambda y: dropped(self.attn(y, mask=mask, bias=bias, rng=rng)))
        else:
            cross, seen = self.cross, _seen(self.cross, memory, cache)
            x = self.join(x, self.ln_1, lambda y: dropped(self.attn(y, bias=bias, causal=True, cache=cache, rng=rng)))
            x = self.join(x, self.ln_cross, lambda y: dropped(cross(y, seen, mask=mask, rng=rng)))
        return self.join(x, self.ln_2, lambda y: dropped(self.mlp(y, rng)))


def _seen(cross: Attention, memory: Any, cache: DecoderCache | None) -> KeysValues:
    """The memory's keys and values, made once if there is a cache."""
    if cache is None:
        return cross.keys_values(memory)
    if cache.memory is None:
        cache.memory = cross.keys_values(memory)
    return cache.memory


class EncoderDecoder(Module):
    """Two stacks of blocks, `encoder.h` and `decoder.h`, and `encode` and `decode`, which subclasses define."""

    config: Any
    decoder: Any

    def encode(self, ids: Any, mask: Any = None, rng: Rng = None) -> Tensor:
        """(B, S) -> memory (B, S, C).  `mask` (B, S) is True at tokens, False at padding, which follows them and changes nothing.

        Raises ValueError for a source without tokens.
        """
        raise NotImplementedError

    def decode(
        self, ids: Any, memory: Tensor, mask: Any = None, cache: list[DecoderCache] | None = None, rng: Rng = None
    ) -> Tensor:
        """(B, T), memory (B, S, C), its mask (B, S) -> (B, T, V) logits of what follows each token.

        With a cache, ids continue what it holds, and the memory is looked at with the first of them only.
        """
        raise NotImplementedError

    def forward(self, ids: Any, decoder_ids: Any, mask: Any = None, rng: Rng = None) -> Tensor:
        """(B, S), (B, T) -> (B, T, V)."""
        return self.decode(decoder_ids, self.encode(ids, mask, rng), mask, rng=rng)

    def loss(
        self, ids: Any, decoder_ids: Any, targets: Any, mask: Any = None, label_smoothing: float = 0.0, rng: Rng = None
    ) -> Tensor:
        """The mean of -log p(target) in nats over the targets that are not -100; decoder_ids are the targets, one later."""
        return tg.cross_entropy(self(ids, decoder_ids, mask, rng), targets, label_smoothing=label_smoothing)

    def new_cache(self, batch: int, length: int) -> list[DecoderCache]:
        """An empty cache for each layer of the decoder, with room for `length` tokens."""
        made = []
        for block in self.decoder.h:
            heads, k = block.attn.groups, block.attn.k_proj.weight
            made.append(DecoderCache(batch, heads, length, k.shape[0] // heads, k.dtype))
        return made


def source_mask(source: tuple[int, ...], mask: Any) -> np.ndarray | None:
    """A source's shape (B, S, ..) and its mask (B, S) -> (B, 1, 1, S), None if all are tokens.

    Raises ValueError for a source without tokens, or a mask that does not fit.
    """
    if source[1] == 0:
        raise ValueError("the source is empty: it must have at least one token")
    if mask is None:
        return None
    mask = np.asarray(mask, bool)
    if mask.shape != source[:2]:
        raise ValueError(f"a mask of shape {mask.shape} does not fit a source of shape {source[:2]}")
    tokens = mask.any(axis=1)
    if not tokens.all():
        raise ValueError(f"source {int(np.argmin(tokens))} is empty: it must have at least one token")
    return None if mask.all() else mask[:, None, None]
