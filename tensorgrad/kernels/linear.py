"""A linear map of rows, y = x W^T + b: one matrix product forward, two backward.

    dx = g W,   dW = g^T x,   db = sum over rows of g

For N rows, 2 N n m FLOPs forward and 4 N n m backward; x, W, y and their gradients move through memory once each.
"""

import math

import numpy as np

from tensorgrad.kernels.matmul import matmul
from tensorgrad.kernels.rows import Array


def _rows(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[()]]:
    """(.., n), (m, n), (m,) -> (.., m)."""
    y = matmul(_rows(x), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0]), ()


def backward(
    g: Array, y: Array, saved: tuple[()], x: Array, weight: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    """dL/dy -> dL/dx, dL/dW and, if there is a bias, dL/db."""
    g_rows = _rows(g)
    dx, dw = matmul(g_rows, weight).reshape(x.shape), matmul(g_rows.T, _rows(x))
    return (dx, dw) if bias is None else (dx, dw, np.sum(g_rows, axis=0))
