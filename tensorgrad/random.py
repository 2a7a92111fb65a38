"""Random numbers that a recomputation can draw again.

Every random op takes its seed here, from the generator it was given.  While a `tape` is set, seeds are written on it the first
time and read from it when the same code runs again, so that `tg.checkpoint` sees the same dropout masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import state


def draw_seed(rng: np.random.Generator) -> int:
    """The next 63-bit seed of `rng`, or of the tape that is being replayed."""
    if state.tape is not None and state.tape.replaying:
        return next(state.tape.replaying)
    seed = int(rng.integers(1 << 63))
    if state.tape is not None:
        state.tape.seeds.append(seed)
    return seed


def kept(p: float, rows: int, columns: int, seed: int) -> np.ndarray:
    """(rows, columns) booleans, False with probability p: where a random word is not below p 2^32, rounded."""
    return words(rows, columns, seed) >= min(round(p * 2**32), 2**32 - 1)


def rate_kept(p: float) -> float:
    """How often `kept` is True."""
    return 1 - min(round(p * 2**32), 2**32 - 1) / 2**32


def words(rows: int, columns: int, seed: int) -> np.ndarray:
    """(rows, columns) random integers below 2^32, each a function of its place and of the 63-bit seed.

    Word w of the counter (16 i + lane, 0, row mod 2^32, row div 2^32) stands in column 64 i + 16 w + lane.
    """
    row, column = np.arange(rows, dtype=np.uint64)[:, None], np.arange(columns, dtype=np.uint64)
    counter = np.broadcast_arrays(column // 64 * 16 + column % 16, np.uint64(0), row & _LOW, row >> _32)
    return np.choose((column // 16 % 4).astype(np.intp), philox(counter, (seed & 0xFFFFFFFF, seed >> 32)))


_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: Sequence[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """The four 32-bit words that ten rounds make of a counter of four, under a key of two (Salmon et al. 2011, section 3.3)."""
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        x, y = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = y >> _32 ^ b ^ np.uint64(low), y & _LOW, x >> _32 ^ d ^ np.uint64(high), x & _LOW
        low, high = low + 0x9E3779B9 & 0xFFFFFFFF, high + 0xBB67AE85 & 0xFFFFFFFF
    return [a, b, c, d]
