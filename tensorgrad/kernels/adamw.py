"""AdamW (Loshchilov and Hutter 2019, algorithm 2), one pass over flat memory, in place. With the gradient g scaled for
clipping, at step t = 1, 2, ..:

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
    p = p (1 - lr decay) - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

Memory, float32: 16 bytes read and 12 written an element, which is the limit; 14 FLOPs with a root and a division.
"""

import math

import numpy as np
from numba import prange

from tensorgrad.kernels.jit import parallel, serial
from tensorgrad.kernels.rows import Array, bounds, pieces, vector, zeros


def step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    scale: float = 1.0,
) -> None:
    """Move parameters p (n,) and their moments m, v (n,), all contiguous, along the gradient `scale` g (n,)."""
    rate = lr / -math.expm1(step * math.log(beta1)) if beta1 else lr
    correction = 1 / math.sqrt(-math.expm1(step * math.log(beta2))) if beta2 else 1.0
    factors = np.array([scale, beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay, rate, correction, eps], p.dtype)
    _step.at(4 * p.size)(p, vector(g), m, v, factors, pieces(p.size))


def sum_of_squares(g: Array) -> float:
    """(..) -> sum g^2, in float64 and in an order that depends on the size alone."""
    g = vector(g)
    sums = zeros(pieces(g.size))
    _sum_of_squares.at(2 * g.size)(g, sums, len(sums))
    return float(sums.sum())


@parallel
def _step(p, g, m, v, factors, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, p.size)
        _step_chunk(p[start:stop], g[start:stop], m[start:stop], v[start:stop], factors)


@serial
def _step_chunk(p, g, m, v, factors):
    scale, beta1, gain1, beta2, gain2 = factors[0], factors[1], factors[2], factors[3], factors[4]
    keep, rate, correction, eps = factors[5], factors[6], factors[7], factors[8]
    for i in range(p.size):
        gradient = scale * g[i]
        first = beta1 * m[i] + gain1 * gradient
        second = beta2 * v[i] + gain2 * (gradient * gradient)
        m[i] = first
        v[i] = second
        p[i] = keep * p[i] - rate * first / (np.sqrt(second) * correction + eps)


@parallel
def _sum_of_squares(g, sums, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, g.size)
        sums[c] = _sum_of_squares_chunk(g[start:stop])


@serial
def _sum_of_squares_chunk(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total
