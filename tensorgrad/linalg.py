"""tg.linalg: linear algebra of stacks of matrices (.., m, n), after numpy.linalg and the array-API standard's extension.

Every function is differentiable to any order in both modes; integers count as float32.  Decompositions that are not unique
where singular values meet (eigh, svd) are left out, and so are the matrix norms 2, -2 and 'nuc' that need them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from .creation import eye
from .graph import Tensor, as_tensor
from .ops import linalg as _products
from .ops import reduce as _reduce
from .ops.elementwise import abs as _abs
from .ops.elementwise import where
from .ops.implicit import cholesky, det, inv, slogdet, solve
from .ops.linalg import matmul, outer, tensordot, vecdot
from .ops.shape import astype, expand_dims, matrix_transpose, normalize_axes, normalize_axis, roll
from .ops.shape import diagonal as _diagonal

__all__ = [
    "cholesky", "cross", "det", "diagonal", "inv", "matmul", "matrix_norm", "matrix_power", "matrix_transpose",
    "norm", "outer", "slogdet", "solve", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip

Order = float | Literal["fro"] | None


def diagonal(x: Any, offset: int = 0) -> Tensor:
    """(.., m, n) -> (.., k), the entries x[.., i, i + offset]."""
    return _diagonal(x, offset)


def trace(x: Any, offset: int = 0, dtype: Any = None) -> Tensor:
    """(.., m, n) -> (..);  y = sum_i x_{i, i + offset}, in `dtype`."""
    return _products.trace(x if dtype is None else astype(x, dtype), offset)


def vector_norm(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """y = (sum_i |x_i|^ord)^(1/ord) over the entries along `axis`, or all; inf, -inf, 0 as NumPy.  At 0 its derivative is 0."""
    return _reduce.norm(x, ord, axis, keepdims)


def matrix_norm(x: Any, keepdims: bool = False, ord: Order = "fro") -> Tensor:
    """(.., m, n) -> (..): 'fro' is the root of the sum of squares; 1 the largest sum of |x| over a column, inf over a row, -1 and
    -inf the least."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_norm needs matrices (.., m, n), got shape {x.shape}")
    if ord == "fro" or ord is None:
        return _reduce.norm(x, 2, (-2, -1), keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: ord must be 'fro', 1, -1, inf or -inf, got {ord!r}")
    along = -2 if ord in (1, -1) else -1
    sums = _reduce.sum(_abs(x), along, keepdims=True)
    y = (_reduce.max if ord > 0 else _reduce.min)(sums, (-2, -1), keepdims=True)  # type: ignore[operator]
    return y if keepdims else y[..., 0, 0]


def norm(x: Any, ord: Order = None, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """As numpy.linalg.norm: of the vectors along one axis, the matrices along two, or all entries when `axis` and `ord` are None.

    Raises ValueError for an `ord` that has no derivative here, or more axes than two.
    """
    x = as_tensor(x)
    if axis is None and ord is None:
        return _reduce.norm(x, 2, None, keepdims)
    axes = normalize_axes(axis, x.ndim)
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ValueError(f"norm: ord {ord!r} is for matrices, and axis {axis} of shape {x.shape} holds vectors")
        return _reduce.norm(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: axis must name one axis (vectors) or two (matrices), got {axis} for shape {x.shape}")
    rest = [i for i in range(x.ndim) if i not in axes]
    y = matrix_norm(x.transpose((*rest, *axes)), ord=ord)
    return expand_dims(y, axes) if keepdims else y


def matrix_power(x: Any, n: int) -> Tensor:
    """(.., m, m) -> (.., m, m);  the product of n factors x, or of -n factors x^-1; by squaring, about 2 log2 n products."""
    x = as_tensor(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power needs square matrices (.., n, n), got shape {x.shape}")
    x, n = (inv(x), -n) if n < 0 else (x, n)
    y = where(False, x, eye(x.shape[-1], dtype=x.dtype))  # keeps requires_grad where n is 0
    while n:
        y = matmul(y, x) if n & 1 else y
        n >>= 1
        x = matmul(x, x) if n else x
    return y


def cross(a: Any, b: Any, axis: int = -1) -> Tensor:
    """y_i = a_{i+1} b_{i+2} - a_{i+2} b_{i+1}, indices modulo 3, along `axis`: perpendicular to a and b.

    Raises ValueError unless both have length 3 along it.
    """
    a = as_tensor(a, [b])
    b = as_tensor(b, [a])
    for x in (a, b):
        if x.shape[normalize_axis(axis, x.ndim)] != 3:
            raise ValueError(f"cross: shapes {a.shape} and {b.shape} must have length 3 along axis {axis}")
    return roll(a, -1, axis) * roll(b, -2, axis) - roll(a, -2, axis) * roll(b, -1, axis)
