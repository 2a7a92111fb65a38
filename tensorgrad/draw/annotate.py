"""The text on a node: its title, then a line for each thing that was asked for."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence

import numpy as np

from ..autodiff import pull
from ..cost import op_cost, plain
from ..graph import Op, Tensor, order, setting
from .outline import Item
from .view import Node

SHOWABLE = ("shape", "dtype", "value", "grad", "flops", "bytes", "time", "formula")

_INFIX = {"add": "+", "subtract": "−", "multiply": "×", "divide": "/", "pow": "^"}
_POWERS = dict(zip((2.0, 3.0, 4.0), "²³⁴", strict=True))


def title(node: Node) -> str:
    """What the node is: the op with its numbers, the module, the name of a leaf."""
    item = node.items[0]
    if node.role == "op":
        return _call(item)
    return node.name or ("constant" if node.role == "constant" else "input" if node.role == "input" else "parameter")


def _call(item: Item) -> str:
    """An op as one would write it, a dot for each tensor: `sigmoid`, `2 × ·`, `·²`, `sum over 0, 1`."""
    t = item.tensor
    assert t.op is not None
    name = {"sum_to": "sum", "accumulate": "add"}.get(plain(t.op.name), plain(t.op.name))
    if name == "permute_dims" and t.params["axes"][-2:] == (t.ndim - 1, t.ndim - 2):
        return "transpose"
    if item.numbers:
        terms = [f"{item.numbers[i]:.4g}" if i in item.numbers else "·" for i in range(len(t.inputs))]
        if name == "pow" and item.numbers.get(1) in _POWERS:
            return "·" + _POWERS[item.numbers[1]]
        if name in _INFIX:
            return f"{terms[0]} {_INFIX[name]} {terms[1]}"
        return f"{name}({', '.join(terms)})"
    axes = t.params.get("axes", t.params.get("axis")) if name != "permute_dims" else None
    if axes is not None:
        return f"{name} over {axes if isinstance(axes, int) else ', '.join(map(str, axes))}" if axes != () else name
    return f"causal {name}" if t.params.get("causal") else name


def argument_names(item: Item) -> list[str]:
    """What an op calls its array arguments, where several of them could be confused."""
    body = getattr(item.tensor.op, "body", None)
    parameters = inspect.signature(body).parameters.values() if body else []
    names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    return names if len(names) > 2 and sum(x.role != "parameter" for x in item.inputs) > 2 else []


class Annotator:
    """Lines of text for Nodes.  What must be computed first, gradients, is computed once, for the whole recording."""

    def __init__(self, outputs: Sequence[Tensor], show: Sequence[str]):
        self.show = show
        self.cotangents = _cotangents(outputs) if "grad" in show else {}

    def lines(self, node: Node) -> list[str]:
        """The lines under the title."""
        shown = [item.tensor if node.role == "result" else item.shown for item in node.outputs or node.items[:1]]
        if node.role == "result" and len(node.items) > 1:
            return []
        lines = list(dict.fromkeys([kind(t, self.show) for t in shown[:2]]))
        if node.role == "module":
            lines.append(_contents(node))
        if "formula" in self.show and node.role == "op":
            lines.append(formula(node.items[0].tensor.op))
        if "value" in self.show and node.role != "module":
            lines.append(values(shown[0]._array))
        if "grad" in self.show and node.role != "result":
            lines += [f"‖gradient‖ {self.cotangents[id(t)]:.3g}" for t in shown[:1] if id(t) in self.cotangents]
        ops = [item.tensor for item in node.items if item.role == "op"] if node.role in ("op", "module") else []
        return [line for line in [*lines, *(self._costs(ops) if ops else [])] if line]

    def _costs(self, ops: Sequence[Tensor]) -> list[str]:
        costs = [op_cost(t) for t in ops] if {"flops", "bytes"} & set(self.show) else []
        lines = []
        if "flops" in self.show:
            lines.append(f"{_scaled(sum(c.flops for c in costs))}FLOP")
        if "bytes" in self.show:
            lines.append(f"{_scaled(sum(c.bytes_read + c.bytes_written for c in costs))}B moved")
        if "time" in self.show:
            lines.append(f"{_scaled(sum(seconds(t) for t in ops))}s")
        return lines


def kind(t: Tensor, show: Sequence[str]) -> str:
    """dtype[shape], or the one of them that is shown."""
    shape = "" if "shape" not in show else f"[{', '.join(map(str, t.shape))}]" if t.ndim else " scalar"
    return f"{t.dtype}{shape}" if "dtype" in show else shape.strip()


def _contents(node: Node) -> str:
    ops = sum(item.role == "op" for item in node.items)
    learned = sum(item.tensor.size for item in node.items if item.role == "parameter")
    return f"{ops} op{'s' if ops > 1 else ''}" + (f", {learned:,} parameters" if learned else "")


def formula(op: Op | None) -> str:
    """The equation in an op's docstring."""
    text = (inspect.getdoc(op) or "").split("\n\n")[0].replace("\n", " ")
    clauses = [clause.strip() for clause in text.rstrip(".").split(";")]
    return next((clause for clause in clauses if "=" in clause), "")


def values(array: np.ndarray) -> str:
    """The entries if they are few, else their range."""
    if array.size == 1:
        return f"{array.item():.5g}"
    if array.size <= 4:
        return ", ".join(f"{x:.3g}" for x in array.reshape(-1))
    if array.size == 0:
        return "empty"
    return f"{array.min():.3g} to {array.max():.3g}, mean {array.mean():.3g}"


def seconds(t: Tensor) -> float:
    """The shortest of three runs of the op that made `t`, on the arrays that it was given."""
    assert t.op is not None
    arrays = [x._array for x in t.inputs]
    runs = []
    for _ in range(3):
        start = time.perf_counter()
        t.op.forward(*arrays, **t.params)
        runs.append(time.perf_counter() - start)
    return min(runs)


def _scaled(x: float) -> str:
    """A number with a prefix for its unit: 1234 is 1.23 k."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if abs(x) >= size:
            return f"{x / size:.3g} {prefix}"
    return f"{x:.3g} "


class _Norms:
    """Watches a backward pass and keeps the norm of the cotangent of each result."""

    def __init__(self) -> None:
        self.norms: dict[int, float] = {}

    def result(self, op: Op, inputs: Sequence[Tensor], out: Tensor) -> None:
        """Results of the pass itself are of no interest."""

    def cotangents(self, node: Tensor, g: Tensor, gs: Sequence[Tensor | None]) -> None:
        self.norms[id(node)] = float(np.linalg.norm(g._array))


def _cotangents(outputs: Sequence[Tensor]) -> dict[int, float]:
    """The norm of the gradient of the sum of all outputs with respect to each tensor behind them."""
    differentiable = [t for t in outputs if t.requires_grad]
    leaves = [t for t in order(differentiable) if t.op is None and t.requires_grad]
    watch = _Norms()
    with setting(watch=watch):
        grads = pull(differentiable, [Tensor(np.ones(t.shape, t.dtype)) for t in differentiable], leaves)
    pairs = zip(leaves, grads, strict=True)
    return watch.norms | {id(x): float(np.linalg.norm(g._array)) for x, g in pairs if g is not None}
