"""Texts and examples of unequal lengths as rectangular arrays: similar lengths together, padding at the end, which counts for
nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigpt.objectives.objective import IGNORED

POOL = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Example:
    """One thing to read, ids (T,), and what is wanted of it: a number (), or some (..,); `source` is what it was made of."""

    ids: np.ndarray
    targets: np.ndarray
    segments: np.ndarray | None = None
    source: Any = None


@dataclass(frozen=True)
class Batch:
    """ids, segments and mask (B, T), the mask True at tokens; targets (B, ..), IGNORED where a row has no more."""

    ids: np.ndarray
    mask: np.ndarray
    targets: np.ndarray
    segments: np.ndarray | None = None


def batch(examples: Sequence[Example], pad: int = 0) -> Batch:
    """The examples side by side, padded with the token `pad`."""
    ids = stacked([example.ids for example in examples], pad)
    lengths = np.array([len(example.ids) for example in examples])
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    parts = [example.segments for example in examples if example.segments is not None]
    segments = stacked(parts, 0) if len(parts) == len(examples) else None
    return Batch(ids, mask, stacked([np.asarray(example.targets) for example in examples], IGNORED), segments)


def stacked(arrays: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """Arrays (T_i,) as one (B, max T), `fill` after their ends; numbers as (B,)."""
    if arrays[0].ndim == 0:
        return np.array(arrays, dtype=np.int64)
    out = np.full((len(arrays), max(map(len, arrays))), fill, dtype=np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def by_length(examples: Sequence[Example], size: int, pad: int = 0) -> Iterator[tuple[np.ndarray, Batch]]:
    """All examples, longest first, in batches: their numbers, and the batch."""
    order = np.argsort([-len(example.ids) for example in examples], kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, batch([examples[i] for i in chosen], pad)


def shuffled(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of row numbers, every row once: of similar lengths, otherwise in random order."""
    order, sizes = rng.permutation(len(lengths)), np.asarray(lengths)
    batches = []
    for start in range(0, len(order), size * POOL):
        pool = order[start : start + size * POOL]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in rng.permutation(len(batches))]
