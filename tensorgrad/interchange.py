"""Tensors in and out of other libraries: np.asarray and DLPack (both without a copy), pickle and deepcopy, einops.

Values leave; derivatives cannot.  So whatever would drop a derivative without a word is an error while recording: a tensor that
requires grad has to be taken by `t.numpy()` or `t.detach()`, or inside `tg.no_grad()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import array_api
from .creation import arange, check_device
from .graph import Tensor, state, tensor
from .ops.einsum import einsum
from .ops.shape import concat, expand_dims, stack, tile

# NumPy


def _values(self: Tensor, error: type[Exception]) -> np.ndarray:
    if self.requires_grad and state.recording:
        raise error(
            f"a tensor of shape {self.shape} with requires_grad would lose its derivative in another library's array; "
            "use t.numpy() or t.detach() for its values, or a tg function to go on with it"
        )
    return self.data


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """For np.asarray(t): a read-only view of the values, or a copy if another dtype or `copy` asks for one."""
    return np.array(_values(self, TypeError), dtype=dtype, copy=copy)


# DLPack


def _dlpack(self: Tensor, **request: Any) -> Any:
    """The values for a consumer of DLPack 1.0, marked read-only.  Raises BufferError for a tensor that requires grad."""
    return _values(self, BufferError).__dlpack__(**request)


# Copies


def _leaf(cls: type[Tensor], array: np.ndarray, requires_grad: bool, name: str | None) -> Tensor:
    copy = cls.__new__(cls)
    Tensor.__init__(copy, array, requires_grad, name)
    return copy


def _reduce(self: Tensor) -> tuple:
    """For pickle and copy: a leaf of its own with the same values, requires_grad and name, without graph and gradient."""
    return _leaf, (type(self), np.array(self._array), self.requires_grad, self.name)


# The array-API standard


def _array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """tensorgrad.array_api.  Raises ValueError for a version of the standard that it does not follow."""
    if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        raise ValueError(f"api_version must be 2021.12, 2022.12, 2023.12 or 2024.12, got {api_version!r}")
    return array_api


def _to_device(self: Tensor, device: str, /, *, stream: Any = None) -> Tensor:
    """The tensor itself, `device` being "cpu"."""
    check_device(device)
    return self


Tensor.__array_namespace__ = _array_namespace  # type: ignore[attr-defined]
Tensor.device = property(lambda self: "cpu")  # type: ignore[attr-defined]
Tensor.to_device = _to_device  # type: ignore[attr-defined]
Tensor.__array__ = _array  # type: ignore[attr-defined]
Tensor.__dlpack__ = _dlpack  # type: ignore[attr-defined]
Tensor.__dlpack_device__ = lambda self: (1, 0)  # type: ignore[attr-defined]  # the CPU, in DLPack's numbering
Tensor.__reduce__ = _reduce  # type: ignore[assignment]

# einops finds the backends that subclass its own class

try:
    from einops._backends import AbstractBackend
except ImportError:
    pass
else:

    class EinopsBackend(AbstractBackend):
        """What einops asks of a library, beyond its defaults."""

        framework_name = "tensorgrad"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Tensor)

        def from_numpy(self, x: np.ndarray) -> Tensor:
            return tensor(x)

        def to_numpy(self, x: Tensor) -> np.ndarray:
            return x.data

        def arange(self, start: int, stop: int) -> Tensor:
            return arange(start, stop)

        def stack_on_zeroth_dimension(self, tensors: list[Tensor]) -> Tensor:
            return stack(tensors)

        def add_axis(self, x: Tensor, new_position: int) -> Tensor:
            return expand_dims(x, new_position)

        def tile(self, x: Tensor, repeats: tuple[int, ...]) -> Tensor:
            return tile(x, repeats)

        def concat(self, tensors: list[Tensor], axis: int) -> Tensor:
            return concat(tensors, axis)

        def is_float_type(self, x: Tensor) -> bool:
            return x.dtype.kind == "f"

        def einsum(self, pattern: str, *x: Tensor) -> Tensor:
            return einsum(pattern, *x)
