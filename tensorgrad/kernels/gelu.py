"""GELU (Hendrycks and Gimpel 2016): y = x Phi(x), Phi the standard normal distribution, phi its density.

With the tail Q(x) = P(X > |x|), y = max(x, 0) - |x| Q(x): unlike x (1 + erf(x/sqrt 2)) / 2 it cancels nothing for x < 0.

    exact    dy/dx = Phi(x) + x phi(x),         Phi = Q for x < 0, else 1 - Q
    tanh     y = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3), s the sigmoid, as (1 + tanh u) / 2 = s(2u)
             dy/dx = s + x s (1 - s) 2u'

The second derivative is even, and for tanh computed from |x| so that 1 - 2s does not cancel:

    exact    d2y/dx2 = (2 - x^2) phi(x)
    tanh     d2y/dx2 = s (1 - s) (4u' - |x| |1 - 2s| (2u')^2 + x 2u'')

Along tangents x', g':  y' = x' dy/dx,  and of dx = g dy/dx:  dx' = g' dy/dx + g x' d2y/dx2.

In float32 the exact y is within 37 units in the last place for -6 < x < 0, where that of x^2 is lost and the tail's polynomial
is good to 1e-6, and within 2.4e-7 everywhere. Keeping what x^2 loses, with a ratio of polynomials of degree 4 and 5 or one
polynomial of degree 9 for the tail, gives 5 to 6 units and takes 13 to 22% longer; degrees 4 and 4, 7 units and 9% longer.

|x| is bounded where e^(-x^2/2) has long vanished, so that the limits at infinity are 0 and x, not 0 times infinity.
Memory, float32: 8 bytes an element forward, 12 backward, 20 its tangent. Arithmetic: about 35 FLOPs an element each.
"""

from numba import prange

from tensorgrad.kernels.functions import clip, decay, logistic, logistic_bend, normal_tail, weighted_tail
from tensorgrad.kernels.jit import inline, parallel, serial
from tensorgrad.kernels.rows import Array, bounds, empty, or_zeros, pieces, put, vector

READS_RESULT = False
OVERWRITES = 0

_FAR = 64
_MANY = 4096  # fewer numbers are not worth saving, and may lie where loops that write over them would not be vectorised


def forward(x: Array, *, approximate: str = "none") -> tuple[Array, tuple[()]]:
    """(..) -> (..);  approximate is "none" or "tanh"."""
    y = empty(x.shape, x.dtype)
    _forward.at(4 * x.size)(vector(x), y.reshape(-1), approximate == "tanh", pieces(x.size))
    return y, ()


def backward(
    g: Array, y: Array, saved: tuple[()], x: Array, *, approximate: str = "none", overwrite: bool = False
) -> tuple[Array]:
    """dL/dy (..) -> dL/dx (..), in the memory of x if that may be overwritten."""
    dx = vector(x) if overwrite and x.size >= _MANY else empty(x.size, x.dtype)
    _backward.at(4 * x.size)(vector(g), vector(x), dx, approximate == "tanh", pieces(x.size))
    return (dx.reshape(x.shape),)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[()], x: Array, *, approximate: str = "none") -> Array:
    """The tangent of y as x moves along ts."""
    return backward(or_zeros(ts[0], x), y, saved, x, approximate=approximate)[0]


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None],
    g: Array,
    y: Array,
    saved: tuple[()],
    x: Array,
    *,
    approximate: str = "none",
) -> tuple[Array]:
    """The tangent of dL/dx as g moves along tg and x along ts."""
    dx = empty(x.shape, x.dtype)
    tg, t = vector(or_zeros(tg, g)), vector(or_zeros(ts[0], x))
    _backward_tangent.at(4 * x.size)(tg, t, vector(g), vector(x), dx.reshape(-1), approximate == "tanh", pieces(x.size))
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
        if dx.ctypes.data != x.ctypes.data:
            put(x[start:stop], dx[start:stop])
        _backward_chunk(g[start:stop], dx[start:stop], approximate)


@serial
def _backward_chunk(g, x, approximate):
    """The gradient in the place of x."""
    if approximate:
        for i in range(x.size):
            x[i] = g[i] * _slope_tanh(x[i])
    else:
        for i in range(x.size):
            x[i] = g[i] * _slope(x[i])


@parallel
def _backward_tangent(tg, t, g, x, dx, approximate, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _backward_tangent_chunk(tg[start:stop], t[start:stop], g[start:stop], x[start:stop], dx[start:stop], approximate)


@serial
def _backward_tangent_chunk(tg, t, g, x, dx, approximate):
    if approximate:
        for i in range(x.size):
            dx[i] = tg[i] * _slope_tanh(x[i]) + g[i] * t[i] * _bend_tanh(x[i])
    else:
        for i in range(x.size):
            dx[i] = tg[i] * _slope(x[i]) + g[i] * t[i] * _bend(x[i])


@inline
def _value(x):
    positive = x if x > 0 else type(x)(0)
    return positive - weighted_tail(x)


@inline
def _slope(x):
    tail = normal_tail(x)
    below = tail if x < 0 else type(x)(1) - tail
    return below + clip(x, -_FAR, _FAR) * _density(x)


@inline
def _bend(x):
    near = clip(x, -_FAR, _FAR)
    return (type(x)(2) - near * near) * _density(x)


@inline
def _density(x):
    return type(x)(0.3989422804014327) * decay(type(x)(-0.5) * (x * x))


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
    return s + x * (s * (one - s)) * _twice_u_slope(x)


@inline
def _bend_tanh(x):
    x = clip(x, -_FAR, _FAR)
    steep, side = logistic_bend(_twice_u(x))
    change = _twice_u_slope(x)
    return steep * (change * (type(x)(2) - abs(x) * side * change) + type(x)(0.42812889763560147) * (x * x))


@inline
def _twice_u_slope(x):
    return type(x)(1.5957691216057308) * (type(x)(1) + type(x)(0.134145) * (x * x))
