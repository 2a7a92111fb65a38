"""Cross-entropy of logits x (N, V) against classes t (N,), from the log-sum-exp L = m + log sum_j e^(x_j - m), m = max x:

    nll = (1 - s) (L - x_t) + s (L - mean_j x_j),                      s the label smoothing
    dnll/dx_j = e^(x_j - L) - (1 - s) 1[j = t] - s / V

Neither the probabilities nor their logarithms are stored; the backward pass makes them again from L. A row whose target is
`ignore_index` is not even read: its loss and gradient are 0 whatever its logits.

Along tangents x', g', with p = e^(x - L) and e = sum_j p_j x'_j:

    nll' = e - (1 - s) x'_t - s mean_j x'_j
    d_j = g dnll/dx_j has d_j' = g' dnll/dx_j + g p_j (x'_j - e)

L is kept in float64: at |x| = 1e4 its rounding in float32 would put an error of 5e-4 into every probability. The loop
subtracts it in two float32 parts. Memory, float32: 4 bytes a logit forward, 8 backward, 8 for nll',
12 for d', and the row is read two times forward (three with smoothing) from the cache. Arithmetic: about 20 FLOPs a logit.

The gradient is made in place, a block of a row at a time: in a copy of the logits, or in the logits themselves when nobody
will read them again, which saves as much memory as they take, the largest array of a language model.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.functions import decay, minus
from tensorgrad.kernels.jit import parallel, pasted, serial
from tensorgrad.kernels.log_softmax import sum_of_exponentials
from tensorgrad.kernels.rows import Array, bounds, empty, matrix, or_zeros, pieces, put, row_max, vector, zeros

OVERWRITES = 0
_BLOCK = 2048  # numbers that stay in the first cache between their copying and their change


def forward(
    logits: Array, *, targets: Array, ignore_index: int = -100, label_smoothing: float = 0.0, over: int | None = None
) -> tuple[Array, tuple[Array]]:
    """(N, V) -> nll (N,), or if `over` is given the sum of nll / over (); and what is saved: L (N,) in float64.

    Targets other than ignore_index must be in [0, V).
    """
    rows, classes = matrix(logits), vector(targets.astype(np.int64, copy=False))
    nll, lse = zeros(len(rows), rows.dtype), zeros(len(rows))
    _forward.at(4 * rows.size)(rows, classes, ignore_index, label_smoothing, nll, lse, pieces(*rows.shape))
    return _reduced(nll, over), (lse,)


def _reduced(nll: Array, over: int | None) -> Array:
    return nll if over is None else np.asarray(np.add.reduce(nll) / nll.dtype.type(over))


def _for_rows(g: Array, rows: Array, over: int | None) -> Array:
    """The adjoint of `_reduced`: dL/dnll (N,)."""
    return vector(g) if over is None else np.full(len(rows), g / g.dtype.type(over), g.dtype)


def backward(
    g: Array,
    nll: Array,
    saved: tuple[Array],
    logits: Array,
    *,
    targets: Array,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    over: int | None = None,
    overwrite: bool = False,
) -> tuple[Array]:
    """dL/dnll (N,) or () -> dL/dlogits (N, V), in the memory of the logits if they may be overwritten."""
    rows, classes = matrix(logits), vector(targets.astype(np.int64, copy=False))
    dx = rows if overwrite else empty(logits.shape, rows.dtype)
    _backward.at(4 * rows.size)(
        _for_rows(g, rows, over), rows, classes, ignore_index, label_smoothing, saved[0], dx, overwrite, pieces(*rows.shape)
    )
    return (dx,)


def tangent(
    ts: tuple[Array | None],
    nll: Array,
    saved: tuple[Array],
    logits: Array,
    *,
    targets: Array,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    over: int | None = None,
) -> Array:
    """The tangent of nll (N,) or () as the logits move along ts."""
    rows, classes = matrix(logits), vector(targets.astype(np.int64, copy=False))
    change = zeros(len(rows), rows.dtype)
    _tangent.at(4 * rows.size)(
        matrix(or_zeros(ts[0], logits)), rows, classes, ignore_index, label_smoothing, saved[0], change,
        pieces(*rows.shape),
    )  # fmt: skip
    return _reduced(change, over)


def backward_tangent(
    tg: Array | None,
    ts: tuple[Array | None],
    g: Array,
    nll: Array,
    saved: tuple[Array],
    logits: Array,
    *,
    targets: Array,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    over: int | None = None,
) -> tuple[Array]:
    """The tangent of dL/dlogits as g moves along tg and the logits along ts."""
    rows, classes = matrix(logits), vector(targets.astype(np.int64, copy=False))
    dx = empty(logits.shape, rows.dtype)
    _backward_tangent.at(4 * rows.size)(
        _for_rows(or_zeros(tg, g), rows, over), matrix(or_zeros(ts[0], logits)), _for_rows(g, rows, over), rows, classes,
        ignore_index, label_smoothing, saved[0], dx, pieces(*rows.shape),
    )  # fmt: skip
    return (dx,)


@parallel
def _forward(x, targets, ignore_index, smoothing, nll, lse, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _forward_rows(x[start:stop], targets[start:stop], ignore_index, smoothing, nll[start:stop], lse[start:stop])


@serial
def _forward_rows(x, targets, ignore_index, smoothing, nll, lse):
    for i in range(len(x)):
        if targets[i] != ignore_index:
            most = row_max(x[i])
            lse[i] = most + np.log(np.float64(sum_of_exponentials(x[i], most)))
            loss = lse[i] - x[i, targets[i]]
            if smoothing > 0:
                loss = (1 - smoothing) * loss + smoothing * (lse[i] - _mean(x[i]))
            nll[i] = loss


@pasted
def _mean(x):
    total = 0.0
    for j in range(x.size):
        total += x[j]
    return total / x.size


@parallel
def _backward(g, x, targets, ignore_index, smoothing, lse, dx, overwrite, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _backward_rows(
            g[start:stop], x[start:stop], targets[start:stop], ignore_index, smoothing, lse[start:stop], dx[start:stop], overwrite
        )


@serial
def _backward_rows(g, x, targets, ignore_index, smoothing, lse, dx, overwrite):
    for i in range(len(x)):
        if targets[i] == ignore_index:
            dx[i] = 0
        else:
            share = x.dtype.type(smoothing / x.shape[1])
            for start in range(0, x.shape[1], _BLOCK):
                block = dx[i, start : start + _BLOCK]
                if not overwrite:
                    put(x[i, start : start + _BLOCK], block)
                _to_gradient(g[i], block, lse[i], share)
            dx[i, targets[i]] -= g[i] * x.dtype.type(1 - smoothing)


@pasted
def _to_gradient(g, x, lse, share):
    high = x.dtype.type(lse)
    low = x.dtype.type(lse - high)
    for j in range(x.size):
        x[j] = g * (decay(minus(x[j], high, low)) - share)


@parallel
def _tangent(t, x, targets, ignore_index, smoothing, lse, change, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _tangent_rows(
            t[start:stop], x[start:stop], targets[start:stop], ignore_index, smoothing, lse[start:stop], change[start:stop]
        )


@serial
def _tangent_rows(t, x, targets, ignore_index, smoothing, lse, change):
    for i in range(len(x)):
        if targets[i] != ignore_index:
            change[i] = _expected(t[i], x[i], lse[i]) - (1 - smoothing) * t[i, targets[i]]
            if smoothing > 0:
                change[i] -= smoothing * _mean(t[i])


@pasted
def _expected(t, x, lse):
    """sum_j p_j t_j."""
    high = x.dtype.type(lse)
    low = x.dtype.type(lse - high)
    total = x.dtype.type(0)
    for j in range(x.size):
        total += decay(minus(x[j], high, low)) * t[j]
    return total


@parallel
def _backward_tangent(tg, t, g, x, targets, ignore_index, smoothing, lse, dx, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, len(x))
        _backward_tangent_rows(
            tg[start:stop], t[start:stop], g[start:stop], x[start:stop], targets[start:stop], ignore_index, smoothing,
            lse[start:stop], dx[start:stop],
        )  # fmt: skip


@serial
def _backward_tangent_rows(tg, t, g, x, targets, ignore_index, smoothing, lse, dx):
    for i in range(len(x)):
        if targets[i] == ignore_index:
            dx[i] = 0
        else:
            _backward_tangent_row(tg[i], t[i], g[i], x[i], lse[i], x.dtype.type(smoothing / x.shape[1]), dx[i])
            dx[i, targets[i]] -= tg[i] * x.dtype.type(1 - smoothing)


@pasted
def _backward_tangent_row(tg, t, g, x, lse, share, dx):
    high = x.dtype.type(lse)
    low = x.dtype.type(lse - high)
    mean = x.dtype.type(0)
    for j in range(x.size):
        p = decay(minus(x[j], high, low))
        mean += p * t[j]
        dx[j] = p
    for j in range(x.size):
        dx[j] = tg * (dx[j] - share) + g * (dx[j] * (t[j] - mean))
