"""Changing values where they lie, when nobody else can see them.

Whoever else sees an array holds a reference to it, to a view of it (which refers to it) or to a tensor of it.  So reference
counts decide, against the count of an object known to be alone; an interpreter without such counts always copies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from operator import attrgetter

import numpy as np

from ..graph import Tensor


def _counts(owners: Iterable[Tensor], name: str) -> list[int]:
    """References to the attribute of each owner; counted from C, because compiled bytecode may keep fewer of its own."""
    return list(map(getattr(sys, "getrefcount", lambda _: sys.maxsize), map(attrgetter(name), owners)))


_ALONE = min(_counts([Tensor(np.empty(1))], "_array")[0], sys.maxsize - 1)


def unshared(owners: Iterable[Tensor], name: str) -> list[bool]:
    """For each owner, whether it alone refers to the object that is its attribute."""
    return [count <= _ALONE for count in _counts(owners, name)]


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
