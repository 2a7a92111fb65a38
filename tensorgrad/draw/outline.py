"""What a recording looks like once bookkeeping is left out: ops and leaves, each in the pass and the modules it belongs to.

A path is (pass, module, module, ..), the pass being "" for forward, "∇" for backward, "∇∇" for the backward pass of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..autodiff import freed, nabla
from ..cotangents import accumulate
from ..graph import Tensor, order

Path = tuple[str, ...]
Memory = tuple[int, int]


@dataclass(eq=False)
class Item:
    """An op's result or a leaf.  Its `inputs` are Items; arguments that are plain numbers stand in `numbers`, by place."""

    tensor: Tensor
    role: str = "op"  # or parameter, input, constant
    path: Path = ("",)
    inputs: list[Item] = field(default_factory=list)
    numbers: dict[int, float] = field(default_factory=dict)
    name: str = ""
    shown: Tensor = None  # type: ignore[assignment]  # the result after reshapes that were left out, whose shape to print

    def __post_init__(self) -> None:
        self.shown = self.tensor


class Outline:
    """Items for what was recorded on the way to `outputs`: `ops` in the order of computing, and `leaves`.

    `names` gives some leaves a name and the tensor to show for them, by `memory`.  Raises RuntimeError for a freed recording.
    """

    def __init__(self, outputs: Sequence[Tensor], names: Mapping[Memory, tuple[str, Tensor]]):
        record = order(outputs)
        if any(t.op is freed for t in record):
            raise RuntimeError("this graph was freed by backward(): draw it before, or call backward(retain_graph=True)")
        self.names = names
        self.outputs = {id(t) for t in outputs}
        self.passes = _passes(record)
        self.uses = Counter([id(x) for t in record for x in t.inputs])
        self.forward = {id(x) for t in record if t.op and not self.passes[id(t)] for x in t.inputs}
        self.by_memory: dict[Memory, Item] = {}
        self.items: dict[int, Item | float] = {}  # for each tensor its Item, or the number that it is
        for t in record:
            self.items[id(t)] = self._leaf(t) if t.op is None else self._result(t)
        behind = _behind([self.item(t) for t in outputs])
        self.ops = sorted([x for x in behind if x.role == "op"], key=lambda op: op.tensor.time)
        self.leaves = [x for x in behind if x.role != "op"]
        self.assign_roles()
        first_use = {x: op.path for op in reversed(self.ops) for x in op.inputs}
        for leaf in self.leaves:
            self._name(leaf, first_use.get(leaf, ())[len(leaf.path) :])

    def item(self, t: Tensor) -> Item:
        """The Item of one of the outputs."""
        found = self.items[id(t)]
        assert isinstance(found, Item)
        return found

    def _leaf(self, t: Tensor) -> Item | float:
        """One Item for all leaves that show the same memory; a nameless number is no Item."""
        nameless = not t.requires_grad and t.name is None and memory(t._array) not in self.names
        if nameless and id(t) not in self.outputs and (t.size == 1 or (id(t) not in self.forward and _uniform(t._array))):
            return t._array.flat[0].item()
        item = self.by_memory.setdefault(memory(t._array) if t.size else (id(t), 0), Item(t, "leaf"))
        if (t.requires_grad and not item.tensor.requires_grad) or (t.name and not item.tensor.name):
            item.tensor = item.shown = t
        return item

    def _result(self, t: Tensor) -> Item | float:
        assert t.op is not None
        given = [self.items[id(x)] for x in t.inputs]
        source = None if id(t) in self.outputs else _same(t, given if self.passes[id(t)] else [])
        if source is not None:
            item = self.items[id(source)]
            if isinstance(item, Item) and item.role == "op" and self.uses[id(source)] == 1 and t.ndim < source.ndim:
                item.shown = t
            return item
        inputs = [x for x in given if isinstance(x, Item)] + self._arrays(t)
        numbers = {i: x for i, x in enumerate(given) if not isinstance(x, Item)}
        modules = t.scope[1:] if nabla(t.scope) else t.scope
        if t.op is accumulate:
            modules = _where_added([x for x in inputs if x.role == "op"])
        return Item(t, "op", (self.passes[id(t)], *modules), inputs, numbers)

    def _arrays(self, t: Tensor) -> list[Item]:
        """Token ids, targets and the like, which an op takes as parameters: shown like inputs, in the forward pass."""
        found = [] if self.passes[id(t)] else [(k, v) for k, v in t.params.items() if isinstance(v, np.ndarray) and v.size > 1]
        leaves = [self._leaf(Tensor(value, name=key)) for key, value in found if value.dtype.kind in "iu"]
        return [leaf for leaf in leaves if isinstance(leaf, Item)]

    def assign_roles(self) -> None:
        """Tell parameters, inputs and constants apart, and put each where it is used; inputs outside all modules."""
        users: dict[Item, list[Item]] = {leaf: [] for leaf in self.leaves}
        data: set[Item] = set()  # leaves that are no parameters, and what was computed from them
        entering: set[Item] = set()  # such leaves where they first meet nothing but parameters
        given = {leaf for leaf in self.leaves if memory(leaf.tensor._array) in self.names}
        for leaf in self.leaves:
            leaf.role = "parameter" if leaf.tensor.requires_grad else "leaf"
        for op in self.ops:
            flowing = [x for x in op.inputs if x in data or x.role == "leaf"]
            entering.update(x for x in flowing if x.role == "leaf" and len(set(flowing)) == 1)
            data.update([op] if flowing else [])
            for x in op.inputs:
                if x.role != "op":
                    users[x].append(op)
        for leaf, ops in users.items():
            first = min([op.path[0] for op in ops], default="")
            leaf.path = common([op.path for op in ops if op.path[0] == first]) or (first,)
            if leaf.role == "leaf":
                outside = leaf in entering or leaf in given or leaf.tensor.name or len(leaf.path) == 1
                leaf.role, leaf.path = ("input", ("",)) if outside and not first else ("constant", leaf.path)

    def _name(self, leaf: Item, used_in: Path) -> None:
        """The name given for a leaf, less the modules it is drawn in, or its own after the module which first uses it."""
        own = leaf.tensor.name
        leaf.name = ".".join([*used_in, own]) if own and leaf.role == "parameter" else own or ""
        if memory(leaf.tensor._array) in self.names:
            leaf.name, leaf.shown = self.names[memory(leaf.tensor._array)]
            for i in range(1, len(leaf.path)):
                leaf.name = leaf.name.removeprefix(".".join(leaf.path[i:]) + ".")


