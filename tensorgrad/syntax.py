"""Python's operators and the usual methods of a Tensor, in one table: each is an op under another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import autodiff
from .graph import Tensor
from .ops import elementwise as e
from .ops import index, linalg, reduce, shape
from .ops import logic as q


def _compare(op: Callable) -> Callable[[Any, Any], Any]:
    return lambda self, other: NotImplemented if other is None or isinstance(other, str) else op(self, other)


def _reversed(op: Callable) -> Callable:
    return lambda self, other: op(other, self)


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes reversed, or in the given order."""
    given = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes or None
    return shape.transpose(self, given)


def _reshape(self: Tensor, *new: Any) -> Tensor:
    """The entries in row-major order in another shape, given as one tuple or as several lengths."""
    return shape.reshape(self, new[0] if len(new) == 1 else new)


def _flatten(self: Tensor) -> Tensor:
    """The entries in row-major order, along one axis."""
    return shape.reshape(self, (self.size,))


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    raise TypeError(
        "tensors are immutable: use y = tg.index_update(x, key, values) for a changed copy, or x.data = .. for a leaf"
    )


def _bool(self: Tensor) -> bool:
    if self.size != 1:
        raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
    return bool(self._array.item())


def _length(self: Tensor) -> int:
    if self.ndim == 0:
        raise TypeError("a tensor without axes has no length")
    return self.shape[0]


def _item(self: Tensor) -> float:
    """The one entry as a Python number.  Raises ValueError if there are more."""
    if self.size != 1:
        raise ValueError(f"item() needs a tensor of one entry, got shape {self.shape}")
    return self._array.item()


def _repr(self: Tensor) -> str:
    values = np.array2string(self._array, separator=", ", prefix="tensor(", threshold=100, edgeitems=3)
    origin = f", op={self.op.name.lstrip('_')}" if self.op else ", requires_grad=True" if self.requires_grad else ""
    return f"tensor({values}, dtype={self.dtype}{f', shape={self.shape}' if self.size > 100 or not self.size else ''}{origin})"


METHODS: dict[str, Any] = {
    "__add__": e.add, "__radd__": _reversed(e.add),
    "__sub__": e.subtract, "__rsub__": _reversed(e.subtract),
    "__mul__": e.multiply, "__rmul__": _reversed(e.multiply),
    "__truediv__": e.divide, "__rtruediv__": _reversed(e.divide),
    "__pow__": e.pow, "__rpow__": _reversed(e.pow),
    "__matmul__": linalg.matmul, "__rmatmul__": _reversed(linalg.matmul),
    "__neg__": e.negative, "__pos__": lambda self: self, "__abs__": e.abs,
    "__floordiv__": q.floor_divide, "__rfloordiv__": _reversed(q.floor_divide),
    "__mod__": q.remainder, "__rmod__": _reversed(q.remainder),
    "__eq__": _compare(q.equal), "__ne__": _compare(q.not_equal), "__lt__": _compare(q.less),
    "__le__": _compare(q.less_equal), "__gt__": _compare(q.greater), "__ge__": _compare(q.greater_equal),
    "__and__": q.bitwise_and, "__or__": q.bitwise_or, "__xor__": q.bitwise_xor, "__invert__": q.bitwise_invert,
    "__rand__": _reversed(q.bitwise_and), "__ror__": _reversed(q.bitwise_or), "__rxor__": _reversed(q.bitwise_xor),
    "__lshift__": q.bitwise_left_shift, "__rlshift__": _reversed(q.bitwise_left_shift),
    "__rshift__": q.bitwise_right_shift, "__rrshift__": _reversed(q.bitwise_right_shift),
    "__getitem__": index.getitem, "__setitem__": _setitem,
    "__iter__": lambda self: iter(shape.unstack(self)), "__len__": _length,
    "__bool__": _bool, "__float__": lambda self: float(_item(self)), "__int__": lambda self: int(_item(self)),
    "__index__": lambda self: self._array.__index__(), "__hash__": lambda self: id(self), "__repr__": _repr,
    "T": property(shape.transpose), "mT": property(shape.matrix_transpose),
    "item": _item, "numpy": lambda self: self.data, "tolist": lambda self: self._array.tolist(),
    "detach": autodiff.stop_gradient, "backward": autodiff.backward,
    "astype": shape.astype, "reshape": _reshape, "transpose": _transpose,
    "flatten": _flatten, "ravel": _flatten, "swapaxes": shape.swapaxes, "permute": _transpose,
    "squeeze": shape.squeeze, "expand_dims": shape.expand_dims, "unsqueeze": shape.expand_dims,
    "broadcast_to": shape.broadcast_to, "repeat": shape.repeat, "diagonal": shape.diagonal, "take": index.take,
    "sum": reduce.sum, "mean": reduce.mean, "var": reduce.var, "std": reduce.std, "max": reduce.max, "min": reduce.min,
    "prod": reduce.prod, "logsumexp": reduce.logsumexp, "norm": reduce.norm, "any": reduce.any, "all": reduce.all,
    "cumsum": reduce.cumulative_sum, "cumprod": reduce.cumulative_prod,
    "argmax": index.argmax, "argmin": index.argmin, "argsort": index.argsort, "sort": index.sort,
    "dot": linalg.matmul, "matmul": linalg.matmul, "trace": linalg.trace,
    "exp": e.exp, "log": e.log, "sqrt": e.sqrt, "square": e.square, "abs": e.abs, "pow": e.pow, "sin": e.sin, "cos": e.cos,
    "tanh": e.tanh, "sigmoid": e.sigmoid, "relu": e.relu, "clip": e.clip, "round": e.round, "reciprocal": e.reciprocal,
}  # fmt: skip


def _as_method(function: Any) -> Any:
    """An Op is not a descriptor, so it is given a function to be bound by."""
    if isinstance(function, property) or not hasattr(function, "forward"):
        return function
    return lambda *args: function(*args)


for _name, _function in METHODS.items():
    setattr(Tensor, _name, _as_method(_function))
