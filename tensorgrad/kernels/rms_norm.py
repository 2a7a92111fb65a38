"""Root-mean-square normalisation (Zhang and Sennrich 2019, eq. 4) of rows x of n elements: y = h w, h = x r,
r = 1 / sqrt(mean(x^2) + eps).

A row whose sum of squares leaves the safe range of float32 is summed again in float64, and normalised in it if r leaves the
range. Backward, with p = g w:  dx = r (p - h mean(p h)),  dw = sum over rows of g h, made chunk by chunk, then over the
chunks in order. norms.py has the tangents.

Memory, float32: 8 bytes an element forward, 12 backward. Arithmetic: 4 FLOPs an element forward, 11 backward.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels import norms
from tensorgrad.kernels.jit import parallel, pasted, serial
from tensorgrad.kernels.norms import deviations, single_suffices
from tensorgrad.kernels.rows import Array, add_chunks, bounds, empty, matrix, pieces, vector, zeros


def forward(x: Array, weight: Array | None = None, *, eps: float) -> tuple[Array, tuple[Array]]:
    """(.., n), (n,) -> (.., n), and what is saved: r of each row, in float64."""
    rows, y = matrix(x), empty(x.shape, x.dtype)
    weight = np.ones(x.shape[-1], x.dtype) if weight is None else vector(weight)
    rstd = empty(len(rows))
    _forward.at(2 * x.size)(rows, weight, eps, y.reshape(rows.shape), rstd, pieces(*rows.shape))
    return y, (rstd,)


def backward(g: Array, y: Array, saved: tuple[Array], x: Array, weight: Array | None = None, *, eps: float) -> tuple[Array, ...]:
    """dL/dy (.., n) -> dL/dx (.., n) and, if a weight was given, dL/dweight (n,)."""
    rows, dx = matrix(x), empty(x.shape, x.dtype)
    w = np.ones(x.shape[-1], x.dtype) if weight is None else vector(weight)
    chunks = pieces(*rows.shape)
    dw = zeros((chunks + 1, x.shape[-1]), x.dtype)
    _backward.at(3 * x.size)(matrix(g), rows, w, *saved, dx.reshape(rows.shape), dw, chunks)
    return (dx,) if weight is None else (dx, dw[0])


def tangent(
    ts: tuple[Array | None, ...], y: Array, saved: tuple[Array], x: Array, weight: Array | None = None, *, eps: float
) -> Array:
    """The tangent of y as the inputs move along ts."""
    return norms.tangent(ts, x, weight, None, *saved)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[Array],
    x: Array,
    weight: Array | None = None,
    *,
    eps: float,
) -> tuple[Array, ...]:
    """The tangents of what `backward` returns, as g moves along tg and the inputs along ts."""
    return norms.backward_tangent(tg, ts, g, x, weight, None, *saved)[: len(ts)]


@parallel
def _forward(x, weight, eps, y, rstd, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _forward_rows(x[start:stop], weight, eps, y[start:stop], rstd[start:stop])


@serial
def _forward_rows(x, weight, eps, y, rstd):
    for i in range(len(x)):
        rstd[i] = 1 / np.sqrt(_sum_of_squares(x[i]) / x.shape[1] + eps)
        if single_suffices(rstd[i]):
            _forward_row(x[i], x.dtype.type(rstd[i]), weight, y[i])
        else:
            _forward_row(x[i], rstd[i], weight, y[i])


@pasted
def _sum_of_squares(x):
    """sum x^2, in float64."""
    squares = np.float64(deviations(x, x.dtype.type(0))[1])
    return squares if 1e-25 < squares < 1e37 else deviations(x, 0.0)[1]


@pasted
def _forward_row(x, r, weight, y):
    """In the precision of r."""
    for j in range(x.size):
        y[j] = x[j] * r * weight[j]


@parallel
def _backward(g, x, weight, rstd, dx, dw, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _backward_rows(g[start:stop], x[start:stop], weight, rstd[start:stop], dx[start:stop], dw[c + 1])
    add_chunks(dw)


@serial
def _backward_rows(g, x, weight, rstd, dx, dw):
    for i in range(len(x)):
        if single_suffices(rstd[i]):
            _backward_row(g[i], x[i], x.dtype.type(rstd[i]), weight, dx[i], dw)
        else:
            _backward_row(g[i], x[i], rstd[i], weight, dx[i], dw)


@pasted
def _backward_row(g, x, r, weight, dx, dw):
    """In the precision of r."""
    along = type(r)(0)
    for j in range(x.size):
        h = x[j] * r
        along += g[j] * weight[j] * h
        dw[j] += g[j] * h
    along = type(r)(along / x.size)
    for j in range(x.size):
        dx[j] = r * (g[j] * weight[j] - x[j] * r * along)
