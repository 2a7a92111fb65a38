"""Matrix products of NumPy arrays: (.., M, K) @ (.., K, N) -> (.., M, N), shared out over threads.

The arithmetic and its cost are in gemm.py, whose result is the same to the bit however rows and columns are split. So the
split here may follow the number of threads, and the result does not.
"""

import functools
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
from numba import prange, types
from numba.core import config

from tensorgrad.kernels.gemm import PANEL, SCRATCH, gemm_address, gemm_block
from tensorgrad.kernels.jit import SMALL, THREADS, inline, parallel


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(.., M, K), (.., K, N) -> (.., M, N), C-contiguous unless given;  y = a b, leading axes broadcast as in np.matmul.

    Both float32 or both float64 (one of each: float64), of any strides. Raises ValueError for fewer than two axes, for sizes
    that do not fit and for an `out` of another shape or dtype, TypeError for other dtypes.
    """
    if a.dtype != b.dtype or a.dtype not in _products:
        a, b = _same_float(a, b)
    if config.DISABLE_JIT:
        return np.matmul(a, b, out=out)
    plan = _plan(a.shape, b.shape, a.strides, b.strides, a.itemsize)
    if plan.copy_a or plan.copy_b:
        return matmul(np.array(a, order="C") if plan.copy_a else a, np.array(b, order="C") if plan.copy_b else b, out)
    y = np.empty(plan.shape, a.dtype) if out is None else _target(out, plan.shape, a, b)
    if plan.empty:
        y.fill(0)
    else:
        run = _products[a.dtype] if plan.threaded else _products[a.dtype].serial
        run(gemm_address(a.dtype), _first(a), _first(b), _first(y), plan.axes, *plan.numbers)
    if out is not None and y is not out:
        out[...] = y
        return out
    return y


def _share(gemm, a, b, c, axes, batch, m, n, k, ars, acs, brs, bcs, row_parts, column_parts, workers):
    """C_i = A_i B_i for every i in the batch; a, b and c are the first matrices, axes the batch's (size, bytes from one A
    to the next, the same for B). A job is one part of one product."""
    size = a.itemsize
    panels = (n * size + PANEL - 1) // PANEL
    jobs = batch * row_parts * column_parts
    first_a, first_b, first_c = a.ctypes.data, b.ctypes.data, c.ctypes.data
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
                c_part = first_c + ((item * m + m0) * n + n0) * size
                gemm_block(gemm, a.dtype.type(0), m1 - m0, n1 - n0, k, a_part, ars, acs, b_part, brs, bcs, c_part,
                           n * size, scratch.ctypes.data)


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
    return (types.int64,) + (matrix,) * 3 + (types.Array(types.int64, 2, "C", readonly=True),) + (types.int64,) * 11


_products = {
    np.dtype(np.float32): parallel(_share, _signature(types.float32)),
    np.dtype(np.float64): parallel(_share, _signature(types.float64)),
}


class _Plan(NamedTuple):
    """What shapes and strides decide about a product."""

    shape: tuple[int, ...]
    empty: bool = False
    copy_a: bool = False
    copy_b: bool = False
    threaded: bool = False
    axes: np.ndarray | None = None
    numbers: tuple[int, ...] = ()


@functools.lru_cache(maxsize=1024)
def _plan(a: tuple, b: tuple, a_strides: tuple, b_strides: tuple, size: int) -> _Plan:
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"matmul: shapes are {a} and {b}; expected (.., M, K) and (.., K, N)")
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(f"matmul: leading axes of shapes {a} and {b} do not broadcast") from None
    m, k, n = *a[-2:], b[-1]
    shape = (*batch, m, n)
    if 0 in shape or k == 0:
        return _Plan(shape, empty=True)
    axes = [batch, *(_batch_strides(x, strides, batch) for x, strides in ((a, a_strides), (b, b_strides)))]
    rows = _row_stride(a, a_strides)
    if rows is not None and prod(b[:-2]) == 1:  # a stack of rows times one matrix
        m, axes = prod(a[:-1]), [(), (), ()]
    ars, acs, brs, bcs = rows or a_strides[-2], a_strides[-1], *b_strides[-2:]
    ars, acs = ars if m > 1 else size, acs if k > 1 else size  # the stride of a single row or column says nothing
    brs, bcs = brs if k > 1 else size, bcs if n > 1 else size
    threaded = prod(batch) * m * n * k >= 8 * SMALL
    workers = THREADS if threaded else 1
    parts = _split(prod(axes[0]), m, n * size, workers)
    return _Plan(shape, copy_a=size not in (ars, acs), copy_b=size not in (brs, bcs), threaded=threaded,
                 axes=np.array(axes, np.int64).T.copy(), numbers=(prod(axes[0]), m, n, k, ars, acs, brs, bcs, *parts, workers))


def _batch_strides(shape: tuple, strides: tuple, batch: tuple) -> tuple[int, ...]:
    own = [0 if length == 1 else stride for length, stride in zip(shape[:-2], strides, strict=False)]
    return (0,) * (len(batch) - len(own)) + tuple(own)


def _row_stride(shape: tuple, strides: tuple) -> int | None:
    """Bytes from row to row, if the leading axes and the rows form one axis."""
    axes = [(length, stride) for length, stride in zip(shape[:-1], strides, strict=False) if length > 1]
    if any(outer != length * inner for (_, outer), (length, inner) in pairwise(axes)):
        return None
    return axes[-1][1] if axes else 0


def _split(batch: int, m: int, width: int, workers: int) -> tuple[int, int]:
    """Parts of rows and of columns that leave the busiest worker the least to do; width is the bytes of a row of C.

    A part of r rows and w bytes costs r w, and more by about 8 / r for packing its columns of B and 400 / w for reading
    its rows of A once more.
    """

    def cost(parts: tuple[int, int]) -> float:
        rows = -(-m // parts[0])
        columns = -(-width // (PANEL * parts[1])) * PANEL
        return -(-batch * parts[0] * parts[1] // workers) * rows * columns * (1 + 8 / rows + 400 / columns)

    return min(((i, j) for i in range(1, workers + 1) for j in range(1, workers // i + 1)), key=cost)


def _first(x: np.ndarray) -> np.ndarray:
    return x if x.ndim == 2 else x[(0,) * (x.ndim - 2)]


def _same_float(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.dtype not in _products or b.dtype not in _products:
        raise TypeError(f"matmul: dtypes are {a.dtype} and {b.dtype}; expected float32 or float64")
    return a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)


def _target(out: np.ndarray, shape: tuple, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """out, or a new array where out is not contiguous or an operand lies in it."""
    if out.shape != shape or out.dtype != a.dtype:
        raise ValueError(f"matmul: out is {out.dtype} {out.shape}; expected {a.dtype} {shape}")
    usable = out.flags.c_contiguous and out.flags.writeable and not np.may_share_memory(out, a) and not np.may_share_memory(out, b)
    return out if usable else np.empty(shape, a.dtype)
