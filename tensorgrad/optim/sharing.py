"""Changing values where they lie, when nobody else can see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import numpy as np

from ..graph import Tensor
from ..holders import holders


def unshared(owners: Iterable[Tensor], name: str) -> list[bool]:
    """For each owner, whether it alone refers to the object that is its attribute."""
    return [count == 1 for count in holders(map(attrgetter(name), owners))]


def own_arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """The array of each tensor if only this tensor has it, and it is contiguous and writeable; else a copy.

    Other references to the tensors themselves are the caller's business.
    """
    arrays = []
    for t, alone, base_alone in zip(tensors, unshared(tensors, "_array"), unshared(tensors, "_array.base"), strict=True):
        base, flags = t._array.base, t._array.flags
        alone &= base is None or (base_alone and type(base) is np.ndarray and base.base is None)
        arrays.append(t._array if alone and flags.carray else np.array(t._array, order="C"))
    return arrays
