"""A linear map added to what it branched off from, y = r + x W^T + b: r is added as the product is stored, in no pass of its own.

    dr = g,   the other gradients are those of linear.py

The cost is that of linear.py, and r is read once. dr is g's own memory.
"""

from collections.abc import Sequence

import numpy as np

from tensorgrad.kernels import linear
from tensorgrad.kernels.matmul import matmul
from tensorgrad.kernels.rows import Array, matrix, or_zeros

READS_RESULT = False
OVERWRITES = 1


def forward(residual: Array, x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[()]]:
    """(.., m), (.., n), (m, n), (m,) -> (.., m)."""
    y = matmul(linear.as_rows(x), weight.T, bias=bias, residual=matrix(residual))
    return y.reshape(residual.shape), ()


def backward(
    g: Array,
    y: Array,
    saved: tuple[()],
    residual: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    wanted: Sequence[bool] = (True,) * 4,
    overwrite: bool = False,
) -> tuple[Array | None, ...]:
    """dL/dy -> dL/dr, which is it itself, dL/dx, in the memory of x if that may be overwritten, dL/dW and, if there is a bias,
    dL/db; None for those not wanted."""
    return g, *linear.backward(g, y, saved, x, weight, bias, wanted=wanted[1:], overwrite=overwrite)


def tangent(
    ts: tuple[Array | None, ...],
    y: Array,
    saved: tuple[()],
    residual: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
) -> Array:
    """The tangent of y as the inputs move along ts, each None or of its input's shape."""
    ty = linear.tangent(ts[1:], y, saved, x, weight, bias)
    return ty if ts[0] is None else np.add(ty, ts[0], out=ty)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[()],
    residual: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    """The tangents of the gradients, as g moves along tg and the inputs along ts."""
    return or_zeros(tg, g), *linear.backward_tangent(tg, ts[1:], g, y, saved, x, weight, bias)
