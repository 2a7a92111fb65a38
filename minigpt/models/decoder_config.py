"""How decoders after GPT-2 differ: in how a block is wired (`RESIDUALS`), how it is normalised (`NORMS`), what tells positions
apart (`POSITIONS`), and in sizes.

Learned vectors, turns of queries and keys (Su et al. 2021), or biases that grow with the distance (Press et al. 2022) tell
positions apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tensorgrad import Tensor
from tensorgrad.nn import LayerNorm, RMSNorm

from .checks import check_known, check_multiple, check_positive, check_rates, check_sizes
from .layers import ACTIVATIONS

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
