"""Linear maps, tables, normalisation, dropout and activations as modules.  Arguments and weight layout are PyTorch's.

Randomness is an argument: `rng` for initial weights, and for the masks of Dropout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff import stop_gradient
from ..graph import Tensor, as_tensor
from ..ops import elementwise, fused, index
from ..ops.shape import reshape
from .module import Module, Parameter

Rng = np.random.Generator | None


def uniform(rng: Rng, bound: float, *shape: int) -> Parameter:
    """A float32 Parameter with entries uniform in +-bound."""
    return Parameter((rng or np.random.default_rng()).uniform(-bound, bound, shape), dtype=np.float32)


def constant(value: float, *shape: int) -> Parameter:
    """A float32 Parameter with equal entries."""
    return Parameter(np.broadcast_to(np.float32(value), shape))


class Identity(Module):
    """y = x."""

    def forward(self, x: Any) -> Any:
        return x


class Linear(Module):
    """(.., n) -> (.., m);  y = x W^T + b.  weight (m, n) and bias (m,) start uniform in +-1/sqrt(n)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None):
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        rng = rng or np.random.default_rng()
        self.weight = uniform(rng, bound, out_features, in_features)
        self.bias = uniform(rng, bound, out_features) if bias else None

    def forward(self, x: Any, residual: Any = None) -> Tensor:
        """With a residual, that is added to y."""
        return fused.linear(x, self.weight, self.bias, residual)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}{', bias=False' if self.bias is None else ''}"


class Embedding(Module):
    """(..) integers -> (.., embedding_dim): rows of weight (num_embeddings, embedding_dim), at first standard normal.

    The row `padding_idx`, if given, starts at 0 and gets no gradient.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, rng: Rng = None):
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx must be a row of the table of {num_embeddings}, got {padding_idx}")
        rows = (rng or np.random.default_rng()).standard_normal((num_embeddings, embedding_dim), np.float32)
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        if self.padding_idx is not None and rows.flags.writeable:
            rows[self.padding_idx] = 0
        self.weight = Parameter(rows)

    def forward(self, ids: Any) -> Tensor:
        y = index.embedding(ids, self.weight)
        if self.padding_idx is None:
            return y
        padding = as_tensor(ids)._array == self.padding_idx
        return elementwise.where(padding[..., None], stop_gradient(y), y)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}{padding}"


class _Norm(Module):
    """Normalisation over the last axes, of shape `normalized_shape`, as over one axis."""

    weight: Parameter | None

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None, elementwise_affine: bool):
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.weight = constant(1.0, *self.normalized_shape) if elementwise_affine else None

    def _over_last(self, norm: Callable[..., Tensor], x: Any, *parameters: Tensor | None) -> Tensor:
        """norm(x, *parameters), which works on the last axis, over the last axes together."""
        x, axes = as_tensor(x), len(self.normalized_shape)
        if x.shape[max(x.ndim - axes, 0) :] != self.normalized_shape:
            raise ValueError(f"{type(self).__name__} over {self.normalized_shape} got a tensor of shape {x.shape}")
        if axes == 1:
            return norm(x, *parameters)
        flat = [None if p is None else reshape(p, (p.size,)) for p in parameters]
        return reshape(norm(reshape(x, (*x.shape[:-axes], math.prod(self.normalized_shape))), *flat), x.shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}{', elementwise_affine=False' if self.weight is None else ''}"


class LayerNorm(_Norm):
    """(.., n) -> (.., n);  y = (x - mean) / sqrt(var + eps) * weight + bias  (Ba et al. 2016, eq. 4)."""

    eps: float

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__(normalized_shape, eps, elementwise_affine)
        self.bias = constant(0.0, *self.normalized_shape) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        return self._over_last(lambda x, w, b: fused.layer_norm(x, w, b, self.eps), x, self.weight, self.bias)


class RMSNorm(_Norm):
    """(.., n) -> (.., n);  y = x / sqrt(mean x^2 + eps) * weight  (Zhang and Sennrich 2019, eq. 4).

    eps is the machine epsilon of x's dtype unless given.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True):
        super().__init__(normalized_shape, eps, elementwise_affine)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        eps = float(np.finfo(x.dtype).eps) if self.eps is None else self.eps
        return self._over_last(lambda x, w: fused.rms_norm(x, w, eps), x, self.weight)


class Dropout(Module):
    """y = x m / (1 - p) when training, x else; the mask comes from the rng given to the call, or to the module."""

    def __init__(self, p: float = 0.5, *, rng: Rng = None):
        if not 0 <= p <= 1:
            raise ValueError(f"dropout: p must be in [0, 1], got {p}")
        self.p = p
        self.rng = rng or np.random.default_rng()

    def forward(self, x: Any, rng: Rng = None) -> Tensor:
        return fused.dropout(x, self.p, self.training, rng or self.rng)

    def extra_repr(self) -> str:
        return f"{self.p}"


class Flatten(Module):
    """(.., a, .., b, ..) -> (.., a .. b, ..): the axes from start_dim to end_dim as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        start, end = self.start_dim % x.ndim, self.end_dim % x.ndim + 1
        return reshape(x, (*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:]))
