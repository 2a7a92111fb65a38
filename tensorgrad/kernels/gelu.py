"""GELU (Hendrycks and Gimpel 2016): y = x Phi(x), Phi the standard normal distribution, phi its density.

With the tail Q(x) = P(X > |x|), y = max(x, 0) - |x| Q(x): unlike x (1 + erf(x/sqrt 2)) / 2 it cancels nothing for x < 0.

    exact    dy/dx = Phi(x) + x phi(x),         Phi = Q for x < 0, else 1 - Q
    tanh     y = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3), s the sigmoid, as (1 + tanh u) / 2 = s(2u)
             dy/dx = s + x s (1 - s) 2u'

|x| is bounded where e^(-x^2/2) has long vanished, so that the limits at infinity are 0 and x, not 0 times infinity.
Memory, float32: 8 bytes an element forward, 12 backward. Arithmetic: about 35 FLOPs an element each way.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import clip, decay, logistic, normal_tail
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.rows import Array, bounds, pieces, vector

_FAR = 64


def forward(x: Array, *, approximate: str = "none") -> tuple[Array, tuple[()]]:
    """(..) -> (..);  approximate is "none" or "tanh"."""
    y = np.empty(x.shape, x.dtype)
    _forward.at(4 * x.size)(vector(x), y.reshape(-1), approximate == "tanh", pieces(x.size))
    return y, ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array, *, approximate: str = "none") -> tuple[Array]:
    """dL/dy (..) -> dL/dx (..)."""
    dx = np.empty(x.shape, x.dtype)
    _backward.at(4 * x.size)(vector(g), vector(x), dx.reshape(-1), approximate == "tanh", pieces(x.size))
    return (dx,)


@parallel
def _forward(x, y, approximate, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _forward_chunk(x[start:stop], y[start:stop], approximate)


@serial
def _forward_chunk(x, y, approximate):
    if approximate:
        for i in range(x.size):
            y[i] = _value_tanh(x[i])
    else:
        for i in range(x.size):
            y[i] = _value(x[i])


@parallel
def _backward(g, x, dx, approximate, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _backward_chunk(g[start:stop], x[start:stop], dx[start:stop], approximate)


@serial
def _backward_chunk(g, x, dx, approximate):
    if approximate:
        for i in range(x.size):
            dx[i] = g[i] * _slope_tanh(x[i])
    else:
        for i in range(x.size):
            dx[i] = g[i] * _slope(x[i])


@inline
def _value(x):
    positive = x if x > 0 else type(x)(0)
    return positive - abs(clip(x, -_FAR, _FAR)) * normal_tail(x)


@inline
def _slope(x):
    tail = normal_tail(x)
    below = tail if x < 0 else type(x)(1) - tail
    density = type(x)(0.3989422804014327) * decay(type(x)(-0.5) * (x * x))
    return below + clip(x, -_FAR, _FAR) * density


@inline
def _twice_u(x):
    return type(x)(1.5957691216057308) * (x + type(x)(0.044715) * (x * x * x))


@inline
def _value_tanh(x):
    near = clip(x, -_FAR, _FAR)
    return (x if x > _FAR else near) * logistic(_twice_u(near))


@inline
def _slope_tanh(x):
    one = type(x)(1)
    x = clip(x, -_FAR, _FAR)
    s = logistic(_twice_u(x))
    change = type(x)(1.5957691216057308) * (one + type(x)(0.134145) * (x * x))
    return s + x * (s * (one - s)) * change
