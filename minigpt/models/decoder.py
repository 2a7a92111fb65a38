"""Decoders after GPT-2: GPT-Neo, GPT-J, GPT-NeoX, BLOOM, LLaMA, OPT and what is built like them.

They differ in how a block is wired (`RESIDUALS`), how it is normalised (`NORMS`), what tells positions apart (learned vectors;
turns of queries and keys, Su et al. 2021; biases that grow with distance, Press et al. 2022) and in which keys are seen.
Equations only.  Shapes: B sequences, T new positions of S so far, C features, H heads of d features, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import Embedding, Identity, LayerNorm, Linear, Module, ModuleList, RMSNorm

from .cache import KeyValueCache
from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes
from .layers import ACTIVATIONS, MLP, Attention, Rng, initialise
from .positions import alibi_slopes

Map = Callable[[Tensor], Tensor]  # (B, T, C) -> (B, T, C)

NORMS: dict[str, type[LayerNorm] | type[RMSNorm]] = {"layer": LayerNorm, "rms": RMSNorm}
POSITIONS = ("learned", "rotary", "alibi")
OPTIONAL = ("embedding_size", "n_group", "head_size", "rotary_size")


def pre(x: Tensor, attend: Map, norm_1: Map, feed: Map, norm_2: Map) -> Tensor:
    """Each branch normalises what it reads (Radford et al. 2019)."""
    x = x + attend(norm_1(x))
    return x + feed(norm_2(x))


def post(x: Tensor, attend: Map, norm_1: Map, feed: Map, norm_2: Map) -> Tensor:
    """Each sum is normalised (Vaswani et al. 2017)."""
    x = norm_1(x + attend(x))
    return norm_2(x + feed(x))


def parallel(x: Tensor, attend: Map, norm_1: Map, feed: Map, norm_2: Map) -> Tensor:
    """Both branches read the same (Black et al. 2022, section 2.1)."""
    return x + attend(norm_1(x)) + feed(norm_2(x))


def shared(x: Tensor, attend: Map, norm_1: Map, feed: Map, norm_2: Map) -> Tensor:
    """Both branches read the same, normalised once; norm_2 is not used (Wang and Komatsuzaki 2021, GPT-J)."""
    y = norm_1(x)
    return x + attend(y) + feed(y)


RESIDUALS = {"pre": pre, "post": post, "parallel": parallel, "shared": shared}


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder, by default LLaMA's.  Raises ValueError for a value that makes no model.

    Unless given, n_inner is 4 n_embd; n_group, the heads with keys and values of their own, n_head; head_size n_embd / n_head;
    embedding_size, of the table of tokens, n_embd; rotary_size, the features of a head that are turned, rotary_fraction of
    head_size; attention_scale 1 / sqrt(head_size).  `local` says for each layer whether a query sees only the last `window`
    keys, itself included; if it says nothing, none does.
    """

    vocab_size: int
    block_size: int = 2048
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    embedding_size: int | None = None
    n_inner: int = 0
    n_group: int | None = None
    head_size: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: str = "silu"
    gated: bool = True
    norm: str = "rms"
    norm_eps: float = 1e-6
    embedding_norm: bool = False
    final_norm: bool = True
    residual: str = "pre"
    positions: str = "rotary"
    rotary_size: int | None = None
    rotary_fraction: float = 1.0
    rotary_base: float = 10000.0
    rotary_interleaved: bool = False
    window: int = 256
    local: tuple[bool, ...] = ()
    attention_scale: float | None = None
    attention_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    head_bias: bool = False

    def __post_init__(self) -> None:
        if self.n_inner == 0:
            object.__setattr__(self, "n_inner", 4 * self.n_embd)
        check_sizes(self, "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_inner", "window")
        check_sizes(self, *OPTIONAL, optional=True)
        check_rates(self, "dropout", "attention_dropout")
        check_positive(self, "norm_eps", "rotary_base", "rotary_fraction")
        check_positive(self, "attention_scale", optional=True)
        check_known(self, activation=ACTIVATIONS, norm=NORMS, residual=RESIDUALS, positions=POSITIONS)
        if self.head_size is None:
            check_multiple(self, "n_embd", "n_head")
        if self.n_head % self.groups:
            raise ValueError(f"n_head must be a multiple of n_group, got n_head {self.n_head} and n_group {self.groups}")
        if self.positions == "rotary" and (self.turned % 2 or not 0 < self.turned <= self.features):
            raise ValueError(f"rotary_size must be even and at most head_size, got {self.turned} and {self.features}")
        if self.local and len(self.local) != self.n_layer:
            raise ValueError(f"local must be said of each of the {self.n_layer} layers, got {len(self.local)}")

    @property
    def groups(self) -> int:
        """Heads with keys and values."""
        return self.n_group or self.n_head

    @property
    def features(self) -> int:
        """d, the features of a head."""
        return self.head_size or self.n_embd // self.n_head

    @property
    def turned(self) -> int:
        """How many of them are turned by the position."""
        return self.rotary_size or int(self.features * self.rotary_fraction)


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
