"""Which rows are learned from and which are held out to measure on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigpt.errors import UserError

Parts = tuple[np.ndarray, np.ndarray]  # row numbers to learn from and held out, each in rising order


def split(rows: int, share: float, rng: np.random.Generator) -> Parts:
    """`share` of the rows at random, at least one, is held out; UserError if none is left."""
    held = _count(rows, share)
    if not 0 < held < rows:
        raise UserError(f"{rows} rows cannot be divided into those to learn from and those to measure on")
    order = rng.permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


def split_classes(labels: Sequence[str], share: float, rng: np.random.Generator) -> Parts:
    """The same share of each class, at least one row of each on both sides; UserError for a class with one row only."""
    classes = np.asarray(labels)
    parts = []
    for name in np.unique(classes):
        rows = np.flatnonzero(classes == name)
        if len(rows) < 2:
            raise UserError(f"the class {str(name)!r} has one row only, and needs one to learn from and one to measure on")
        kept, held = split(len(rows), share, rng)
        parts.append((rows[kept], rows[held]))
    return np.sort(np.concatenate([kept for kept, _ in parts])), np.sort(np.concatenate([held for _, held in parts]))


def _count(rows: int, share: float) -> int:
    return min(max(1, round(rows * share)), rows - 1)
