"""How a stored tensor becomes parameters of ours, and back: the few ways in which layouts differ.

Each change is invertible, because the same table reads and writes, and it knows the stored shape from ours alone, so that
a file is checked before anything is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Change:
    """`shape`: our shapes -> the stored one; `read`: the stored array and our shapes -> our arrays; `write`: the inverse.

    The last argument of each is our configuration.  Arrays may come back as views of any strides.
    """

    shape: Callable[[Sequence[Shape], Any], Shape]
    read: Callable[[np.ndarray, Sequence[Shape], Any], Arrays]
    write: Callable[[Arrays, Any], np.ndarray]


SAME = Change(
    shape=lambda shapes, config: shapes[0],
    read=lambda stored, shapes, config: [stored],
    write=lambda arrays, config: arrays[0],
)

# A linear map stored (in, out), as GPT-2's; a bias has one axis, and is the same.
TRANSPOSED = Change(
    shape=lambda shapes, config: shapes[0][::-1],
    read=lambda stored, shapes, config: [stored.T],
    write=lambda arrays, config: arrays[0].T,
)

# A vector stored as a row (1, n).
ROW = Change(
    shape=lambda shapes, config: (1, *shapes[0]),
    read=lambda stored, shapes, config: [stored[0]],
    write=lambda arrays, config: arrays[0][None],
)


def _interleaved_shape(shapes: Sequence[Shape], config: Any) -> Shape:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _read_interleaved(stored: np.ndarray, shapes: Sequence[Shape], config: Any) -> Arrays:
    heads = stored.reshape(config.n_head, len(shapes), -1, *stored.shape[1:])  # (H, 3, d, ..)
    return [heads[:, i].reshape(shape) for i, shape in enumerate(shapes)]


def _write_interleaved(arrays: Arrays, config: Any) -> np.ndarray:
    heads = np.stack([array.reshape(config.n_head, -1, *array.shape[1:]) for array in arrays], 1)  # (H, 3, d, ..)
    return heads.reshape(math.prod(heads.shape[:3]), *heads.shape[3:])


# Query, key and value of the first head, then of the second, ..: (H, 3, d) along the first axis, as in GPT-NeoX and BLOOM.
INTERLEAVED = Change(shape=_interleaved_shape, read=_read_interleaved, write=_write_interleaved)


def after_rows(count: int) -> Change:
    """A table that begins with `count` rows which nothing looks up; they are dropped, and written as zeros."""
    return Change(
        shape=lambda shapes, config: (shapes[0][0] + count, *shapes[0][1:]),
        read=lambda stored, shapes, config: [stored[count:]],
        write=lambda arrays, config: np.concatenate([np.zeros_like(arrays[0], shape=(count, *arrays[0].shape[1:])), arrays[0]]),
    )
