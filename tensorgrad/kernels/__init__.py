"""Numba kernels: plain functions on arrays, one file per op, forward above backward.  No Tensor, no graph."""

from . import (
    adamw,
    attention,
    cross_entropy,
    elementwise,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    matmul,
    rms_norm,
    scatter,
    self_attention,
    silu,
    softmax,
)

__all__ = [
    "adamw",
    "attention",
    "cross_entropy",
    "elementwise",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "rms_norm",
    "scatter",
    "self_attention",
    "silu",
    "softmax",
]
