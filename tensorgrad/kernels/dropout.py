"""Dropout (Srivastava et al. 2014, section 4): y = D x, D 0 with probability p, else 2^32 / (2^32 - t), t = p 2^32 rounded.

An entry is dropped if its random word, of philox.py, is below t. So each pass makes the mask again from a seed, and nothing is
stored. The array is a sequence of rows of ROW entries, whatever its shape. D is diagonal, so gradient and tangents are D as well.
FLOPs: one an entry, and ten rounds of Philox. Memory: x once, y once.
"""

import numpy as np
from numba import prange

from tensorgrad.kernels.jit import parallel, serial
from tensorgrad.kernels.philox import random_row
from tensorgrad.kernels.rows import Array, empty, or_zeros, vector

ROW = 4096  # entries whose random words are made at a time


def chance(p: float) -> int:
    """A random word below this is dropped."""
    return min(round(p * 2**32), 2**32 - 1)


def forward(x: Array, *, p: float, seed: int) -> tuple[Array, tuple[()]]:
    """(..) -> (..), and nothing is saved.  p < 1."""
    y = empty(x.shape, x.dtype)
    _drop.at(4 * x.size)(vector(x), y.reshape(-1), seed, chance(p))
    return y, ()


def backward(g: Array, y: Array, saved: tuple[()], x: Array, *, p: float, seed: int) -> tuple[Array]:
    """dL/dx = D dL/dy."""
    return (forward(g, p=p, seed=seed)[0],)


def tangent(ts: tuple[Array | None], y: Array, saved: tuple[()], x: Array, *, p: float, seed: int) -> Array:
    """D x'."""
    return forward(or_zeros(ts[0], x), p=p, seed=seed)[0]


def backward_tangent(
    tg: Array | None, ts: tuple[Array | None], g: Array, y: Array, saved: tuple[()], x: Array, *, p: float, seed: int
) -> tuple[Array]:
    """D times the tangent of dL/dy."""
    return (forward(or_zeros(tg, g), p=p, seed=seed)[0],)


@parallel
def _drop(x, y, seed, threshold):
    rows = (x.size + ROW - 1) // ROW
    for row in prange(rows):
        _drop_one(x[row * ROW : (row + 1) * ROW], y[row * ROW : (row + 1) * ROW], seed, row, threshold)


@serial
def _drop_one(x, y, seed, row, threshold):
    words = np.empty(ROW, np.uint32)
    random_row(words, seed, row, 0)
    _drop_entries(x, y, words, np.uint32(threshold), x.dtype.type(growth(threshold)))


@serial
def growth(threshold):
    """The factor of what is kept."""
    return 2.0**32 / (2.0**32 - threshold)


@serial
def _drop_entries(x, y, words, threshold, growth):
    for j in range(x.size):
        grown = x[j] * growth
        y[j] = x.dtype.type(0) if words[j] < threshold else grown


@serial
def drop_row(x, words, threshold, growth):
    """x becomes D x, given its random words."""
    for j in range(x.size):
        grown = x[j] * growth
        x[j] = x.dtype.type(0) if words[j] < threshold else grown
