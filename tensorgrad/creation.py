"""Tensors made of nothing but a shape, or of another library's data.  The default dtype is float32, as for Python floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Tensor, as_tensor, tensor

Shape = int | Sequence[int]
FLOAT = np.dtype(np.float32)


def _leaf(array: np.ndarray, requires_grad: bool) -> Tensor:
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"requires_grad needs a floating-point tensor, got {array.dtype}")
    return Tensor(array, requires_grad)


def full(shape: Shape, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of `shape` with every entry `fill_value`, whose kind of number decides the dtype if none is given."""
    if dtype is None:
        dtype = FLOAT if isinstance(fill_value, float) else np.asarray(fill_value).dtype
    return _leaf(np.full(shape, fill_value, dtype), requires_grad)


def zeros(shape: Shape, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of `shape`, all 0."""
    return _leaf(np.zeros(shape, dtype or FLOAT), requires_grad)


def ones(shape: Shape, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of `shape`, all 1."""
    return _leaf(np.ones(shape, dtype or FLOAT), requires_grad)


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape and dtype of x, all 0."""
    x = as_tensor(x)
    return zeros(x.shape, dtype or x.dtype, requires_grad)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape and dtype of x, all 1."""
    x = as_tensor(x)
    return ones(x.shape, dtype or x.dtype, requires_grad)


def full_like(x: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape and dtype of x, with every entry `fill_value`."""
    x = as_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype, requires_grad)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, .. below stop; 0, 1, .. below start when stop is not given.  Integers unless a float is."""
    start, stop = (0, start) if stop is None else (start, stop)
    if dtype is None:
        dtype = FLOAT if any(isinstance(n, float) for n in (start, stop, step)) else np.dtype(np.int64)
    return _leaf(np.arange(start, stop, step, dtype=dtype), requires_grad)


def linspace(
    start: float, stop: float, num: int, dtype: Any = None, endpoint: bool = True, requires_grad: bool = False
) -> Tensor:
    """`num` numbers from start to stop at equal distances."""
    return _leaf(np.linspace(start, stop, num, endpoint=endpoint, dtype=dtype or FLOAT), requires_grad)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """(n_rows, n_cols) with 1 on the k-th diagonal, else 0."""
    return _leaf(np.eye(n_rows, n_cols, k, dtype or FLOAT), requires_grad)


# Of other data


def check_device(device: str | None) -> None:
    """Raise ValueError for any device but the one there is."""
    if device not in (None, "cpu"):
        raise ValueError(f"device must be 'cpu', got {device!r}")


def asarray(obj: Any, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> Tensor:
    """`obj`, a tensor, array, number or nested list, as a Tensor: a tensor as it is, an array copied unless `copy` is False.

    An array that is not copied shares its memory, and must not be changed while a graph needs it.  Raises ValueError when
    `copy` is False and a copy is needed.
    """
    check_device(device)
    if isinstance(obj, Tensor):
        if dtype is None or obj.dtype == dtype:
            return obj
        if copy is False:
            raise ValueError(f"asarray: {obj.dtype} cannot become {np.dtype(dtype)} without a copy")
        return obj.astype(dtype)  # type: ignore[attr-defined]
    if copy is not False:
        return tensor(obj, dtype)
    if not isinstance(obj, np.ndarray) or dtype not in (None, obj.dtype):
        raise ValueError(f"asarray: a {type(obj).__name__} cannot become a tensor of {dtype or 'its dtype'} without a copy")
    return Tensor(_real(obj))


def from_dlpack(x: Any, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A leaf that shares the memory of `x`, any object with DLPack's methods (a torch tensor, say); copied only if `copy`.

    The owner of that memory must not change it while a graph needs it: use tg.tensor(x) where it may.
    """
    check_device(device)
    array = np.from_dlpack(x)
    return tensor(array) if copy else Tensor(_real(array))


def _real(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers or booleans, got dtype {array.dtype}")
    return array
