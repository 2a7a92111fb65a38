"""Python's operators and the usual methods of a Tensor, in one table: each is an op under another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import autodiff
from .graph import Tensor, as_tensor
from .ops import elementwise as e
from .ops import index, kinds, linalg, reduce, shape


def _compare(ufunc: np.ufunc) -> Callable[[Any, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        return Tensor(np.asarray(ufunc(self._array, as_tensor(other, [self])._array)))

    return compare


def _logic(ufunc: np.ufunc) -> Callable[[Any, Any], Tensor]:
    return lambda a, b: Tensor(np.asarray(ufunc(as_tensor(a)._array, as_tensor(b)._array)))


def _integer(ufunc: np.ufunc) -> Callable[[Any, Any], Tensor]:
    """An operation with no useful derivative, for integers only."""

    def apply(a: Any, b: Any) -> Tensor:
        x, y = as_tensor(a, [b]), as_tensor(b, [a])
        if x.requires_grad or y.requires_grad:
            raise TypeError(f"{ufunc.__name__} has no derivative; call .detach() first")
        return Tensor(np.asarray(ufunc(x._array, y._array)))

    return apply


def _reversed(op: Callable) -> Callable:
    return lambda self, other: op(other, self)


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes reversed, or in the given order."""
    given = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes or None
    return shape.transpose(self, given)


def _reshape(self: Tensor, *new: Any) -> Tensor:
    """The entries in row-major order in another shape, given as one tuple or as several lengths."""
    return shape.reshape(self, new[0] if len(new) == 1 else new)


def _astype(self: Tensor, dtype: Any) -> Tensor:
    """The same values as another dtype; between floating-point types the derivative passes."""
    dtype = np.dtype(dtype)
    return self if dtype == self.dtype else kinds.astype(self, dtype=dtype)


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    raise TypeError("tensors are immutable: use y = tg.index_update(x, key, values) for a changed copy, or x.data = .. for a leaf")


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
    origin = f", op={self.op.name}" if self.op else ", requires_grad=True" if self.requires_grad else ""
    return f"tensor({values}, dtype={self.dtype}{f', shape={self.shape}' if self.size > 100 or not self.size else ''}{origin})"


METHODS: dict[str, Any] = {
    "__add__": e.add, "__radd__": _reversed(e.add),
    "__sub__": e.subtract, "__rsub__": _reversed(e.subtract),
    "__mul__": e.multiply, "__rmul__": _reversed(e.multiply),
    "__truediv__": e.divide, "__rtruediv__": _reversed(e.divide),
    "__pow__": e.pow, "__rpow__": _reversed(e.pow),
    "__matmul__": linalg.matmul, "__rmatmul__": _reversed(linalg.matmul),
    "__neg__": e.negative, "__pos__": lambda self: self, "__abs__": e.abs,
    "__floordiv__": _integer(np.floor_divide), "__rfloordiv__": _reversed(_integer(np.floor_divide)),
    "__mod__": _integer(np.remainder), "__rmod__": _reversed(_integer(np.remainder)),
    "__eq__": _compare(np.equal), "__ne__": _compare(np.not_equal), "__lt__": _compare(np.less),
    "__le__": _compare(np.less_equal), "__gt__": _compare(np.greater), "__ge__": _compare(np.greater_equal),
    "__and__": _logic(np.bitwise_and), "__or__": _logic(np.bitwise_or), "__xor__": _logic(np.bitwise_xor),
    "__rand__": _logic(np.bitwise_and), "__ror__": _logic(np.bitwise_or), "__rxor__": _logic(np.bitwise_xor),
    "__invert__": lambda self: Tensor(np.asarray(~self._array)),
    "__getitem__": index.getitem, "__setitem__": _setitem,
    "__iter__": lambda self: iter(shape.unstack(self)), "__len__": _length,
    "__bool__": _bool, "__float__": lambda self: float(_item(self)), "__int__": lambda self: int(_item(self)),
    "__index__": lambda self: self._array.__index__(), "__hash__": lambda self: id(self), "__repr__": _repr,
    "T": property(shape.transpose), "mT": property(shape.matrix_transpose),
    "item": _item, "numpy": lambda self: self.data, "tolist": lambda self: self._array.tolist(),
    "detach": autodiff.stop_gradient, "backward": autodiff.backward,
    "astype": _astype, "reshape": _reshape, "transpose": _transpose,
    "flatten": lambda self: shape.reshape(self, (-1,) if self.size else (0,)), "ravel": lambda self: shape.reshape(self, (self.size,)),
    "swapaxes": shape.swapaxes, "permute": lambda self, *axes: shape.permute_dims(self, axes[0] if isinstance(axes[0], (tuple, list)) else axes),
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
