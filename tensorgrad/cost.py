"""What a recording costs: floating-point operations, bytes moved, memory held.  One walk, and one table of counts.

An addition, a product, a comparison and an elementary function (exp, tanh, ..) count as one operation each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import tree
from .graph import Tensor, order

Count = Callable[[int, Sequence[Tensor], dict[str, Any]], int]  # the size of the result, the inputs, the params -> operations


def _per_input(count: int) -> Count:
    return lambda size, inputs, params: count * inputs[0].size


def _per_matrix(count: float) -> Count:
    """count n^3, for square matrices."""
    return lambda size, inputs, params: round(count * inputs[0].size * inputs[0].shape[-1])


def _linear(size: int, inputs: Sequence[Tensor], params: dict[str, Any]) -> int:
    return size * (2 * inputs[1].shape[1] + len(inputs) - 2)


def _feed_forward(size: int, inputs: Sequence[Tensor], params: dict[str, Any]) -> int:
    hidden = size // max(inputs[1].shape[1], 1) * inputs[1].shape[0]
    biases = (len(inputs) - 3) // 2
    return 4 * hidden * inputs[1].shape[1] + (5 + biases) * hidden + (biases + (len(inputs) - 3) % 2) * size


def _solve(size: int, inputs: Sequence[Tensor], params: dict[str, Any]) -> int:
    n = inputs[0].shape[-1]
    return round(2 / 3 * inputs[0].size * n) + 2 * n * size


def _attention(size: int, inputs: Sequence[Tensor], params: dict[str, Any]) -> int:
    q, k, v = (x.shape for x in inputs[:3])
    scores = math.prod(q[:-1]) * k[-2]
    return scores * (2 * q[-1] + 2 * v[-1] + 6)  # q k^T, weights times v; the scale, and softmax's five


def _self_attention(size: int, inputs: Sequence[Tensor], params: dict[str, Any]) -> int:
    batch, length, width = inputs[0].shape
    return batch * length * length * (4 * width // 3 + 6 * params["heads"])


# By the op's name.  Absent: one operation for each entry of the result.  Causal attention counts all scores.
COUNTS: dict[str, Count] = {
    "matmul": lambda size, inputs, params: 2 * size * inputs[0].shape[-1],
    "linear": _linear,
    "residual_linear": lambda size, inputs, params: _linear(size, inputs[1:], params) + size,
    "feed_forward": _feed_forward,
    "attention": _attention,
    "biased_attention": _attention,
    "self_attention": _self_attention,
    "softmax": _per_input(5),  # maximum, difference, exponential, sum, quotient
    "log_softmax": _per_input(5),
    "cross_entropy": _per_input(4),
    "layer_norm": lambda size, inputs, params: (4 + len(inputs)) * size,
    "rms_norm": lambda size, inputs, params: (2 + len(inputs)) * size,
    "gelu": lambda size, inputs, params: (10 if params.get("approximate") == "tanh" else 5) * size,
    "silu": _per_input(3),
    "solve": _solve,
    "inv": _per_matrix(2),
    "cholesky": _per_matrix(1 / 3),
    **dict.fromkeys(("det", "logabsdet"), _per_matrix(2 / 3)),
    **dict.fromkeys(("sum", "sum_to", "sum_repeats", "max", "min", "cumulative_sum"), _per_input(1)),
    **dict.fromkeys(("put", "scatter_rows", "put_along_axis", "fold"), _per_input(1)),
    **dict.fromkeys(
        ("alias", "reshape", "permute_dims", "broadcast_to", "astype", "flip", "roll", "concat", "repeat", "pad", "tril")
        + ("diagonal", "undiagonal", "getitem", "gather_rows", "take_along_axis", "where", "unfold"),
        lambda size, inputs, params: 0,
    ),
}


def plain(name: str) -> str:
    """An op's name without the underscore of those that a public function prepares arguments for."""
    return name.lstrip("_")


@dataclass(frozen=True)
class OpCost:
    """What one recorded op costs."""

    op: str
    scope: tuple[str, ...]
    shape: tuple[int, ...]
    flops: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Cost:
    """Totals of a recording, and a row for each op in the order of computing; printing it shows the sums by kind of op.

    `peak_memory` is what the recording holds when the outputs have been computed: every array once, views not counted.
    """

    flops: int
    bytes_read: int
    bytes_written: int
    peak_memory: int
    ops: list[OpCost] = field(repr=False)

    def __str__(self) -> str:
        kinds: dict[str, list[OpCost]] = {}
        for row in self.ops:
            kinds.setdefault(row.op, []).append(row)
        rows = [(name, len(of), *_sums(of)) for name, of in kinds.items()]
        rows.sort(key=lambda row: (-row[2], -row[3] - row[4]))
        rows.append(("total", len(self.ops), self.flops, self.bytes_read, self.bytes_written))
        lines = [f"{'op':<18}{'calls':>7}{'FLOPs':>18}{'bytes read':>16}{'bytes written':>16}"]
        lines += [f"{name:<18}{n:>7,}{flops:>18,}{read:>16,}{written:>16,}" for name, n, flops, read, written in rows]
        return "\n".join([*lines, f"peak memory {self.peak_memory:,} bytes"])


def _sums(rows: list[OpCost]) -> tuple[int, int, int]:
    return sum(row.flops for row in rows), sum(row.bytes_read for row in rows), sum(row.bytes_written for row in rows)


def cost(*outputs: Any) -> Cost:
    """FLOPs, bytes and memory of everything recorded on the way to `outputs` (Tensors, or containers of them)."""
    record = order(tree.flatten(outputs)[0])
    rows = [op_cost(t) for t in record if t.op is not None]
    memory = {id(owner): owner.nbytes for t in record for owner in map(_owner, _held(t))}
    return Cost(*_sums(rows), sum(memory.values()), rows)


def op_cost(t: Tensor) -> OpCost:
    """The cost of the op that made `t`; a view of an input costs nothing."""
    assert t.op is not None
    name = plain(t.op.name)
    if any(_owner(t._array) is _owner(x._array) for x in t.inputs):
        return OpCost(name, t.scope, t.shape, 0, 0, 0)
    return OpCost(name, t.scope, t.shape, _flops(name, t), sum(x._array.nbytes for x in t.inputs), t._array.nbytes)


def _flops(name: str, t: Tensor) -> int:
    """The table's count; a fused op's gradient for one of its inputs counts as much as the op."""
    of, gradient, _ = name.partition("_gradient")
    if of not in COUNTS:
        return t.size
    return COUNTS[of](t.inputs[0].size, t.inputs[1:], {}) if gradient else COUNTS[of](t.size, t.inputs, t.params)


def _held(t: Tensor) -> list[np.ndarray]:
    return [t._array, *t.saved, *[value for value in t.params.values() if isinstance(value, np.ndarray)]]


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one is, or is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
