"""SiLU, or swish (Elfwing, Uchibe and Doya 2017): y = x s(x) with s the sigmoid;  dy/dx = s (1 + x (1 - s)).

|x| is bounded where the sigmoid is exactly 0 or 1, so that the limits at infinity are 0 and x, not 0 times infinity.
Memory, float32: 8 bytes an element forward, 12 backward. Arithmetic: about 30 FLOPs an element each way.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import clip, logistic
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.rows import Array, bounds, pieces, vector

_FAR = 1000


def forward(x: Array) -> tuple[Array, tuple[()]]:
    """(..) -> (..)."""
    y = np.empty(x.shape, x.dtype)
    _forward.at(4 * x.size)(vector(x), y.reshape(-1), pieces(x.size))
    return y, ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array) -> tuple[Array]:
    """dL/dy (..) -> dL/dx (..)."""
    dx = np.empty(x.shape, x.dtype)
    _backward.at(4 * x.size)(vector(g), vector(x), dx.reshape(-1), pieces(x.size))
    return (dx,)


@parallel
def _forward(x, y, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _forward_chunk(x[start:stop], y[start:stop])


@serial
def _forward_chunk(x, y):
    for i in range(x.size):
        y[i] = _value(x[i])


@parallel
def _backward(g, x, dx, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _backward_chunk(g[start:stop], x[start:stop], dx[start:stop])


@serial
def _backward_chunk(g, x, dx):
    for i in range(x.size):
        dx[i] = g[i] * _slope(x[i])


@inline
def _value(x):
    near = clip(x, -_FAR, _FAR)
    return (x if x > _FAR else near) * logistic(near)


@inline
def _slope(x):
    one = type(x)(1)
    x = clip(x, -_FAR, _FAR)
    s = logistic(x)
    return s * (one + x * (one - s))
