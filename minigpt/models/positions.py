"""What tells positions apart, as constant arrays."""

from __future__ import annotations

import numpy as np


def alibi_slopes(heads: int) -> np.ndarray:
    """(H,) float64: each head's penalty per position, 2^(-8 i / H) for i = 1 .. H (Press et al. 2022, section 3).

    Where H is no power of two: those of the power below it, then every other one of the power above it.
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = 2.0 ** (-8 * np.arange(1, below + 1) / below)
    between = 2.0 ** (-4 * np.arange(1, 2 * (heads - below), 2) / below)
    return np.concatenate([slopes, between])


def sinusoids(positions: np.ndarray, features: int, to_the_end: bool = False) -> np.ndarray:
    """(T,) -> (T, C): sin(t w), then cos(t w), for C/2 rates w from 1 down towards 1/10000 (Vaswani et al. 2017, section 3.5).

    The smallest rate is 10000^-(1 - 2/C) as in the paper, or 1/10000 itself `to_the_end`.
    """
    rates = 1e-4 ** np.linspace(0, 1, features // 2, endpoint=to_the_end)
    angles = np.multiply.outer(positions, rates)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def relative_buckets(queries: np.ndarray, keys: np.ndarray, buckets: int, farthest: int, both_ways: bool) -> np.ndarray:
    """(T,), (S,) positions -> (T, S) integers in [0, buckets): how far a key is from a query (Raffel et al. 2020, section 2.1).

    Small distances have a bucket each, larger ones up to `farthest` share buckets of logarithmic width, and all beyond share
    the last.  `both_ways` gives half of the buckets to keys after the query; otherwise those are all at distance 0.
    """
    offset = np.asarray(keys)[None, :] - np.asarray(queries)[:, None]
    half = buckets // 2 if both_ways else buckets
    distance = np.abs(offset) if both_ways else np.maximum(-offset, 0)
    exact = half // 2
    steps = np.log(np.maximum(distance, exact).astype(np.float32) / np.float32(exact)) / np.float32(np.log(farthest / exact))
    far = np.minimum(exact + (steps * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(distance < exact, distance, far) + (half * (offset > 0) if both_ways else 0)
