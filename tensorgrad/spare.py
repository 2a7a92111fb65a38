"""Memory that a backward pass may write over: an input of an op that nobody will read again."""

from __future__ import annotations

from operator import attrgetter

import numpy as np

from .graph import Tensor, state
from .holders import holders

_array, _owner = attrgetter("_array"), attrgetter("_array.base")


def spare(node: Tensor, which: int = 0) -> bool:
    """Whether the memory of input number `which` of `node` is held by this graph alone, which is being freed, and by no rule
    that is still to run.

    The graph itself holds a tensor twice, in the list of nodes and as an input.  Views on the way from the op that made the
    array, such as reshapes, are held likewise, and refer to the owner once each.  An op whose rule reads its own result (exp,
    say) still needs it.  What repeats its entries, as broadcasting does, is read-only.
    """
    if not state.freeing or type(_owner(node.inputs[which])) is not np.ndarray or not _array(node.inputs[which]).flags.writeable:
        return False
    views, memory = 1, id(_owner(node.inputs[which]))
    while True:
        tensors = [node.inputs[which]]
        if holders(tensors)[0] != 3 or holders(map(_array, tensors))[0] != 1:
            return False
        made_by = tensors[0].op
        if made_by is None or made_by.reads_result:
            return False
        behind = tensors[0].inputs
        if len(behind) != 1 or id(_owner(behind[0])) != memory:
            return _owner(tensors[0]).base is None and holders(map(_owner, tensors))[0] == views
        node, which, views = tensors[0], 0, views + 1
