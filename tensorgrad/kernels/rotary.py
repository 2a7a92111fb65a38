"""Rotary positions (Su et al. 2021, eq. 15): each pair of features (a, b) of the vector at position t is turned by an angle,

    y = (a cos - b sin, b cos + a sin)

Pairs are (i, i + d/2), or (2i, 2i + 1) when interleaved. A rotation's adjoint turns back: the same with -sin. It is linear, so
its tangent is itself. FLOPs: 3 an entry. Memory: x and y once; the tables (T, d/2) stay in the cache.
"""

import math
from typing import Any

import numpy as np
from numba import prange, types

from tensorgrad.kernels.jit import parallel, serial
from tensorgrad.kernels.rows import Array, bounds, contiguous, empty, or_zeros, pieces
from tensorgrad.kernels.views import vector_at


def forward(x: Array, *, cos: Array, sin: Array, interleaved: bool) -> tuple[Array, tuple[()]]:
    """(.., T, d), tables (T, d/2) of x's dtype -> (.., T, d).  x is copied only if its last axis is not contiguous."""
    y = empty(x.shape, x.dtype)
    if y.size:
        x4, y4 = _four_axes(x), _four_axes(y)
        chunks = pieces(x.size // x.shape[-1], x.shape[-1])
        _turn[x.dtype].at(4 * x.size)(x4, y4, contiguous(cos), contiguous(sin), interleaved, chunks)
    return y, ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array, *, cos: Array, sin: Array, interleaved: bool) -> tuple[Array]:
    """dL/dx: dL/dy turned back."""
    return (forward(g, cos=cos, sin=-sin, interleaved=interleaved)[0],)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[()], x: Array, **how: Any) -> Array:
    """x' turned."""
    return forward(or_zeros(ts[0], x), **how)[0]


def backward_tangent(
    tg: Array | None, ts: tuple[Array | None], g: Array, y: Array, saved: tuple[()], x: Array, **how: Any
) -> tuple[Array]:
    """g' turned back."""
    return backward(or_zeros(tg, g), y, saved, x, **how)


def _four_axes(x: Array) -> Array:
    """x as (.., .., T, d), any strides but a contiguous last axis."""
    x = x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x)
    return x if x.ndim == 4 else x.reshape(1, math.prod(x.shape[:-2]), *x.shape[-2:])


def _share(x, y, cos, sin, interleaved, chunks):
    rows = x.shape[0] * x.shape[1] * x.shape[2]
    for c in prange(chunks):
        start, stop = bounds(c, chunks, rows)
        _turn_rows(x, y, cos, sin, interleaved, start, stop)


def _signature(element: types.Float) -> tuple:
    """Arrays of any strides."""
    array, table = types.Array(element, 4, "A", readonly=True, aligned=False), types.Array(element, 2, "C")
    return array, array, table, table, types.boolean, types.int64


_turn = {np.dtype(str(element)): parallel(_share, _signature(element)) for element in (types.float32, types.float64)}


@serial
def _turn_rows(x, y, cos, sin, interleaved, start, stop):
    for row in range(start, stop):
        rest, t = divmod(row, x.shape[2])
        b, h = divmod(rest, x.shape[1])
        source, target = vector_at(x, b, h, t, cos[0, 0]), vector_at(y, b, h, t, cos[0, 0])
        if interleaved:
            _turn_neighbours(source, target, cos[t], sin[t])
        else:
            half = source.size // 2
            _turn_halves(source[:half], source[half:], target[:half], target[half:], cos[t], sin[t])


@serial
def _turn_halves(a, b, y, z, cos, sin):
    for i in range(a.size):
        y[i] = a[i] * cos[i] - b[i] * sin[i]
        z[i] = b[i] * cos[i] + a[i] * sin[i]


@serial
def _turn_neighbours(x, y, cos, sin):
    for i in range(cos.size):
        a, b = x[2 * i], x[2 * i + 1]
        y[2 * i] = a * cos[i] - b * sin[i]
        y[2 * i + 1] = b * cos[i] + a * sin[i]
