"""An outline brought to a size that can be read: modules closed into one node each, edges between them merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..graph import Tensor
from .fold import Folds, cut_lists, cut_loops, fold
from .outline import Item, Outline, Path, pass_name

READABLE = 500  # nodes; a larger picture is folded


@dataclass(eq=False)
class Node:
    """What is drawn as one: an Item, or everything inside a closed group."""

    role: str  # an Item's, or module, or result
    path: Path  # the group it lies in
    items: list[Item]
    name: str = ""
    times: int = 1
    outputs: list[Item] = field(default_factory=list)  # of a module: the results used outside


class View:
    """`nodes`, `edges` from node to node with the place of the argument, and `folds`, of the outline of `outputs`.

    `depth` is how many levels of modules are open, the innermost of them shown as nodes; None opens as many as can be read.
    """

    def __init__(self, outline: Outline, outputs: Sequence[Tensor], depth: int | None):
        self.outline = outline
        self.folds = Folds()
        self.closed: set[Path] = set()
        self.depth = depth
        self._shrink()
        self.of: dict[Item, Node] = {}
        self.groups: dict[Path, Node] = {}
        self.edges: dict[tuple[Node, Node, int], None] = {}
        for op in outline.ops:
            if op not in self.folds.items:
                self._connect(op)
        results = self._results(outputs)
        self.nodes = [*dict.fromkeys(self.of.values()), *results]

    def _shrink(self) -> None:
        if self._size() > READABLE:
            self.folds = fold(self.outline.ops)
        if self._size() > READABLE:
            cut_loops(self.outline)
            self.folds = fold(self.outline.ops)
        if self.depth is None:
            deepest = max([len(op.path) for op in self.outline.ops], default=0)
            while self._size() > READABLE and deepest > 1:
                deepest -= 1
                self.depth = deepest
        if self._size() > READABLE:
            self.closed = cut_lists(self.outline)

    def _size(self) -> int:
        ops = [op for op in self.outline.ops if op not in self.folds.items]
        return len({self._group(x) or x for op in ops for x in (op, *op.inputs)})

    def _group(self, item: Item) -> Path | None:
        """The closed group that hides an Item, or None."""
        if item.role == "input":
            return None
        if self.depth is not None and len(item.path) > self.depth:
            return item.path[: self.depth + 1]
        return item.path if item.path in self.closed else None

    def node(self, item: Item) -> Node:
        """The node that stands for an Item."""
        item = self.folds.first(item)
        if item not in self.of:
            group = self._group(item)
            if group is None:
                node = Node(item.role, item.path, [item], item.name)
            elif group in self.groups:
                node = self.groups[group]
                node.items.append(item)
            else:
                name = group[-1] if group[1:] else pass_name(group[0])
                node = self.groups[group] = Node("module", group[:-1] or group, [item], name, self.folds.times.get(group, 1))
            self.of[item] = node
        return self.of[item]

    def _connect(self, op: Item) -> None:
        node = self.node(op)
        for place, x in enumerate(op.inputs):
            source = self.node(x)
            if source is not node and not self.folds.apart(x, op):
                self._link(source, node, x, place if node.role == "op" else 0)

    def _link(self, source: Node, node: Node, x: Item, place: int = 0) -> None:
        self.edges[source, node, place] = None
        if source.role == "module" and source.path[0] == node.path[0] and self.folds.first(x) not in source.outputs:
            source.outputs.append(self.folds.first(x))

    def _results(self, outputs: Sequence[Tensor]) -> list[Node]:
        """One node for each output, or for several: those that are drawn as one Item, and three or more of one module."""
        names = {id(x.tensor.grad): f"gradient of {'.'.join([*x.path[2:], x.name or x.role])}" for x in self.outline.leaves}
        items: dict[Item, list[str]] = {}
        for t in outputs:
            items.setdefault(self.folds.first(self.outline.item(t)), []).append(t.name or names.get(id(t), "result"))
        sources: dict[Node, list[Item]] = {}
        for item in items:
            sources.setdefault(self.node(item), []).append(item)
        results = []
        for source, inside in sources.items():
            path = source.path if inside[0].path[0] else ("",)
            if source.role == "module" and len(inside) > 2:
                count = sum(len(items[item]) for item in inside)
                results.append(Node("result", path, inside, f"{count} {'gradients' if inside[0].path[0] else 'results'}"))
            else:
                results += [Node("result", path, [item], items[item][0], len(items[item])) for item in inside]
        for node in results:
            for item in node.items:
                source = self.node(item)
                self.edges[source, node, 0] = None
                source.outputs = source.outputs or [item]
        return results
