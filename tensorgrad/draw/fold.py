"""Repetition in an outline: blocks that are alike are drawn once, and a loop without modules is cut into its turns.

Everything here works on the paths of Items: a turn of a loop, or a stretch of a long list of ops, is one more module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .outline import Item, Outline, Path, common

LONGEST_TURN = 300  # ops in one turn of a loop that is still found
STRETCHES = 40  # that a long list of ops is cut into


@dataclass
class Folds:
    """Items and groups that are drawn as another, the first of their kind, and how often each of those occurs."""

    items: dict[Item, Item] = field(default_factory=dict)
    groups: dict[Path, Path] = field(default_factory=dict)
    times: dict[Path, int] = field(default_factory=dict)
    last: dict[Path, str] = field(default_factory=dict)  # the name of the last of each

    def first(self, item: Item) -> Item:
        """The Item that `item` is drawn as."""
        while item in self.items:
            item = self.items[item]
        return item

    def apart(self, a: Item, b: Item) -> bool:
        """Whether two Items lie in different groups that are drawn as one."""
        for i, (x, y) in enumerate(zip(a.path, b.path, strict=False), 1):
            if x != y:
                p, q = a.path[:i], b.path[:i]
                return self.groups.get(p, p) == self.groups.get(q, q)
        return False


def fold(ops: Sequence[Item]) -> Folds:
    """Find groups side by side with the same ops, shapes and wiring, from the outermost in."""
    folds = Folds()
    pending: list[tuple[Path, Sequence[Item]]] = [((), ops)]
    while pending:
        path, inside = pending.pop()
        alike: dict[Any, list[tuple[Path, list[Item]]]] = {}
        for child, members in _children(path, inside).items():
            alike.setdefault(_structure(child, members), []).append((child, members))
        for (first, members), *others in alike.values():
            pending.append((first, members))
            if len(others) >= 2 and first[1:]:  # two passes are never one, and a pair is seen at a glance
                folds.times[first], folds.last[first] = len(others) + 1, others[-1][0][-1]
                for other, theirs in others:
                    folds.groups[other] = first
                    _pair(theirs, members, other, folds)
    return folds


def _children(path: Path, ops: Iterable[Item]) -> dict[Path, list[Item]]:
    children: dict[Path, list[Item]] = {}
    for op in ops:
        if len(op.path) > len(path):
            children.setdefault(op.path[: len(path) + 1], []).append(op)
    return children


def _structure(path: Path, ops: Sequence[Item]) -> Any:
    """Equal for groups with the same ops on the same shapes, connected in the same way inside."""
    place = {op: i for i, op in enumerate(ops)}

    def source(x: Item) -> Any:
        return place.get(x, x.role if x.path[: len(path)] == path else "outside")

    return tuple((_kind(op), _unnumbered(op.path[len(path) :]), tuple([source(x) for x in op.inputs])) for op in ops)


def _kind(op: Item) -> Any:
    assert op.tensor.op is not None
    return op.tensor.op.name, op.tensor.shape, op.tensor.dtype.char


def _unnumbered(path: Path) -> Path:
    return tuple([re.sub(r"\d+", "", name) for name in path])


def _pair(ops: Sequence[Item], firsts: Sequence[Item], path: Path, folds: Folds) -> None:
    for op, first in zip(ops, firsts, strict=True):
        folds.items[op] = first
        for x, y in zip(op.inputs, first.inputs, strict=True):
            if x.role != "op" and x is not y and x.path[: len(path)] == path:
                folds.items[x] = y


def cut_loops(outline: Outline) -> None:
    """Where most ops of a pass are one sequence repeated, put each turn into a group of its own."""
    for mark, ops in _children((), outline.ops).items():
        child, ops = _main(mark, ops)
        start, period, turns = _repetition([(_kind(op), _unnumbered(op.path[len(child) :])) for op in ops])
        if len(common([op.path for op in ops[start : start + period]])) > len(child):
            continue  # each turn has a module to itself
        for i, op in enumerate(ops[start : start + period * turns]):
            op.path = (*child, f"turn {i // period}", *op.path[len(child) :])
    outline.assign_roles()


def _main(path: Path, ops: list[Item]) -> tuple[Path, list[Item]]:
    """The innermost group that holds more than half of the ops."""
    while True:
        children = _children(path, ops)
        child = max(children, key=lambda c: len(children[c]), default=path)
        if 2 * len(children.get(child, [])) <= len(ops):
            return path, ops
        path, ops = child, children[child]


def _repetition(kinds: Sequence[Any]) -> tuple[int, int, int]:
    """(start, length, count) of the repetition that covers most of `kinds`; count 0 if none covers half of it."""
    numbers: dict[Any, int] = {}
    codes = np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds])
    best = (0, 1, 0)
    for period in range(1, min(LONGEST_TURN, len(codes) // 3) + 1):
        start, length = _longest_run(codes[period:] == codes[:-period])
        turns = (length + period) // period
        if turns >= 3 and turns * period > max(best[1] * best[2], len(codes) // 2):
            best = (start, period, turns)
    return best


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """(start, length) of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    i = int(np.argmax(lengths))
    return int(edges[::2][i]), int(lengths[i])


def cut_lists(outline: Outline) -> set[Path]:
    """Put the ops of each long list into consecutive stretches, as groups of their own; the groups made."""
    lists: dict[Path, list[Item]] = {}
    for op in outline.ops:
        lists.setdefault(op.path, []).append(op)
    made = set()
    for path, ops in lists.items():
        size = -(-len(ops) // STRETCHES)
        for i, op in enumerate(ops if size > 2 else []):
            start = i // size * size
            op.path = (*path, f"ops {start + 1} to {min(start + size, len(ops))}")
            made.add(op.path)
    outline.assign_roles()
    return made
