"""Self attention (Vaswani et al. 2017, section 3.2.2) on the joined output of one linear map: qkv (B, T, 3 C) holds, along its
last axis, H heads of q, then H of k, then H of v, each of d = C / H features; y (B, T, C) holds the H heads' results.

attention.py does the work, on strided views: q, k, v are read where they lie, and the three gradients are written into one
array, side by side. Nothing is split, copied or added, and costs are those of attention.py.
"""

from typing import Any

import numpy as np

from tensorgrad.kernels.attention import backward_into, backward_tangent_into, forward_into, tangent_into
from tensorgrad.kernels.attention_tiles import look
from tensorgrad.kernels.rows import Array, empty, or_zeros


def forward(qkv: Array, *, heads: int, **how: Any) -> tuple[Array, tuple[Array]]:
    """(B, T, 3 C) -> (B, T, C), and what is saved: log sum_j e^(scale q_i k_j), (B, H, T)."""
    batch, length, width = qkv.shape
    y = empty((batch, length, width // 3), qkv.dtype)
    if y.size == 0:
        return y, (empty((batch, heads, length)),)
    q, k, v = _qkv(qkv, heads)
    return y, (forward_into(_heads(y, heads), q, k, v, look(q, k, **how)),)


def backward(g: Array, y: Array, saved: tuple[Array], qkv: Array, *, heads: int, **how: Any) -> tuple[Array]:
    """dL/dy (B, T, C) -> dL/dqkv (B, T, 3 C)."""
    dqkv = empty(qkv.shape, qkv.dtype)
    if y.size:
        q, k, v = _qkv(qkv, heads)
        backward_into(_qkv(dqkv, heads), _heads(g, heads), _heads(y, heads), saved[0], q, k, v, look(q, k, **how))
    return (dqkv,)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[Array], qkv: Array, *, heads: int, **how: Any) -> Array:
    """The tangent of y as qkv moves along ts."""
    ty = empty(y.shape, y.dtype)
    if y.size:
        q, k, v = _qkv(qkv, heads)
        tangent_into(_heads(ty, heads), _qkv(or_zeros(ts[0], qkv), heads), saved[0], q, k, v, look(q, k, **how))
    return ty


def backward_tangent(
    tg: Array | None, ts: tuple[Array | None], g: Array, y: Array, saved: tuple[Array], qkv: Array, *, heads: int, **how: Any
) -> tuple[Array]:
    """The tangent of dL/dqkv as g moves along tg and qkv along ts."""
    dqkv = empty(qkv.shape, qkv.dtype)
    if y.size:
        q, k, v = _qkv(qkv, heads)
        moving = _heads(or_zeros(tg, g), heads), *_qkv(or_zeros(ts[0], qkv), heads)
        backward_tangent_into(_qkv(dqkv, heads), moving, _heads(g, heads), saved[0], q, k, v, look(q, k, **how))
    return (dqkv,)


def _heads(x: Array, heads: int) -> Array:
    """(B, T, C) as (B, H, T, d), a view if the last axis is contiguous."""
    return _last_contiguous(x).reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def _qkv(x: Array, heads: int) -> tuple[Array, Array, Array]:
    """(B, T, 3 C) as three of (B, H, T, d), views if the last axis is contiguous."""
    q, k, v = _last_contiguous(x).reshape(*x.shape[:2], 3, heads, x.shape[2] // 3 // heads).transpose(2, 0, 3, 1, 4)
    return q, k, v


def _last_contiguous(x: Array) -> Array:
    return x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x)
