"""SiLU, or swish (Elfwing, Uchibe and Doya 2017): y = x s(x) with s the sigmoid;  dy/dx = s (1 + x (1 - s)).

    d2y/dx2 = s (1 - s) (2 + x (1 - 2s)) = s (1 - s) (2 - |x| |1 - 2s|)

Along tangents x', g':  y' = x' dy/dx,  and of dx = g dy/dx:  dx' = g' dy/dx + g x' d2y/dx2.

y is within 3 units in the last place in float32 where it is at least 1e-36; the sigmoid corrected for what 1 + e^-|x| and the
quotient lose gives 2.2 in 1.5 times the time, without the quotient's share 3.1 in 1.4 times.

|x| is bounded where the sigmoid is exactly 0 or 1, so that the limits at infinity are 0 and x, not 0 times infinity.
Memory, float32: 8 bytes an element forward, 12 backward, 20 its tangent. Arithmetic: about 30 FLOPs an element each.
"""

from numba import prange

from tensorgrad.kernels.functions import clip, decay, logistic, logistic_bend
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.rows import Array, bounds, empty, or_zeros, pieces, vector

_FAR = 1000


def forward(x: Array) -> tuple[Array, tuple[()]]:
    """(..) -> (..)."""
    y = empty(x.shape, x.dtype)
    _forward.at(4 * x.size)(vector(x), y.reshape(-1), pieces(x.size))
    return y, ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array) -> tuple[Array]:
    """dL/dy (..) -> dL/dx (..)."""
    dx = empty(x.shape, x.dtype)
    _backward.at(4 * x.size)(vector(g), vector(x), dx.reshape(-1), pieces(x.size))
    return (dx,)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[()], x: Array) -> Array:
    """The tangent of y as x moves along ts."""
    return backward(or_zeros(ts[0], x), y, saved, x)[0]


def backward_tangent(tg: Array | None, ts: tuple[Array | None], g: Array, y: Array, saved: tuple[()], x: Array) -> tuple[Array]:
    """The tangent of dL/dx as g moves along tg and x along ts."""
    dx = empty(x.shape, x.dtype)
    tg, t = vector(or_zeros(tg, g)), vector(or_zeros(ts[0], x))
    _backward_tangent.at(4 * x.size)(tg, t, vector(g), vector(x), dx.reshape(-1), pieces(x.size))
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


@parallel
def _backward_tangent(tg, t, g, x, dx, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _backward_tangent_chunk(tg[start:stop], t[start:stop], g[start:stop], x[start:stop], dx[start:stop])


@serial
def _backward_tangent_chunk(tg, t, g, x, dx):
    for i in range(x.size):
        dx[i] = tg[i] * _slope(x[i]) + g[i] * t[i] * _bend(x[i])


@inline
def _value(x):
    """One division: x / (1 + e) for x >= 0, x e / (1 + e) below, e = e^-|x|."""
    near = type(x)(-_FAR) if x < -_FAR else x
    e = decay(-abs(near))
    return (near * e if x < 0 else x) / (type(x)(1) + e)


@inline
def _slope(x):
    one = type(x)(1)
    x = clip(x, -_FAR, _FAR)
    s = logistic(x)
    return s * (one + x * (one - s))


@inline
def _bend(x):
    x = clip(x, -_FAR, _FAR)
    steep, side = logistic_bend(x)
    return steep * (type(x)(2) - abs(x) * side)
