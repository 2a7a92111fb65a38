"""Multi-head attention with PyTorch's weights, masks and result (Vaswani et al. 2017, section 3.2.2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Tensor, as_tensor
from ..ops.attention import attention
from ..ops.elementwise import add
from ..ops.fused import linear
from ..ops.linalg import matmul
from ..ops.reduce import mean
from ..ops.shape import broadcast_to, concat, expand_dims, reshape, split, squeeze, swapaxes
from .layers import Linear, Rng, constant, uniform
from .module import Module, Parameter


class MultiheadAttention(Module):
    """(L, N, E), (S, N, kdim), (S, N, vdim) -> (L, N, E): H heads of softmax(q k^T / sqrt d) v, joined by a linear map.

    N comes first if batch_first, and may be left out.  The maps of query, key and value are one in_proj_weight
    (3E, E), or three when kdim or vdim differ from E; they start uniform with variance 2 / (fan in + fan out).
    """

    in_proj_weight: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        rng: Rng = None,
    ):
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be in [0, 1], got {dropout}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        self.rng = rng = rng or np.random.default_rng()
        widths = {"q": embed_dim, "k": kdim or embed_dim, "v": vdim or embed_dim}
        if set(widths.values()) == {embed_dim}:
            self.in_proj_weight = uniform(rng, math.sqrt(6 / (4 * embed_dim)), 3 * embed_dim, embed_dim)
        else:
            self.in_proj_weight = None
            for name, width in widths.items():
                bound = math.sqrt(6 / (embed_dim + width))
                setattr(self, f"{name}_proj_weight", uniform(rng, bound, embed_dim, width))
        self.in_proj_bias = constant(0.0, 3 * embed_dim) if bias else None
        self.bias_k, self.bias_v = (
            Parameter(rng.normal(0, embed_dim**-0.5, (1, 1, embed_dim)).astype(np.float32)) if add_bias_kv else None for _ in "kv"
        )
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, rng=rng)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = np.zeros(embed_dim)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        rng: Rng = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights (N, L, S), or (N, H, L, S) unless averaged over heads; None unless needed.

        key_padding_mask (N, S) and attn_mask (L, S) or (N H, L, S) are True where a key is hidden, or numbers added to
        the scores.  A query that sees no key gives the bias of the output map.
        """
        inputs = [as_tensor(part) for part in (query, key, value)]
        single = inputs[0].ndim == 2
        inputs = [expand_dims(x, 0) if single else x if self.batch_first else swapaxes(x, 0, 1) for x in inputs]
        q, k, v = self._projected(inputs)  # (N, H, L, d), (N, H, S, d), (N, H, S, d)
        batch, heads, length, features = q.shape
        p = self.dropout if self.training else 0.0
        scores = (batch, heads, length, inputs[1].shape[1])
        seen, bias = self._masks(key_padding_mask, attn_mask, scores, k.shape[2], is_causal)
        weights = None
        if need_weights:  # the weights are the output for values that are unit vectors
            unit = broadcast_to(Tensor(np.eye(k.shape[2], dtype=v.dtype)), (*k.shape[:3], k.shape[2]))
            weights = attention(q, k, unit, seen, bias, dropout_p=p, rng=rng or self.rng)  # (N, H, L, S)
            y = matmul(weights, v)
            weights = mean(weights, 1) if average_attn_weights else weights
        else:
            y = attention(q, k, v, seen, bias, dropout_p=p, rng=rng or self.rng)  # (N, H, L, d)
        y = self.out_proj(reshape(swapaxes(y, 1, 2), (batch, length, heads * features)))  # (N, L, E)
        if single:
            return squeeze(y, 0), None if weights is None else squeeze(weights, 0)
        return y if self.batch_first else swapaxes(y, 0, 1), weights

    def _projected(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value mapped and cut into heads, with the extra keys and values if any."""
        if self.in_proj_weight is not None:
            maps = split(self.in_proj_weight, 3)
        else:
            maps = [getattr(self, f"{name}_proj_weight") for name in "qkv"]
        biases = [None] * 3 if self.in_proj_bias is None else split(self.in_proj_bias, 3)
        q, k, v = (linear(x, w, b) for x, w, b in zip(inputs, maps, biases, strict=True))
        if self.bias_k is not None:
            k, v = self._with_row(k, self.bias_k), self._with_row(v, self.bias_v)
        if self.add_zero_attn:
            zero = np.zeros((1, 1, self.embed_dim), k.dtype)
            k, v = self._with_row(k, zero), self._with_row(v, zero)
        return self._heads(q), self._heads(k), self._heads(v)

    def _with_row(self, x: Tensor, row: Any) -> Tensor:
        """(N, S, E), (1, 1, E) -> (N, S + 1, E)."""
        return concat([x, broadcast_to(row, (x.shape[0], 1, self.embed_dim))], 1)

    def _heads(self, x: Tensor) -> Tensor:
        """(N, S, E) -> (N, H, S, d)."""
        return swapaxes(reshape(x, (*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads)), 1, 2)

    def _masks(
        self, padding: Any, mask: Any, shape: tuple[int, ...], keys: int, causal: bool
    ) -> tuple[np.ndarray | None, Tensor | None]:
        """PyTorch's masks as those of `attention`: which keys are seen, and what is added to the scores.

        `keys` counts those of the input, shape[-1], and the extra ones, which all queries see.
        """
        batch, heads, length, own = shape
        seen: list[Tensor] = []
        bias: list[Tensor] = []
        for given, full in ((padding, (batch, 1, 1, own)), (mask, None)):
            if given is None:
                continue
            given = as_tensor(given)
            given = reshape(given, full or ((batch, heads, length, own) if given.ndim == 3 else (1, 1, length, own)))
            (seen if given.dtype == bool else bias).append(given)
        if causal:
            seen.append(Tensor(~np.tri(length, own, own - length, dtype=bool)))
        extra = keys - own
        visible = None
        if seen:
            hidden = np.logical_or.reduce(np.broadcast_arrays(*[x._array for x in seen]))
            visible = np.pad(~hidden, [(0, 0)] * (hidden.ndim - 1) + [(0, extra)], constant_values=True)
        added = None
        for part in bias:
            part = concat([part, Tensor(np.zeros((*part.shape[:-1], extra), part.dtype))], -1) if extra else part
            added = part if added is None else add(added, part)
        return visible, added
