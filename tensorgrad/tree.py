"""Trees: nested lists, tuples, dicts and modules, taken apart into a flat list of Tensors and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .graph import Tensor, tensor

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(tree: Any) -> tuple[list[Tensor], Rebuild]:
    """The Tensors of `tree`, left to right, and a function that puts a list of others in their places.

    Floats and float arrays count as Tensors; None, strings, integers and other objects are kept as they are.
    An object takes part by a method `tree_flatten() -> (parts, rebuild)`, where parts is a list, tuple or dict.
    """
    if isinstance(tree, Tensor):
        return [tree], lambda leaves: leaves[0]
    if isinstance(tree, float) or (isinstance(tree, (np.ndarray, np.generic)) and tree.dtype.kind == "f"):
        return [tensor(tree)], lambda leaves: leaves[0]
    if isinstance(tree, dict):
        leaves, rebuild = _flatten_all(list(tree.values()))
        return leaves, lambda new: dict(zip(tree, rebuild(new), strict=True))
    if isinstance(tree, (list, tuple)):
        leaves, rebuild = _flatten_all(tree)
        make: Any = type(tree)._make if hasattr(tree, "_make") else type(tree)
        return leaves, lambda new: make(rebuild(new))
    if hasattr(tree, "tree_flatten"):
        parts, build = tree.tree_flatten()
        leaves, rebuild = flatten(parts)
        return leaves, lambda new: build(rebuild(new))
    return [], lambda leaves: tree


def _flatten_all(trees: Sequence[Any]) -> tuple[list[Tensor], Callable[[Sequence[Any]], list[Any]]]:
    parts = [flatten(t) for t in trees]
    leaves = [leaf for part, _ in parts for leaf in part]

    def rebuild(new: Sequence[Any]) -> list[Any]:
        start, built = 0, []
        for part, build in parts:
            built.append(build(new[start : start + len(part)]))
            start += len(part)
        return built

    return leaves, rebuild


def parts(tree: Any) -> Any:
    """The plain container whose structure a gradient with respect to `tree` has: a module's is a dict by name."""
    return tree.tree_flatten()[0] if hasattr(tree, "tree_flatten") else tree


def paths(tree: Any, root: str) -> list[str]:
    """A name for each Tensor that `flatten` gives: `root`, then how Python would reach it."""
    if isinstance(tree, dict):
        return [path for key, part in tree.items() for path in paths(part, f"{root}[{key!r}]")]
    if isinstance(tree, (list, tuple)):
        return [path for i, part in enumerate(tree) for path in paths(part, f"{root}[{i}]")]
    if hasattr(tree, "tree_flatten"):
        return paths(tree.tree_flatten()[0], root)
    return [root] * len(flatten(tree)[0])
