"""Attention, its masks and its positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..graph import Tensor, as_tensor
from .elementwise import exp, where
from .fused import _softmax, dropout
from .kinds import fused
from .linalg import _matmul
from .reduce import sum
from .shape import _reshape, broadcasts_to, concat, matrix_transpose, swapaxes

Rng = np.random.Generator | None


@fused(kernels.attention)
def _attention(q, k, v, *, causal, scale):
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e);  y = softmax(scale q k^T) v."""
    return _attend(q, k, v, None, None, causal, scale, 0.0, None)


def _attend(q, k, v, bias, mask, causal, scale, dropout_p, rng) -> Tensor:
    batch, heads, queries, _ = q.shape
    groups, keys, width = k.shape[1], k.shape[2], v.shape[3]
    grouped = (batch, groups, heads // groups, queries)  # each key and value serves several heads
    k, v = (_reshape(x, shape=(batch, groups, 1, keys, x.shape[3])) for x in (k, v))
    scores = _matmul(_reshape(q, shape=(*grouped, q.shape[3])), matrix_transpose(k)) * scale
    scores = _reshape(scores, shape=(batch, heads, queries, keys))
    if bias is not None:
        scores = scores + bias
        hidden = scores._array == -math.inf
        mask = _and(mask, ~hidden) if hidden.any() else mask
    weights = dropout(_masked_softmax(scores, _visible(scores.shape, mask, causal)), dropout_p, rng=rng)
    y = _matmul(_reshape(weights, shape=(*grouped, keys)), v)
    return _reshape(y, shape=(batch, heads, queries, width))


def _visible(shape: tuple[int, ...], mask: np.ndarray | None, causal: bool) -> np.ndarray | None:
    """Which keys each query sees: True in `mask`, and when causal none later than itself, the last query seeing all."""
    return _and(mask, np.tri(shape[-2], shape[-1], shape[-1] - shape[-2], dtype=bool)) if causal else mask


def _and(mask: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    return other if mask is None else mask & other


def _masked_softmax(scores: Tensor, seen: np.ndarray | None) -> Tensor:
    """Softmax over the entries that are seen; a row that sees nothing is 0, with derivative 0."""
    if seen is None:
        return _softmax(scores)
    top = np.max(scores._array, -1, keepdims=True, where=np.broadcast_to(seen, scores.shape), initial=-np.inf)
    top = Tensor(np.where(np.isfinite(top), top, 0).astype(scores.dtype))
    e = where(seen, exp(where(seen, scores, top) - top), 0.0)
    total = sum(e, -1, keepdims=True)
    return e / where(total._array == 0, 1.0, total)


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Rng = None,
) -> Tensor:
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e);  y = softmax(scale q k^T + bias) v  (Vaswani et al. 2017, eq. 1).

    G divides H: each key head serves H/G query heads.  `mask` (booleans, broadcast to (B, H, T, S)) is True where a query sees
    a key; `causal` hides keys later than the query, the last query seeing all; a query that sees nothing gives 0.  `bias` is
    added to the scores, and hides where it is -inf.  scale is 1/sqrt(d) unless given.
    """
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    if (
        q.ndim != 4
        or k.ndim != 4
        or v.ndim != 4
        or q.shape[-1] != k.shape[-1]
        or k.shape[:3] != v.shape[:3]
        or q.shape[0] != k.shape[0]
        or k.shape[1] == 0
        or q.shape[1] % k.shape[1]
    ):
        raise ValueError(f"attention: q {q.shape}, k {k.shape}, v {v.shape} are not (B, H, T, d), (B, G, S, d), (B, G, S, e)")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if mask is None and bias is None and not dropout_p:
        return _attention(q, k, v, causal=bool(causal), scale=scale)
    if mask is not None:
        mask = np.asarray(mask._array if isinstance(mask, Tensor) else mask)
        if mask.dtype != bool:
            raise TypeError(f"attention: mask must be booleans, True where a key is seen, got {mask.dtype}; numbers are a `bias`")
        if not broadcasts_to(mask.shape, scores := (*q.shape[:3], k.shape[2])):
            raise ValueError(f"attention: a mask of shape {mask.shape} does not broadcast to the scores (B, H, T, S), {scores}")
    return _attend(q, k, v, bias, mask, causal, scale, dropout_p, rng)


@fused(kernels.self_attention)
def _self_attention(qkv, *, heads, causal, scale):
    """(B, T, 3 C) -> (B, T, C), H heads of C / H features."""
    return _merge_heads(_attend(*_split_heads(qkv, heads), None, None, causal, scale, 0.0, None))


def _split_heads(qkv: Tensor, heads: int) -> list[Tensor]:
    """(B, T, 3 C) -> q, k and v, (B, H, T, C / H) each."""
    batch, length, width = qkv.shape
    parts = _reshape(qkv, shape=(batch, length, 3, heads, width // (3 * heads)))
    return [swapaxes(parts[:, :, i], 1, 2) for i in range(3)]


def _merge_heads(y: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, H d)."""
    batch, heads, length, d = y.shape
    return _reshape(swapaxes(y, 1, 2), shape=(batch, length, heads * d))


def self_attention(
    qkv: Any,
    heads: int,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Rng = None,
) -> Tensor:
    """(B, T, 3 C) -> (B, T, C): `attention` of a sequence to itself, q, k and v being the thirds of the last axis, by heads.

    The arguments are those of `attention`.  Raises ValueError if the last axis does not divide by 3 heads.
    """
    qkv = as_tensor(qkv)
    if qkv.ndim != 3 or qkv.shape[2] % (3 * heads):
        raise ValueError(f"self_attention: qkv {qkv.shape} is not (B, T, 3 C) with C divisible by {heads} heads")
    if mask is None and bias is None and not dropout_p:
        scale = 1 / math.sqrt(qkv.shape[2] // (3 * heads)) if scale is None else float(scale)
        return _self_attention(qkv, heads=heads, causal=bool(causal), scale=scale)
    q, k, v = _split_heads(qkv, heads)
    return _merge_heads(attention(q, k, v, mask, bias, causal, scale, dropout_p, rng))


def rotary(x: Any, positions: Any = None, base: float = 10000.0, interleaved: bool = False) -> Tensor:
    """(.., T, d) -> (.., T, d), each pair of features turned by the angle t / base^(2i/d) at position t (Su et al. 2021, eq. 15).

    Pairs are (i, i + d/2), or (2i, 2i + 1) when interleaved.  `positions` (T,) are 0, 1, .. unless given.
    """
    x = as_tensor(x)
    length, d = x.shape[-2:]
    if d % 2:
        raise ValueError(f"rotary needs an even number of features, got {d}")
    places = np.arange(length) if positions is None else np.asarray(positions)
    angles = np.multiply.outer(places, base ** (-np.arange(0, d, 2) / d))
    cos, sin = Tensor(np.cos(angles).astype(x.dtype)), Tensor(np.sin(angles).astype(x.dtype))
    if interleaved:
        pairs = _reshape(x, shape=(*x.shape[:-1], d // 2, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        turned = [_reshape(part, shape=(*part.shape, 1)) for part in (a * cos - b * sin, b * cos + a * sin)]
        return _reshape(concat(turned, -1), shape=x.shape)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return concat([a * cos - b * sin, b * cos + a * sin], -1)
