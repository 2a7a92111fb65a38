"""Memory that a backward pass may write over: an input of an op that nobody will read again."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from operator import attrgetter

import numpy as np

from .graph import Tensor, state


def _holders(objects: Iterable[object]) -> list[int]:
    """How many references each object has; counted from C, because bytecode may keep references that it does not count."""
    return list(map(getattr(sys, "getrefcount", lambda _: sys.maxsize), objects))


_CALL = min(_holders((object(),))[0], 1 << 30) - 1  # what counting itself adds; an interpreter without counts has nothing spare
_array, _owner = attrgetter("_array"), attrgetter("_array.base")


def spare(node: Tensor, which: int = 0) -> bool:
    """Whether the memory of input number `which` of `node` is held by this graph alone, which is being freed, and by no rule
    that is still to run.

    Whoever else can see an array refers to it, to its tensor or to a view of it, and a view refers to the owner of the memory:
    so counting references decides.  The graph itself holds a tensor twice, in the list of nodes and as an input.  Views on the
    way from the op that made the array, such as reshapes, are held likewise, and refer to the owner once each.  An op whose
    rule reads its own result (exp, say) still needs it.
    """
    if not state.freeing or type(_owner(node.inputs[which])) is not np.ndarray:
        return False
    views, memory = 1, id(_owner(node.inputs[which]))
    while True:
        tensors = [node.inputs[which]]
        if _holders(tensors)[0] != _CALL + 3 or _holders(map(_array, tensors))[0] != _CALL + 1:
            return False
        made_by = tensors[0].op
        if made_by is None or made_by.reads_result:
            return False
        behind = tensors[0].inputs
        if len(behind) != 1 or id(_owner(behind[0])) != memory:
            return _owner(tensors[0]).base is None and _holders(map(_owner, tensors))[0] == _CALL + views
        node, which, views = tensors[0], 0, views + 1
