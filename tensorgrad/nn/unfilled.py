"""Modules whose weights are still to come: their names, shapes and dtypes, without the memory and the random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..graph import setting


class _NoNumbers:
    """In the place of a Generator: arrays of the right shape that hold one zero."""

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = ()) -> np.ndarray:
        return np.broadcast_to(0.0, size)

    uniform = normal

    def standard_normal(self, size: Any = (), dtype: Any = np.float64) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), size)


@contextmanager
def unfilled() -> Iterator[Any]:
    """Modules made within have parameters that look like zeros and take no memory: a model of any size is made at once.

    Filling them, with load_state_dict or by assigning to .data, is left for afterwards; until then they cannot be changed
    in place.  Yields what to pass as `rng`, so that no initial values are drawn.
    """
    with setting(unfilled=True):
        yield _NoNumbers()
