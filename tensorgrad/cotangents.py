"""Cotangents add: the op that adds two, and the sums that a backward pass keeps for the nodes it has not come to yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .graph import Op, Tensor, state


class Accumulate(Op):
    """a + b, of one shape: the one op that the calculus itself needs."""

    name = "accumulate"

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor]:
        return [g, g]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        return total(tangents)


accumulate = Accumulate()


def total(terms: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of the terms that are not None."""
    present = [t for t in terms if t is not None]
    out = present[0] if present else None
    for t in present[1:]:
        out = accumulate(out, t)
    return out


class Fresh(Tensor):
    """A result whose array nobody else holds: who gets it may add to it in place, or keep it without a copy."""

    __slots__ = ()


class Late(Tensor):
    """A result whose array is made when it is first read: often nobody reads it, or `add_to` adds it to another for less."""

    __slots__ = ("_made", "add_to", "make")

    def __init__(self, make: Callable[[], np.ndarray], add_to: Callable[[np.ndarray], None] | None = None):
        self._made: np.ndarray | None = None
        self.make: Callable[[], np.ndarray] | None = make
        self.add_to = add_to
        super().__init__(None)  # type: ignore[arg-type]

    @property
    def _array(self) -> np.ndarray:
        if self._made is None:
            assert self.make is not None
            self._made = self.make()
            self.make = self.add_to = None  # and what they hold
        return self._made

    @_array.setter
    def _array(self, array: np.ndarray | None) -> None:  # type: ignore[override]
        self._made = array


def plain(g: Tensor) -> Tensor:
    """`g` for passing on, after which others may hold its array."""
    return Tensor(g._array) if isinstance(g, (Fresh, Late)) and g.op is None else g


def own(g: Tensor) -> Fresh:
    """The values of `g`, copied if others may hold its array, or if it is a small part of one that it would keep alive."""
    array = g._array
    mine = type(g) in (Fresh, Late) and getattr(array.base, "nbytes", 0) <= 2 * array.nbytes
    return Fresh(array if mine else np.array(array))


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, in the array of one that is Fresh."""
    if state.recording or state.watch is not None:
        return accumulate(a, b)
    a, b = (a, b) if type(a) is Fresh else (b, a)
    if type(a) is not Fresh:
        return Fresh(np.asarray(a._array + b._array))
    if isinstance(b, Late) and b.add_to is not None:
        b.add_to(a._array)
    else:
        np.add(a._array, b._array, out=a._array)
    return a
