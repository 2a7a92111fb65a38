"""Log-softmax over the last axis: y_i = (x_i - m) - log sum_j e^(x_j - m) with m = max x.

Forward: three passes over a row that stays in the cache: the maximum; the sum of exponentials, never stored; the result.
Backward: dy_i/dx_j = 1[i = j] - e^y_j, so dx = g - e^y sum_j g_j: two passes.
Along tangents x', g', with p = e^y:  y' = x' - sum_j p_j x'_j,  so p' = p y' and

    dx' = g' - p (y' sum_j g_j + sum_j g'_j)

Memory, float32: 8 bytes an element forward, 12 backward and for y', 20 for dx'. Arithmetic: about 20 FLOPs an element each.
A row of -inf alone is nan, as IEEE arithmetic has it.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import decay, minus
from tensorgrad.kernels.jit import parallel, pasted, serial
from tensorgrad.kernels.rows import Array, bounds, by_rows, or_zeros, row_max


def forward(x: Array) -> tuple[Array, tuple[()]]:
    """(.., n) -> (.., n)."""
    return by_rows(_forward, x, work=4), ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array) -> tuple[Array]:
    """dL/dy (.., n) -> dL/dx (.., n)."""
    return (by_rows(_backward, g, y, work=4),)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[()], x: Array) -> Array:
    """The tangent of y as x moves along ts."""
    return by_rows(_tangent, or_zeros(ts[0], x), y, work=4)


def backward_tangent(tg: Array | None, ts: tuple[Array | None], g: Array, y: Array, saved: tuple[()], x: Array) -> tuple[Array]:
    """The tangent of dL/dx as g moves along tg and x along ts."""
    return (by_rows(_backward_tangent, or_zeros(tg, g), or_zeros(ts[0], x), g, y, work=4),)


@pasted
def sum_of_exponentials(x, most):
    """sum_j e^(x_j - most)."""
    total = x.dtype.type(0)
    for j in range(x.size):
        total += decay(x[j] - most)
    return total


@parallel
def _forward(x, y, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _forward_rows(x[start:stop], y[start:stop])


@serial
def _forward_rows(x, y):
    for i in range(len(x)):
        _forward_row(x[i], y[i])


@pasted
def _forward_row(x, y):
    most = row_max(x)
    normalizer = x.dtype.type(np.log(sum_of_exponentials(x, most)))
    for j in range(x.size):
        y[j] = minus(x[j], most, normalizer)


@parallel
def _backward(g, y, dx, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(g))
        _backward_rows(g[start:stop], y[start:stop], dx[start:stop])


@serial
def _backward_rows(g, y, dx):
    for i in range(len(g)):
        _backward_row(g[i], y[i], dx[i])


@pasted
def _backward_row(g, y, dx):
    total = y.dtype.type(0)
    for j in range(y.size):
        total += g[j]
    for j in range(y.size):
        dx[j] = g[j] - decay(y[j]) * total


@parallel
def _tangent(t, y, ty, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(t))
        _tangent_rows(t[start:stop], y[start:stop], ty[start:stop])


@serial
def _tangent_rows(t, y, ty):
    for i in range(len(t)):
        _tangent_row(t[i], y[i], ty[i])


@pasted
def _tangent_row(t, y, ty):
    mean = y.dtype.type(0)
    for j in range(y.size):
        mean += decay(y[j]) * t[j]
    for j in range(y.size):
        ty[j] = t[j] - mean


@parallel
def _backward_tangent(tg, t, g, y, dx, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(g))
        _backward_tangent_rows(tg[start:stop], t[start:stop], g[start:stop], y[start:stop], dx[start:stop])


@serial
def _backward_tangent_rows(tg, t, g, y, dx):
    for i in range(len(g)):
        _backward_tangent_row(tg[i], t[i], g[i], y[i], dx[i])


@pasted
def _backward_tangent_row(tg, t, g, y, dx):
    mean, total, change = y.dtype.type(0), y.dtype.type(0), y.dtype.type(0)
    for j in range(y.size):
        p = decay(y[j])
        mean += p * t[j]
        total += g[j]
        change += tg[j]
        dx[j] = p
    for j in range(y.size):
        dx[j] = tg[j] - dx[j] * ((t[j] - mean) * total + change)
