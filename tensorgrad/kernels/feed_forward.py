"""The feed-forward network of a transformer with GELU (Radford et al. 2018, section 4.1): y = a W2^T + b2 + r, a = gelu(h),
h = x W1^T + b1.

GELU is applied to each part of h while it is in the cache. Of the two wide arrays only h is kept: the backward pass makes a
again where it needs the slope of GELU anyway, and sums the bias gradient, all in one pass:

    da = g W2;   dh = da gelu'(h),   db1 = sum over rows of dh,   a = gelu(h);   dW2 = g^T a,   db2 = sum over rows of g
    dx = dh W1,   dW1 = dh^T x,   dr = g

For N rows, n features and m hidden ones, 4 N n m FLOPs forward and 8 N n m backward, and 35 N m and 50 N m for GELU.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange

from tensorgrad.kernels import gelu, linear, residual_linear
from tensorgrad.kernels.gelu import _forward_chunk, _slope, _value
from tensorgrad.kernels.gemm import FEW, SCRATCH, gemm_address, gemm_plus
from tensorgrad.kernels.jit import SMALL, THREADS, config, parallel, serial
from tensorgrad.kernels.matmul import matmul
from tensorgrad.kernels.rows import Array, add_chunks, bounds, contiguous, empty, matrix, pieces, zeros
from tensorgrad.kernels.tiles import PANEL

READS_RESULT = False


def forward(x: Array, w1: Array, w2: Array, *rest: Array) -> tuple[Array, tuple[Array]]:
    """(.., n), (m, n), (n, m) -> (.., n);  the rest is b1 (m,) and b2 (n,), or r (.., n), or all three."""
    b1, b2, r = _parted(rest)
    h, a = _hidden(x, w1, b1)
    y = linear.forward(a, w2, b2)[0] if r is None else residual_linear.forward(r, a, w2, b2)[0]
    return y, (h,)


def backward(
    g: Array,
    y: Array,
    saved: tuple[Array],
    x: Array,
    w1: Array,
    w2: Array,
    *rest: Array,
    wanted: Sequence[bool] = (True,) * 6,
) -> tuple[Array | None, ...]:
    """dL/dy -> the gradients, None for those not wanted; that of r is dL/dy itself."""
    b1, b2, r = _parted(rest)
    dh, a, db1 = _dh(_da(g, w2, saved[0]), saved[0])
    _, dw2, *db2 = linear.backward(g, y, (), a, w2, b2, wanted=(False, wanted[2], b2 is not None and wanted[4]))
    dx, dw1 = linear.backward(dh, saved[0], (), x, w1, wanted=wanted[:2])
    return dx, dw1, dw2, *([] if b1 is None else [db1, *db2]), *([] if r is None else [g])


def tangent(ts: tuple[Array | None, ...], y: Array, saved: tuple[Array], x: Array, w1: Array, w2: Array, *rest: Array) -> Array:
    """The tangent of y as the inputs move along ts, each None or of its input's shape."""
    b1, b2, _ = _parted(rest)
    _, tb2, tr = _parted(ts[3:])
    _, a, _, ta = _moving_hidden(ts, saved[0], x, w1, b1)
    ty = linear.tangent((ta, ts[2], tb2), y, (), a, w2, b2)
    return ty if tr is None else np.add(ty, tr, out=ty)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None, ...],
    g: Array,
    y: Array,
    saved: tuple[Array],
    x: Array,
    w1: Array,
    w2: Array,
    *rest: Array,
) -> tuple[Array, ...]:
    """The tangents of the gradients, as g moves along tg and the inputs along ts."""
    b1, b2, r = _parted(rest)
    tb1, tb2, _ = _parted(ts[3:])
    h, a, th, ta = _moving_hidden(ts, saved[0], x, w1, b1)
    da = _da(g, w2, h)
    tda, tdw2, *tdb2 = linear.backward_tangent(tg, (ta, ts[2], tb2), g, y, (), a, w2, b2)
    (tdh,) = gelu.backward_tangent(tda, (th,), da, a, (), h)
    (dh,) = gelu.backward(da, a, (), h)
    tdx, tdw1, *tdb1 = linear.backward_tangent(tdh, (*ts[:2], tb1), dh, h, (), x, w1, b1)
    tdr = [] if r is None else [zeros(g.shape, g.dtype) if tg is None else tg]
    return tdx, tdw1, tdw2, *tdb1, *tdb2, *tdr