def _where_added(terms: Sequence[Item]) -> Path:
    """The modules where cotangents of one tensor add up: around the last of them to be computed, or around all."""
    last = max(terms, key=lambda x: x.tensor.time, default=None)
    around = last.path[1:-1] if last else ()
    return max(common([x.path[1:] for x in terms]), around, key=len)


def _same(t: Tensor, given: Sequence[Item | float]) -> Tensor | None:
    """What `t` equals up to bookkeeping: copies, axes of length 1, a transpose undone.

    In a backward pass, where the inputs are `given`, also a product with 1, and a choice that always falls the same way.
    """
    assert t.op is not None
    name, x = t.op.name.lstrip("_"), t.inputs[0]
    if name in ("alias", "broadcast_to", "astype") or (name == "reshape" and _long(t.shape) == _long(x.shape)):
        return x
    if name == "permute_dims" and x.op is t.op and _layout(x.inputs[0]) == _layout(t):
        return x.inputs[0]
    if name == "where" and given:
        condition = t.params["condition"]
        return x if condition.all() else t.inputs[1] if not condition.any() else None
    if name in ("multiply", "pow") and 1.0 in given:
        return x if given[1] == 1.0 else t.inputs[1] if name == "multiply" else None
    return None


def _behind(outputs: Sequence[Item]) -> list[Item]:
    """Every Item that `outputs` were made from, and they themselves."""
    found = dict.fromkeys(outputs)
    stack = list(outputs)
    while stack:
        new = [x for x in stack.pop().inputs if x not in found]
        found.update(dict.fromkeys(new))
        stack.extend(new)
    return list(found)


def _layout(t: Tensor) -> tuple:
    return t.shape, t._array.strides, memory(t._array)


def _long(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]


def _uniform(array: np.ndarray) -> bool:
    return array.size > 0 and bool((array == array.flat[0]).all())


def pass_name(mark: str) -> str:
    """What to call the pass of a path: forward, backward, backward of backward."""
    return {0: "forward", 1: "backward", 2: "backward of backward"}.get(len(mark), f"backward, order {len(mark)}")


def memory(array: np.ndarray) -> Memory:
    """Tells apart arrays that show different entries: where they begin and how many they are."""
    return array.__array_interface__["data"][0], array.size


def common(paths: Sequence[Path]) -> Path:
    """The longest path that all of `paths` begin with."""
    shortest = min(paths, key=len, default=())
    for i, part in enumerate(shortest):
        if any(path[i] != part for path in paths):
            return shortest[:i]
    return shortest


def _passes(record: Sequence[Tensor]) -> dict[int, str]:
    """For each tensor the pass it was recorded in, or if that is later, the pass of something it was made from."""
    passes: dict[int, str] = {}
    for t in record:
        passes[id(t)] = max([nabla(t.scope), *[passes[id(x)] for x in t.inputs]])
    return passes
