"""Products of vectors and matrices.

matmul is the one bilinear op; the others arrange their operands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..graph import Tensor, as_tensor
from .elementwise import multiply
from .kinds import astype, bilinear, disagreement, sum_to
from .reduce import sum
from .shape import _reshape, diagonal, matrix_transpose, normalize_axis, permute_dims


@bilinear(
    lambda g, a, b: _batch(_matmul(g, matrix_transpose(b)), a),
    lambda g, a, b: _batch(_matmul(matrix_transpose(a), g), b),
    kernel=lambda a, b: kernels.matmul.matmul(a, b),
)
def _matmul(a, b):
    """(.., m, k), (.., k, n) -> (.., m, n)."""
    return np.matmul(a, b)


def _batch(g: Tensor, x: Tensor) -> Tensor:
    """Sum a cotangent over the batch axes along which `x` was broadcast."""
    return g if g.shape == x.shape else sum_to(g, shape=x.shape)


def matmul(a: Any, b: Any) -> Tensor:
    """(.., m, k), (.., k, n) -> (.., m, n);  y_ij = sum_k a_ik b_kj.  A vector is a row on the left, a column on the right.

    Raises ValueError naming both shapes when the inner lengths differ, or the leading axes do not broadcast.
    """
    a = as_tensor(a, [b])
    b = as_tensor(b, [a])
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul needs tensors with at least one axis, got shapes {a.shape} and {b.shape}")
    inner_a, inner_b = a.shape[-1], b.shape[-2 if b.ndim > 1 else 0]
    if inner_a != inner_b:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit: the inner lengths are {inner_a} and {inner_b}")
    if a.shape[:-2] != b.shape[:-2] and (fault := disagreement("matmul", a.shape, b.shape, last=-3)):
        raise ValueError(fault)
    if a.dtype != b.dtype:
        dtype = np.result_type(a.dtype, b.dtype)
        a, b = (x if x.dtype == dtype else astype(x, dtype=dtype) for x in (a, b))
    rows = _reshape(a, shape=(1, *a.shape)) if a.ndim == 1 else a
    columns = _reshape(b, shape=(*b.shape, 1)) if b.ndim == 1 else b
    y = _matmul(rows, columns)
    if a.ndim > 1 and b.ndim > 1:
        return y
    return _reshape(
        y, shape=y.shape[: y.ndim - 2] + (y.shape[-2:-1] if a.ndim > 1 else ()) + (y.shape[-1:] if b.ndim > 1 else ())
    )


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """y = sum_i a_i b_i along `axis`, broadcasting the others."""
    return sum(multiply(a, b), axis)


def outer(a: Any, b: Any) -> Tensor:
    """(m,), (n,) -> (m, n);  y_ij = a_i b_j."""
    a = as_tensor(a, [b])
    b = as_tensor(b, [a])
    return multiply(_reshape(a, shape=(a.size, 1)), _reshape(b, shape=(1, b.size)))


def trace(x: Any, offset: int = 0) -> Tensor:
    """(.., m, n) -> (..);  y = sum_i x_{i, i + offset}."""
    return sum(diagonal(x, offset), -1)


def tensordot(a: Any, b: Any, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sum of products over the last `axes` axes of a and the first of b, or over the two given lists of axes."""
    a = as_tensor(a, [b])
    b = as_tensor(b, [a])
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    ours = [normalize_axis(i, a.ndim) for i in axes[0]]
    theirs = [normalize_axis(i, b.ndim) for i in axes[1]]
    lengths, others = [a.shape[i] for i in ours], [b.shape[i] for i in theirs]
    if lengths != others:
        raise ValueError(f"tensordot: axes {ours} of shape {a.shape} and axes {theirs} of shape {b.shape} differ in length")
    kept = [i for i in range(a.ndim) if i not in ours]
    free = [i for i in range(b.ndim) if i not in theirs]
    inner = int(np.prod(lengths, dtype=np.int64))
    left = _reshape(permute_dims(a, (*kept, *ours)), shape=(_size(a, kept), inner))
    right = _reshape(permute_dims(b, (*theirs, *free)), shape=(inner, _size(b, free)))
    return _reshape(matmul(left, right), shape=(*[a.shape[i] for i in kept], *[b.shape[i] for i in free]))


def _size(x: Tensor, axes: Sequence[int]) -> int:
    return int(np.prod([x.shape[i] for i in axes], dtype=np.int64))