def _parted(rest: Sequence[Array | None]) -> tuple[Array | None, Array | None, Array | None]:
    """b1, b2 and r, None for those that are not there."""
    b1, b2 = rest[:2] if len(rest) > 1 else (None, None)
    return b1, b2, rest[-1] if len(rest) % 2 else None


def _moving_hidden(ts: tuple, h: Array, x: Array, w1: Array, b1: Array | None) -> tuple[Array, ...]:
    """h, a and their tangents."""
    th = linear.tangent((*ts[:2], _parted(ts[3:])[0]), h, (), x, w1, b1)
    a, _ = gelu.forward(h)
    return h, a, th, gelu.tangent((th,), a, (), h)


def _hidden(x: Array, w1: Array, b1: Array | None) -> tuple[Array, Array]:
    """h and a = gelu(h)."""
    rows, (m, n) = linear.as_rows(x), w1.shape
    if len(rows) <= FEW or len(rows) * m * n < 8 * SMALL or config.DISABLE_JIT:
        h = linear.forward(x, w1, b1)[0]
        return h, gelu.forward(h)[0]
    rows, w1 = contiguous(rows), contiguous(w1)
    h, a = empty((len(rows), m), x.dtype), empty((len(rows), m), x.dtype)
    bias = zeros(m, x.dtype) if b1 is None else contiguous(b1)
    _grow(gemm_address(x.dtype), x.dtype.type(0), rows, w1, bias, h, a, SCRATCH, PANEL // x.itemsize, THREADS)
    return h.reshape(*x.shape[:-1], m), a.reshape(*x.shape[:-1], m)


_ROWS, _PANELS = 384, 12  # of h in a part: small enough for the cache, large enough to be worth packing W1 for


@parallel
def _grow(gemm, nought, x, w, bias, h, a, scratch_size, panel, workers):
    size, rows = x.itemsize, (len(x) + _ROWS - 1) // _ROWS
    panels = (len(w) + panel - 1) // panel
    columns = (panels + _PANELS - 1) // _PANELS
    for worker in prange(workers):
        scratch = np.empty(scratch_size, np.uint8)
        for part in range(rows * columns * worker // workers, rows * columns * (worker + 1) // workers):
            i, j = divmod(part, columns)
            start, stop = bounds(i, rows, len(x))
            left, right = panels * j // columns * panel, min(panels * (j + 1) // columns * panel, len(w))
            block, weights, bs = h[start:stop, left:right], w[left:right], bias[left:right]
            gemm_plus(
                gemm,
                nought,
                stop - start,
                right - left,
                x.shape[1],
                x[start:stop].ctypes.data,
                x.strides[0],
                size,
                weights.ctypes.data,
                size,
                w.strides[0],
                block.ctypes.data,
                h.strides[0],
                scratch.ctypes.data,
                block.ctypes.data,
                h.strides[0],
                bs.ctypes.data,
            )
            for row in range(start, stop):
                _forward_chunk(h[row, left:right], a[row, left:right], False)


def _da(g: Array, w2: Array, h: Array) -> Array:
    return matmul(linear.as_rows(g), w2).reshape(h.shape)


def _dh(da: Array, h: Array) -> tuple[Array, Array, Array]:
    """dh, in the memory of da, a = gelu(h), and db1."""
    rows, a = matrix(h), empty(h.shape, h.dtype)
    chunks = pieces(*rows.shape)
    sums = zeros((chunks + 1, rows.shape[1]), h.dtype)
    _pull.at(8 * h.size)(da.reshape(rows.shape), rows, a.reshape(rows.shape), sums, chunks)
    return da, a, sums[0]


@parallel
def _pull(da, h, a, sums, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(h))
        for i in range(start, stop):
            _pull_row(da[i], h[i], a[i], sums[c + 1])
    add_chunks(sums)


@serial
def _pull_row(da, h, a, total):
    for j in range(h.size):
        a[j] = _value(h[j])
        dh = da[j] * _slope(h[j])
        da[j] = dh
        total[j] += dh
