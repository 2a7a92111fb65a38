"""A recorded program as text, one line for each op."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .autodiff import alias
from .graph import Tensor, order, setting
from .ops import linalg


class Program:
    """The recording behind some outputs; printing it gives `%3: float32[4, 3] = matmul(%1, %2)   # module.path`, line by line."""

    def __init__(self, outputs: Sequence[Tensor], names: dict[int, str]):
        self.outputs = list(outputs)
        self._names = names

    def __str__(self) -> str:
        record = [t for t in order(self.outputs) if t.op is not alias and (id(t) in self._names or not _inline(t))]
        places = {i: n for n, i in enumerate(self._names, -len(self._names))}
        record.sort(key=lambda t: t.time if t.op else places.get(id(t), 0))
        where = {id(t): f"%{i}" for i, t in enumerate(record, 1)}
        rows = [(f"{where[id(t)]}: {kind(t)} = {self._made(t, where)}", ".".join(t.scope)) for t in record]
        width = max([len(text) for text, scope in rows if scope], default=0)
        lines = [f"{text:<{width}}   # {scope}" if scope else text for text, scope in rows]
        return "\n".join([*lines, "return " + ", ".join(_read(t, where) for t in self.outputs)])

    __repr__ = __str__

    def _made(self, t: Tensor, where: dict[int, str]) -> str:
        if t.op is None:
            name = self._names.get(id(t)) or t.name or ("" if t.requires_grad else _repeated(t))
            return f"{'input' if id(t) in self._names else 'parameter' if t.requires_grad else 'constant'} {name}".rstrip()
        given = [_read(x, where) for x in t.inputs]
        given += [f"{key}={_short(value)}" for key, value in t.params.items()]
        return f"{t.op.name.lstrip('_')}({', '.join(given)})"


def kind(t: Tensor) -> str:
    """dtype[shape], as in float32[4, 3]."""
    return f"{t.dtype}[{', '.join(map(str, t.shape))}]"


def _inline(t: Tensor) -> bool:
    """Whether `t` is a number written where it is used rather than on a line of its own."""
    return t.op is None and t.size == 1 and not t.requires_grad and t.name is None


def _read(t: Tensor, where: dict[int, str]) -> str:
    while t.op is alias:
        t = t.inputs[0]
    return where.get(id(t)) or f"{t._array.item():.6g}"


def _repeated(t: Tensor) -> str:
    """The number that all entries are equal to, if they are."""
    return f"{t._array.flat[0]:.6g}" if t.size and (t._array == t._array.flat[0]).all() else ""


def _short(value: Any) -> str:
    """A parameter of an op: arrays by dtype and shape, the rest as Python writes it."""
    return kind(Tensor(value)) if isinstance(value, np.ndarray) and value.size > 1 else str(value)


def _argument_names(f: Callable, args: Sequence[Any]) -> list[str]:
    """The names that `f` gives its positional arguments; arg0, arg1, .. where it does not say."""
    try:
        given = list(inspect.signature(getattr(f, "forward", f)).parameters.values())
    except (TypeError, ValueError):
        given = []
    names = [p.name for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"arg{i}" for i in range(len(args))]


def trace(f: Callable | Any, *args: Any, **kwargs: Any) -> Any:
    """The ops that f(*args, **kwargs) records, as a Program to print; `.outputs` are its Tensors, say for `tg.draw`.

    Every floating-point array among the positional arguments counts as a variable.  For an array x instead of a function,
    trace(x, offset=0) is the sum of its diagonal, as in NumPy.
    """
    if not callable(f):
        return linalg.trace(f, *args, **kwargs)
    names: dict[int, str] = {}
    fresh_args = []
    with setting(recording=True):
        for root, arg in zip(_argument_names(f, args), args, strict=True):
            leaves, rebuild = tree.flatten(arg)
            fresh = [Tensor(x._array, requires_grad=x.dtype.kind == "f", name=x.name) for x in leaves]
            names.update((id(x), path) for x, path in zip(fresh, tree.paths(arg, root), strict=True))
            fresh_args.append(rebuild(fresh))
        outputs, _ = tree.flatten(f(*fresh_args, **kwargs))
    return Program(outputs, names)
