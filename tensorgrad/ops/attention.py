"""Attention, its masks and its positions."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import kernels, random
from ..graph import Tensor, as_tensor
from .elementwise import exp, where
from .fused import _softmax, dropout_seed
from .kinds import fused
from .linalg import _matmul
from .reduce import sum
from .shape import _reshape, broadcasts_to, concat, matrix_transpose, swapaxes

Rng = np.random.Generator | None


@fused(kernels.attention)
def _attention(q, k, v, *, causal, scale, mask=None, bias=None, p=0.0, seed=0):
    """(B, H, T, d), (B, G, S, d), (B, G, S, e) -> (B, H, T, e);  y = softmax(scale q k^T + bias) v."""
    bias = None if bias is None else Tensor(bias)
    return _attend(q, k, v, bias, causal, scale, mask, p, seed)


@fused(kernels.biased_attention)
def _biased_attention(q, k, v, bias, *, causal, scale, mask=None, p=0.0, seed=0):
    """(B, H, T, d), (B, G, S, d), (B, G, S, e), a bias -> (B, H, T, e);  y = softmax(scale q k^T + bias) v."""
    return _attend(q, k, v, bias, causal, scale, mask, p, seed)


def _attend(q, k, v, bias, causal, scale, mask, p, seed) -> Tensor:
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
    weights = _masked_softmax(scores, _visible(scores.shape, mask, causal))
    if p:
        kept = random.kept(p, batch * heads * queries, keys, seed).reshape(scores.shape)
        weights = where(kept, weights * (1 / random.rate_kept(p)), 0.0)
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
    scores = (*q.shape[:3], k.shape[2])
    how = _how(scores, causal, 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale), mask, dropout_p, rng)
    if bias is not None:
        bias = _fitting_bias(bias, q, scores)
        if not _constant(bias, q):
            return _finished(_biased_attention(q, k, v, bias, **how), dropout_p)
        how["bias"] = bias._array
    return _finished(_attention(q, k, v, **how), dropout_p)


def _how(scores: tuple[int, ...], causal: bool, scale: float, mask: Any, p: float, rng: Rng) -> dict[str, Any]:
    """What decides how queries look at keys: only what there is of it."""
    how: dict[str, Any] = {"causal": bool(causal), "scale": scale}
    if mask is not None:
        mask = np.asarray(mask._array if isinstance(mask, Tensor) else mask)
        if mask.dtype != bool:
            raise TypeError(f"attention: mask must be booleans, True where a key is seen, got {mask.dtype}; numbers are a `bias`")
        if not broadcasts_to(mask.shape, scores):
            raise ValueError(f"attention: a mask of shape {mask.shape} does not broadcast to the scores (B, H, T, S), {scores}")
        how["mask"] = mask
    if not 0 <= p <= 1:
        raise ValueError(f"attention: dropout_p must be in [0, 1], got {p}")
    return how | {"p": float(p), "seed": dropout_seed(rng)} if 0 < p < 1 else how


def _fitting_bias(bias: Any, q: Tensor, scores: tuple[int, ...]) -> Tensor:
    bias = as_tensor(bias, [q])
    if not broadcasts_to(bias.shape, scores):
        raise ValueError(f"attention: a bias of shape {bias.shape} does not broadcast to the scores (B, H, T, S), {scores}")
    return bias


def _constant(bias: Tensor, q: Tensor) -> bool:
    """Whether no derivative with respect to the bias can be asked for, and the kernel can read it."""
    return not bias.requires_grad and bias.dtype == q.dtype


def _finished(y: Tensor, p: float) -> Tensor:
    """What is left of y when all weights are dropped."""
    return where(np.False_, y, 0.0) if p == 1 else y


@fused(kernels.self_attention)
def _self_attention(qkv, *, heads, causal, scale, mask=None, bias=None, p=0.0, seed=0):
    """(B, T, 3 C) -> (B, T, C), H heads of C / H features."""
    bias = None if bias is None else Tensor(bias)
    return _merge_heads(_attend(*_split_heads(qkv, heads), bias, causal, scale, mask, p, seed))


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
    batch, length, width = qkv.shape
    scores = (batch, heads, length, length)
    bias = None if bias is None else _fitting_bias(bias, qkv, scores)
    if bias is not None and not _constant(bias, qkv):
        q, k, v = _split_heads(qkv, heads)
        return _merge_heads(attention(q, k, v, mask, bias, causal, scale, dropout_p, rng))
    how = _how(scores, causal, 1 / math.sqrt(width // (3 * heads)) if scale is None else float(scale), mask, dropout_p, rng)
    if bias is not None:
        how["bias"] = bias._array
    return _finished(_self_attention(qkv, heads=heads, **how), dropout_p)


@fused(kernels.rotary)
def _rotary(x, *, cos, sin, interleaved):
    """(.., T, d) -> (.., T, d);  each pair (a, b) becomes (a cos - b sin, b cos + a sin)."""
    half = x.shape[-1] // 2
    if interleaved:
        pairs = _reshape(x, shape=(*x.shape[:-1], half, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        turned = [_reshape(part, shape=(*part.shape, 1)) for part in (a * cos - b * sin, b * cos + a * sin)]
        return _reshape(concat(turned, -1), shape=x.shape)
    a, b = x[..., :half], x[..., half:]
    return concat([a * cos - b * sin, b * cos + a * sin], -1)


def rotary(x: Any, positions: Any = None, base: float = 10000.0, interleaved: bool = False) -> Tensor:
    """(.., T, d) -> (.., T, d), each pair of features turned by the angle t / base^(2i/d) at position t (Su et al. 2021, eq. 15).

    Pairs are (i, i + d/2), or (2i, 2i + 1) when interleaved.  `positions` (T,) are 0, 1, .. unless given.  Raises ValueError for
    an odd d or positions of another shape.
    """
    x = as_tensor(x)
    length, d = x.shape[-2:]
    if d % 2:
        raise ValueError(f"rotary needs an even number of features, got {d}")
    places = np.arange(length) if positions is None else np.asarray(positions)
    if places.shape != (length,):
        raise ValueError(f"rotary: expected positions of shape ({length},), one for each vector, got {places.shape}")
    cos, sin = _turns(places, d, base, x.dtype)
    return _rotary(x, cos=cos, sin=sin, interleaved=bool(interleaved))


def _turns(positions: np.ndarray, d: int, base: float, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of position / base^(2i/d), (T, d/2) each; those of the last few sets of positions are kept."""
    return _kept_turns(positions.tobytes(), positions.dtype, d, base, dtype)


@functools.lru_cache(maxsize=16)
def _kept_turns(positions: bytes, kind: np.dtype, d: int, base: float, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    angles = np.multiply.outer(np.frombuffer(positions, kind), base ** (-np.arange(0, d, 2) / d))
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
