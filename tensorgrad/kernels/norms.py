"""What layer norm and RMS norm share: sums of a row, the choice of precision, and the tangents of both.

Rows x of n elements give y = h w + b with h = (x - m) r; m is the mean of x in layer norm, 0 in RMS norm. Below, mean(..) is
over the elements of a row, and mean1(..) is the same in layer norm and 0 in RMS norm. Along tangents x', w', b':

    r' = -a r,   a = r mean(h x'),   h' = r (x' - mean1(x')) - a h,   y' = h' w + h w' + b'

Backward is dx = r (p - mean1(p) - h mean(p h)) with p = g w. Its tangent, with q = p' = g' w + g w' and beta = mean(p h), is

    dx' = r (q - mean1(q) - h' beta - h beta') - a dx,    beta' = mean(q h) + mean(p h')
        = r (q - a p - beta r x' - c h + d)
    c = mean(q h) + r (mean(p x') - mean1(p) mean1(x')) - 3 a beta,   d = a mean1(p) - mean1(q) + beta r mean1(x')
    dw' = sum over rows of g' h + g h',   db' = sum over rows of g'

so seven sums over a row are made in one pass, and all results in a second. Memory, float32: 12 bytes an element for y', 20
for dx'; 14 and 38 FLOPs.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import minus
from tensorgrad.kernels.jit import inline, parallel, pasted, serial
from tensorgrad.kernels.rows import Array, add_chunks, bounds, empty, matrix, or_zeros, pieces, vector, zeros


@pasted
def deviations(x, shift):
    """sum (x - shift) and sum (x - shift)^2, in the precision of shift."""
    total, squares = type(shift)(0), type(shift)(0)
    for j in range(x.size):
        d = x[j] - shift
        total += d
        squares += d * d
    return total, squares


@inline
def parts(zero, mean, rstd):
    """mean as high + low, and rstd, in the type of zero."""
    high = type(zero)(mean)
    return high, type(zero)(mean - high), type(zero)(rstd)


@inline
def single_suffices(rstd):
    """Whether a row of this 1 / deviation can be normalised in float32 without overflow or underflow."""
    return 1e-35 < rstd < 1e35


def tangent(ts: tuple[Array | None, ...], x: Array, weight: Array | None, mean: Array | None, rstd: Array) -> Array:
    """The tangent of y as x, w and b move along ts; the mean of each row is None in RMS norm."""
    rows, ty = matrix(x), empty(x.shape, x.dtype)
    t, tw, tb = _tangents(ts, x)
    _tangent.at(3 * x.size)(
        matrix(t), tw, tb, rows, _weight(weight, x), *_moments(mean, rstd), ty.reshape(rows.shape), pieces(*rows.shape)
    )
    return ty


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    x: Array,
    weight: Array | None,
    mean: Array | None,
    rstd: Array,
) -> tuple[Array, Array, Array]:
    """The tangents of dL/dx, dL/dw and dL/db, as g moves along tg and x, w and b along ts."""
    rows, dx = matrix(x), empty(x.shape, x.dtype)
    t, tw, _ = _tangents(ts, x)
    chunks = pieces(*rows.shape)
    dw, db = zeros((2, chunks + 1, x.shape[-1]), x.dtype)
    _backward_tangent.at(5 * x.size)(
        matrix(or_zeros(tg, g)), matrix(t), tw, matrix(g), rows, _weight(weight, x), *_moments(mean, rstd),
        dx.reshape(rows.shape), dw, db, chunks,
    )  # fmt: skip
    return dx, dw[0], db[0]


def _tangents(ts: tuple[Array | None, ...], x: Array) -> tuple[Array, Array, Array]:
    """Of x, w and b; zero for what stands still or was not given."""
    t, tw, tb = (*ts, None, None)[:3]
    still = zeros(x.shape[-1], x.dtype)
    return or_zeros(t, x), vector(or_zeros(tw, still)), vector(or_zeros(tb, still))


def _weight(weight: Array | None, x: Array) -> Array:
    return np.ones(x.shape[-1], x.dtype) if weight is None else vector(weight)


def _moments(mean: Array | None, rstd: Array) -> tuple[Array, Array, bool]:
    """m and r of each row, and whether m is the mean."""
    return (zeros(len(rstd)), rstd, False) if mean is None else (mean, rstd, True)


@parallel
def _tangent(t, tw, tb, x, weight, mean, rstd, centred, ty, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _tangent_rows(t[start:stop], tw, tb, x[start:stop], weight, mean[start:stop], rstd[start:stop], centred, ty[start:stop])


@serial
def _tangent_rows(t, tw, tb, x, weight, mean, rstd, centred, ty):
    for i in range(len(x)):
        high, low, r = parts(x.dtype.type(0), mean[i], rstd[i])
        if single_suffices(rstd[i]):
            _tangent_row(t[i], tw, tb, x[i], high, low, r, weight, centred, ty[i])
        else:
            _tangent_row(t[i], tw, tb, x[i], mean[i], 0.0, rstd[i], weight, centred, ty[i])


@pasted
def _tangent_row(t, tw, tb, x, high, low, r, weight, centred, ty):
    """In the precision of high, low and r."""
    sum_t, sum_ht = type(r)(0), type(r)(0)
    for j in range(x.size):
        sum_t += t[j]
        sum_ht += minus(x[j], high, low) * r * t[j]
    mean_t, a = type(r)(centred * sum_t / x.size), type(r)(r * (sum_ht / x.size))
    for j in range(x.size):
        h = minus(x[j], high, low) * r
        ty[j] = (r * (t[j] - mean_t) - a * h) * weight[j] + h * tw[j] + tb[j]


@parallel
def _backward_tangent(tg, t, tw, g, x, weight, mean, rstd, centred, dx, dw, db, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _backward_tangent_rows(
            tg[start:stop], t[start:stop], tw, g[start:stop], x[start:stop], weight, mean[start:stop], rstd[start:stop],
            centred, dx[start:stop], dw[c + 1], db[c + 1],
        )  # fmt: skip
    add_chunks(dw)
    add_chunks(db)


@serial
def _backward_tangent_rows(tg, t, tw, g, x, weight, mean, rstd, centred, dx, dw, db):
    for i in range(len(x)):
        high, low, r = parts(x.dtype.type(0), mean[i], rstd[i])
        if single_suffices(rstd[i]):
            _backward_tangent_row(tg[i], t[i], tw, g[i], x[i], high, low, r, weight, centred, dx[i], dw, db)
        else:
            _backward_tangent_row(tg[i], t[i], tw, g[i], x[i], mean[i], 0.0, rstd[i], weight, centred, dx[i], dw, db)


@pasted
def _backward_tangent_row(tg, t, tw, g, x, high, low, r, weight, centred, dx, dw, db):
    """In the precision of high, low and r."""
    zero = type(r)(0)
    sum_t, sum_p, sum_q, sum_ht, sum_hp, sum_hq, sum_pt = zero, zero, zero, zero, zero, zero, zero
    for j in range(x.size):
        h = minus(x[j], high, low) * r
        p = g[j] * weight[j]
        q = tg[j] * weight[j] + g[j] * tw[j]
        sum_t += t[j]
        sum_p += p
        sum_q += q
        sum_ht += h * t[j]
        sum_hp += h * p
        sum_hq += h * q
        sum_pt += p * t[j]
    n = x.size
    mean_t, mean_p, mean_q = centred * sum_t / n, centred * sum_p / n, centred * sum_q / n
    a, beta = r * (sum_ht / n), sum_hp / n
    c = type(r)(sum_hq / n + r * (sum_pt / n - mean_p * mean_t) - 3 * a * beta)
    d = type(r)(a * mean_p - mean_q + beta * r * mean_t)
    a, slope, mean_t = type(r)(a), type(r)(beta * r), type(r)(mean_t)
    for j in range(x.size):
        h = minus(x[j], high, low) * r
        p = g[j] * weight[j]
        q = tg[j] * weight[j] + g[j] * tw[j]
        dx[j] = r * (q - a * p - slope * t[j] - c * h + d)
        dw[j] += h * (tg[j] - a * g[j]) + r * g[j] * (t[j] - mean_t)
        db[j] += tg[j]
