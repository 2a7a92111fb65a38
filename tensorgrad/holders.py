"""Who holds an object: counts of references, by which a value may be changed where it lies when nobody else can see it.

Whoever else sees an array holds a reference to it, to a view of it (which refers to the owner of the memory) or to a tensor of
it.  An interpreter without such counts gives numbers so large that everything seems to be shared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable


def holders(objects: Iterable[object]) -> list[int]:
    """How many references each object has, those that counting makes left out."""
    return [count - _CALL for count in _counts(objects)]


def _counts(objects: Iterable[object]) -> list[int]:
    """Taken from C, because bytecode may keep references that it does not count."""
    return list(map(getattr(sys, "getrefcount", lambda _: sys.maxsize), objects))


_CALL = min(_counts((object(),))[0], 1 << 30) - 1  # of an object that only a tuple holds
