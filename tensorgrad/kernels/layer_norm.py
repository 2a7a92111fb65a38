"""Layer normalisation (Ba, Kiros and Hinton 2016, eq. 4) of rows x of n elements: y = h w + b, h = (x - mean) r,
r = 1 / sqrt(variance + eps).

Moments: with any shift c near the mean, s = sum (x - c) and q = sum (x - c)^2 give mean = c + s/n and variance
= (q - s^2/n) / n. c is the mean as first computed, so s only collects what rounding lost, however large the mean.
The mean is kept in float64 and subtracted in two float32 parts. A row whose q leaves the safe range of float32 is summed
again in float64, and normalised in it if r leaves the range: rows of 1e30 and of 1e-30 come out right.

Backward, with p = g w:  dx = r (p - mean(p) - h mean(p h)),  dw = sum over rows of g h,  db = sum over rows of g.
The sums over rows are made chunk by chunk, then over the chunks in order. norms.py has the tangents.

Memory, float32: 8 bytes an element forward, 12 backward (a row is read three and two times, from the cache).
Arithmetic: 9 FLOPs an element forward, 16 backward.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels import norms
from tensorgrad.kernels.functions import minus
from tensorgrad.kernels.jit import inline, parallel, pasted, serial
from tensorgrad.kernels.norms import deviations, parts, single_suffices
from tensorgrad.kernels.rows import Array, add_chunks, bounds, empty, matrix, pieces, vector, zeros


def forward(x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float) -> tuple[Array, tuple[Array, Array]]:
    """(.., n), (n,), (n,) -> (.., n), and what is saved: mean and r of each row, in float64."""
    rows, y = matrix(x), empty(x.shape, x.dtype)
    weight = np.ones(x.shape[-1], x.dtype) if weight is None else vector(weight)
    bias = zeros(x.shape[-1], x.dtype) if bias is None else vector(bias)
    mean, rstd = empty((2, len(rows)))
    _forward.at(2 * x.size)(rows, weight, bias, eps, y.reshape(rows.shape), mean, rstd, pieces(*rows.shape))
    return y, (mean, rstd)


def backward(
    g: Array,
    y: Array,
    saved: tuple[Array, Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float,
) -> tuple[Array, ...]:
    """dL/dy (.., n) -> dL/dx (.., n) and, for those that were given, dL/dweight (n,) and dL/dbias (n,)."""
    rows, dx = matrix(x), empty(x.shape, x.dtype)
    w = np.ones(x.shape[-1], x.dtype) if weight is None else vector(weight)
    chunks = pieces(*rows.shape)
    dw, db = zeros((2, chunks + 1, x.shape[-1]), x.dtype)
    _backward.at(3 * x.size)(matrix(g), rows, w, *saved, dx.reshape(rows.shape), dw, db, chunks)
    given = 1 + (weight is not None) + (bias is not None)
    return (dx, dw[0], db[0])[:given]


def tangent(
    ts: tuple[Array | None, ...],
    y: Array,
    saved: tuple[Array, Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float,
) -> Array:
    """The tangent of y as the inputs move along ts."""
    return norms.tangent(ts, x, weight, *saved)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[Array, Array],
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float,
) -> tuple[Array, ...]:
    """The tangents of what `backward` returns, as g moves along tg and the inputs along ts."""
    return norms.backward_tangent(tg, ts, g, x, weight, *saved)[: len(ts)]


@parallel
def _forward(x, weight, bias, eps, y, mean, rstd, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _forward_rows(x[start:stop], weight, bias, eps, y[start:stop], mean[start:stop], rstd[start:stop])


@serial
def _forward_rows(x, weight, bias, eps, y, mean, rstd):
    """Eight rows at a time in three loops: each row is a chain of sums that wait for one another, eight are not."""
    for start in range(0, len(x), 8):
        stop = min(start + 8, len(x))
        for i in range(start, stop):
            mean[i] = _sum(x[i], x.dtype.type(0)) / x.shape[1]
        for i in range(start, stop):
            mean[i], variance = _moments(x[i], x.dtype.type(mean[i]))
            rstd[i] = 1 / np.sqrt(variance + eps)
        for i in range(start, stop):
            high, low, r = parts(x.dtype.type(0), mean[i], rstd[i])
            if single_suffices(rstd[i]):
                _forward_row(x[i], high, low, r, weight, bias, y[i])
            else:
                _forward_row(x[i], mean[i], 0.0, rstd[i], weight, bias, y[i])


@pasted
def _forward_row(x, high, low, r, weight, bias, y):
    """In the precision of high, low and r."""
    for j in range(x.size):
        y[j] = minus(x[j], high, low) * r * weight[j] + bias[j]


@pasted
def _moments(x, shift):
    """The mean and variance of a vector, in float64, from its mean as first computed."""
    total, squares = deviations(x, shift)
    if not 1e-25 < squares < 1e37:
        return _moments_about(x, _sum(x, 0.0) / x.size)
    return _from_sums(np.float64(shift), np.float64(total), np.float64(squares), x.size)


@pasted
def _moments_about(x, shift):
    total, squares = deviations(x, shift)
    return _from_sums(shift, total, squares, x.size)


@inline
def _from_sums(shift, total, squares, n):
    return shift + total / n, max((squares - total * (total / n)) / n, 0.0)


@pasted
def _sum(x, start):
    """start + sum x, in the precision of start."""
    total = start
    for j in range(x.size):
        total += x[j]
    return total


@parallel
def _backward(g, x, weight, mean, rstd, dx, dw, db, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _backward_rows(
            g[start:stop], x[start:stop], weight, mean[start:stop], rstd[start:stop], dx[start:stop], dw[c + 1], db[c + 1]
        )
    add_chunks(dw)
    add_chunks(db)


@serial
def _backward_rows(g, x, weight, mean, rstd, dx, dw, db):
    for i in range(len(x)):
        high, low, r = parts(x.dtype.type(0), mean[i], rstd[i])
        if single_suffices(rstd[i]):
            _backward_row(g[i], x[i], high, low, r, weight, dx[i], dw, db)
        else:
            _backward_row(g[i], x[i], mean[i], 0.0, rstd[i], weight, dx[i], dw, db)


@pasted
def _backward_row(g, x, high, low, r, weight, dx, dw, db):
    """In the precision of high, low and r."""
    total, along = type(r)(0), type(r)(0)
    for j in range(x.size):
        h = minus(x[j], high, low) * r
        p = g[j] * weight[j]
        total += p
        along += p * h
        dw[j] += g[j] * h
        db[j] += g[j]
    total, along = type(r)(total / x.size), type(r)(along / x.size)
    for j in range(x.size):
        h = minus(x[j], high, low) * r
        dx[j] = r * (g[j] * weight[j] - total - h * along)
