"""Matrix products of NumPy arrays: (.., M, K) @ (.., K, N) -> (.., M, N), shared out over threads.

The arithmetic and its cost are in gemm.py, whose result is the same to the bit however rows and columns are split. So
the split here may follow the number of threads, and the result does not.
"""

import functools
from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
from numba import prange, types

from tensorgrad.kernels.gemm import FEW, SCRATCH, gemm_address, gemm_plus
from tensorgrad.kernels.jit import SMALL, THREADS, config, inline, parallel
from tensorgrad.kernels.tiles import PANEL


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    add: bool = False,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """(.., M, K), (.., K, N), (N,) -> (.., M, N);  y = a b + bias, leading axes broadcast as in np.matmul. `add` adds y to out.

    A residual, of the shape and dtype of y, is added to y as the product is stored.

    a and b are float32 or float64, of any strides; one of each gives float64. A new y is C-contiguous. Raises TypeError
    for other dtypes, ValueError for fewer than two axes, sizes that do not fit, or an `out` of another shape or dtype.
    """
    if config.DISABLE_JIT:
        terms = [term for term in (np.matmul(a, b), bias, residual) if term is not None]
        return _written(functools.reduce(np.add, terms), out, add)
    plan = _plan(a.dtype, b.dtype, a.shape, b.shape, a.strides, b.strides)
    if plan.copy is not None:
        a, b = (np.array(x, plan.dtype, order="C") if copy else x for x, copy in zip((a, b), plan.copy, strict=True))
        return matmul(a, b, out, add, bias, residual)
    bias = None if bias is None else _row(bias, plan)
    if out is None or (add and (bias is not None or residual is not None)):
        y = np.empty(plan.shape, plan.dtype)
    else:
        y = _target(out, plan, a, b)
    residual = y if residual is None else _like(y, residual)
    if plan.run is not None:
        beta = float(residual is not y or (add and y is out))
        plan.run(_first(a), _first(b), _first(y), _first(residual), beta, 0 if bias is None else bias.ctypes.data, *plan.rest)
    elif not (add and y is out):
        y[...] = 0 if residual is y else residual
        y += 0 if bias is None else bias
    return y if y is out else _written(y, out, add)


def _written(y: np.ndarray, out: np.ndarray | None, add: bool) -> np.ndarray:
    """y, in out or added to it if there is one."""
    return y if out is None else np.add(out, y, out=out) if add else np.positive(y, out=out)


