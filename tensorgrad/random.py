"""Random numbers that a recomputation can draw again.

Every random op takes its seed here, from the generator it was given.  While a `tape` is set, seeds are written on it the first
time and read from it when the same code runs again, so that `tg.checkpoint` sees the same dropout masks.
"""

from __future__ import annotations

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


def bernoulli(probability: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Booleans that are True with the given probability."""
    return np.random.Generator(np.random.Philox(draw_seed(rng))).random(shape, np.float32) < probability