def _share(a, b, c, s, beta, bias, axes, gemm, batch, m, n, k, ars, acs, brs, bcs, row_parts, column_parts, workers):
    """C_i = beta S_i + A_i B_i + bias for every i in the batch, bias being an address or 0; a, b, c and s are the first
    matrices, S lying as C does and perhaps being C, axes the batch's (size, bytes from one A to the next, the same for B).
    A job is one part of one product."""
    size = a.itemsize
    panels = (n * size + PANEL - 1) // PANEL
    jobs = batch * row_parts * column_parts
    first_a, first_b, first_c, first_s = a.ctypes.data, b.ctypes.data, c.ctypes.data, s.ctypes.data
    for worker in prange(workers):
        scratch = np.empty(SCRATCH, np.uint8)
        for job in range(jobs * worker // workers, jobs * (worker + 1) // workers):
            item, part = divmod(job, row_parts * column_parts)
            i, j = divmod(part, column_parts)
            m0, m1 = m * i // row_parts, m * (i + 1) // row_parts
            n0 = panels * j // column_parts * (PANEL // size)
            n1 = min(n, panels * (j + 1) // column_parts * (PANEL // size))
            if m1 > m0 and n1 > n0:
                a_part = first_a + _offset(axes, 1, item) + m0 * ars
                b_part = first_b + _offset(axes, 2, item) + n0 * bcs
                place = ((item * m + m0) * n + n0) * size
                gemm_plus(
                    gemm,
                    beta,
                    m1 - m0,
                    n1 - n0,
                    k,
                    a_part,
                    ars,
                    acs,
                    b_part,
                    brs,
                    bcs,
                    first_c + place,
                    n * size,
                    scratch.ctypes.data,
                    first_s + place,
                    n * size,
                    bias + n0 * size if bias else 0,
                )


@inline
def _offset(axes, column, item):
    """Bytes from the first matrix of the batch to this one."""
    offset = 0
    for axis in range(len(axes) - 1, -1, -1):
        item, index = divmod(item, axes[axis, 0])
        offset += index * axes[axis, column]
    return offset


def _signature(element: types.Float) -> tuple:
    matrix = types.Array(element, 2, "A", readonly=True, aligned=False)  # takes a matrix of any strides
    return (matrix,) * 4 + (element, types.int64, types.Array(types.int64, 2, "C", readonly=True)) + (types.int64,) * 12


_products = {
    np.dtype(np.float32): parallel(_share, _signature(types.float32)),
    np.dtype(np.float64): parallel(_share, _signature(types.float64)),
}


class _Plan(NamedTuple):
    """What dtypes, shapes and strides decide about a product: which operands must be copied first, or how to run it,
    as run(first a, first b, first y, first residual or y, beta, address of the bias, *rest); without both, it sums nothing."""

    dtype: np.dtype
    shape: tuple[int, ...]
    run: Callable | None = None
    rest: tuple = ()
    copy: tuple[bool, bool] | None = None


@functools.lru_cache(maxsize=1024)
def _plan(a_type: np.dtype, b_type: np.dtype, a: tuple, b: tuple, a_strides: tuple, b_strides: tuple) -> _Plan:
    if a_type not in _products or b_type not in _products:
        raise TypeError(f"matmul: dtypes are {a_type} and {b_type}; expected float32 or float64")
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"matmul: shapes are {a} and {b}; expected (.., M, K) and (.., K, N)")
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(f"matmul: leading axes of shapes {a} and {b} do not broadcast") from None
    dtype, shape = np.promote_types(a_type, b_type), (*batch, a[-2], b[-1])
    if a_type != b_type:
        return _Plan(dtype, shape, copy=(a_type != dtype, b_type != dtype))
    if 0 in (*shape, a[-1]):
        return _Plan(dtype, shape)
    axes = np.array([batch, _batch_strides(a, a_strides, batch), _batch_strides(b, b_strides, batch)], np.int64)
    numbers = *a[-2:], b[-1], *a_strides[-2:], *b_strides[-2:]
    rows = _row_stride(a, a_strides)
    if rows is not None and prod(b[:-2]) == 1:  # a stack of rows times one matrix
        axes, numbers = axes[:, :0], (prod(a[:-1]), *a[-1:], b[-1], rows, *numbers[4:])
    return _planned(dtype, shape, axes.T.copy(), *numbers)


def _planned(dtype: np.dtype, shape: tuple, axes: np.ndarray, m, k, n, ars, acs, brs, bcs) -> _Plan:
    size = dtype.itemsize
    ars, acs = ars if m > 1 else size, acs if k > 1 else size  # the stride of a single row or column says nothing
    brs, bcs = brs if k > 1 else size, bcs if n > 1 else size
    copy = size not in (ars, acs), size not in (brs, bcs)
    if any(copy):
        return _Plan(dtype, shape, copy=copy)
    items = prod(axes[:, 0].tolist())
    threaded = items * m * n * k >= 8 * SMALL
    workers = THREADS if threaded else 1
    parts = _split(items, m, n, size, workers)
    run = _products[dtype] if threaded else _products[dtype].serial
    return _Plan(dtype, shape, run, (axes, gemm_address(dtype), items, m, n, k, ars, acs, brs, bcs, *parts, workers))


def _batch_strides(shape: tuple, strides: tuple, batch: tuple) -> tuple[int, ...]:
    own = [0 if length == 1 else stride for length, stride in zip(shape[:-2], strides, strict=False)]
    return (0,) * (len(batch) - len(own)) + tuple(own)


def _row_stride(shape: tuple, strides: tuple) -> int | None:
    """Bytes from row to row, if the leading axes and the rows form one axis."""
    axes = [(length, stride) for length, stride in zip(shape[:-1], strides, strict=False) if length > 1]
    if any(outer != length * inner for (_, outer), (length, inner) in pairwise(axes)):
        return None
    return axes[-1][1] if axes else 0


def _split(batch: int, m: int, n: int, size: int, workers: int) -> tuple[int, int]:
    """Parts of rows and of columns that leave the busiest worker the least to do; size is the bytes of an element.

    A part of r rows and w bytes of columns costs r w, and more by about 8 / r for packing its columns of B and 400 / w
    for reading its rows of A once more. No part has few rows or a single column, whose sums would be taken in another order.
    """
    panels = -(-n * size // PANEL)

    def cost(parts: tuple[int, int]) -> float:
        rows, columns = -(-m // parts[0]), -(-panels // parts[1]) * PANEL
        return -(-batch * parts[0] * parts[1] // workers) * rows * columns * (1 + 8 / rows + 400 / columns)

    def allowed(i: int, j: int) -> bool:
        last_columns = n - panels * (j - 1) // j * (PANEL // size)
        return (i == 1 or m // i > FEW) and (j == 1 or last_columns > 1)

    return min(((i, j) for i in range(1, workers + 1) for j in range(1, workers // i + 1) if allowed(i, j)), key=cost)


def _first(x: np.ndarray) -> np.ndarray:
    """The first matrix of a stack."""
    return x if x.ndim == 2 else x[(0,) * (x.ndim - 2)]


def _row(bias: np.ndarray, plan: _Plan) -> np.ndarray:
    """bias, contiguous."""
    if bias.shape != plan.shape[-1:] or bias.dtype != plan.dtype:
        raise ValueError(f"matmul: bias is {bias.dtype} {bias.shape}; expected {plan.dtype} {plan.shape[-1:]}")
    return np.ascontiguousarray(bias)


def _like(y: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """residual, contiguous like y."""
    if residual.shape != y.shape or residual.dtype != y.dtype:
        raise ValueError(f"matmul: residual is {residual.dtype} {residual.shape}; expected {y.dtype} {y.shape}")
    return np.ascontiguousarray(residual)


def _target(out: np.ndarray, plan: _Plan, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """out, or a new array where out is not contiguous or an operand may lie in it."""
    if out.shape != plan.shape or out.dtype != plan.dtype:
        raise ValueError(f"matmul: out is {out.dtype} {out.shape}; expected {plan.dtype} {plan.shape}")
    if not out.flags.writeable:
        raise ValueError("matmul: out is read-only")
    apart = not np.may_share_memory(out, a) and not np.may_share_memory(out, b)
    return out if out.flags.c_contiguous and apart else np.empty(plan.shape, plan.dtype)
