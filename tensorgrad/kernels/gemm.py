"""C = beta C + A B on one thread, over addresses: the product that other kernels call.

    gemm_block(gemm, beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch)

    gemm        gemm_address(dtype), taken in Python and passed to the kernel as an argument: the product is compiled
                once and called through a pointer, for a copy of it in every kernel would take seconds to compile
    beta        0 (C is not read), 1 (add to C) or any factor; its type, float32 or float64, is that of all three
    m, n, k     A is (m, k), B is (k, n), C is (m, n); k >= 1
    a, b, c     addresses of their first elements, e.g. array.ctypes.data
    ars, acs    bytes from one row, one column, of A to the next, of any sign. So are brs, bcs of B and crs of C. Either
                stride of B must be the size of an element, either stride of A had better be, C's rows are contiguous
    scratch     address of SCRATCH bytes that no other thread uses, e.g. np.empty(SCRATCH, np.uint8).ctypes.data

Cost: each element of C is k multiply-adds, so 2 m n k FLOPs over (m k + k n + m n) elements. A core does two vector
multiply-adds a cycle but loads only two vectors, so a loaded value must serve many times. The innermost tile keeps
ROWS x 2 vectors of C in registers: one step of k loads 2 vectors of B and ROWS numbers of A for 2 ROWS multiply-adds,
and C is touched once per DEPTH steps. Registers bound ROWS: 12 x 2 sums + 2 of B + 1 of A <= 32, or 6 x 2 + 3 <= 16.
Around it (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008, sections 4 and 5), blocks
keep what is reused near: panels of B, DEPTH x 2 vectors and contiguous, are packed into the second-level cache and each
serves every row of A; a tile's rows of A stay in the first level while all panels pass. What
is needed next (a tile's C, the next tile's A, the next panel's B) is asked for early.

Every element of C is summed over k in one order, which depends on k, on n = 1 and on m alone as long as m <= FEW: no split
over tiles and panels, or over threads into parts of more rows than that, changes a bit of it.
"""

import ctypes
import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from tensorgrad.kernels.jit import code_address, config, inline, pasted, serial
from tensorgrad.kernels.simd import REGISTERS, integer
from tensorgrad.kernels.tiles import (
    DOTS,
    PANEL,
    ROWS,
    STREAMS,
    WIDTH,
    copy_bytes,
    dot_pair,
    dot_row,
    dot_rows,
    item_size,
    pack_columns,
    pack_rows,
    prefetch,
    store_number,
    stream_row,
    stream_rows,
    tile,
)

DEPTH = 384  # steps of k in a block
BLOCK_COLUMNS = 1536  # bytes: columns of B packed at a time
BLOCK_ROWS = 960  # bytes of a column of A in a block
FEW = 16  # rows of A, so few that B is not packed for them; half as many where its rows are contiguous, quick to pack
STREAMED = 8192  # bytes of columns of B at a time, for few rows
PADDING = 64  # bytes that keep the rows of a copied block of A off the same cache set
SCRATCH = DEPTH * BLOCK_COLUMNS + (DEPTH + ROWS) * (BLOCK_ROWS + 2 * ROWS * 8 + PADDING) + 64


@functools.cache
def gemm_address(dtype: np.dtype) -> int:
    """Of the product's machine code for float32 or float64; compiles it on first use."""
    if config.DISABLE_JIT:
        return 0  # not used: below, the product is in Python
    return code_address(_gemm, (from_dtype(dtype), *[types.int64] * 15))


@intrinsic
def gemm_block(typing, gemm, beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch):
    """C = A B + beta C, by the compiled product at the address `gemm`; the arguments are described above."""

    def emit(context, builder, signature, args):
        _emit_call(builder, [*args, args[11], args[12], integer(0)])
        return context.get_dummy_value()

    return types.void(types.int64, beta, *[types.int64] * 12), emit


@intrinsic
def gemm_plus(typing, gemm, beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch, s, srs, bias):
    """C = A B + beta S + bias, the same with S, whose rows are srs bytes apart, in place of the old C; it may be C itself. bias
    is the address of n numbers, or 0."""

    def emit(context, builder, signature, args):
        _emit_call(builder, args)
        return context.get_dummy_value()

    return types.void(types.int64, beta, *[types.int64] * 15), emit


def _emit_call(builder, args):
    function = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
    builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])


@serial
def _gemm(beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch, s, srs, bias):
    size = item_size(beta)
    scratch = (scratch + 63) // 64 * 64
    if (m == 1 or (m <= FEW and k * size >= 1024)) and acs == size and brs == size:
        _few_by_columns(beta, m, n, k, a, ars, b, bcs, c, crs, s, srs, bias)
    elif n == 1 and acs == size and brs == size:
        _matrix_vector(beta, m, k, a, ars, b, c, crs, s, srs, bias, 0)
    elif m <= FEW // 2 and bcs == size and n * size >= 1024:
        _streamed(beta, m, n, k, a, ars, acs, b, brs, c, crs, scratch, (s, srs, bias))
    else:
        _matrix_matrix(beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch, (s, srs, bias))


@pasted
def _few_by_columns(beta, m, n, k, a, ars, b, bcs, c, crs, s, srs, bias):
    """C = A B + beta S + bias for contiguous columns of B, a few of which meet each row of A while in the cache."""
    size = item_size(beta)
    for j in range(0, n, DOTS):
        columns, more = b + j * bcs, _beyond(bias, j * size)
        paired = m // 2 * 2 if REGISTERS == 32 and n - j >= DOTS else 0  # fewer cannot hold their sums
        for i in range(0, paired, 2):
            row, addend = c + i * crs + j * size, s + i * srs + j * size
            dot_pair(beta, k, columns, bcs, a + i * ars, ars, row, crs, addend, srs, more)
        for i in range(paired, m):
            row, addend = c + i * crs + j * size, s + i * srs + j * size
            _matrix_vector(beta, min(DOTS, n - j), k, columns, bcs, a + i * ars, row, size, addend, size, more, size)


@inline
def _matrix_vector(beta, n, k, w, wrs, x, y, ys, s, ss, bias, biass):
    """y = W x + beta s + bias; W is (n, k) with contiguous rows, x is contiguous."""
    done = n // DOTS * DOTS
    for i in range(0, done, DOTS):
        dot_rows(beta, k, w + i * wrs, wrs, x, y + i * ys, ys, s + i * ss, ss, _beyond(bias, i * biass), biass)
    for i in range(done, n):
        dot_row(beta, k, w + i * wrs, wrs, x, y + i * ys, ys, s + i * ss, ss, _beyond(bias, i * biass), biass)


@pasted
def _streamed(beta, m, n, k, a, ars, acs, b, brs, c, crs, scratch, addend):
    """C = A B + beta S + bias, reading B once, a few rows side by side from left to right; the sums lie in the cache."""
    size = item_size(beta)
    most = STREAMED // size
    one = scratch + FEW * STREAMED
    store_number(type(beta)(1), one)
    for n0 in range(0, n, most):
        nc = min(most, n - n0)
        for block in range((k + _depth(k) - 1) // _depth(k)):
            first, last = block * _depth(k), min((block + 1) * _depth(k), k)
            for k0 in range(first, last, STREAMS):
                for i in range(m):
                    here, there, sums = a + i * ars + k0 * acs, b + k0 * brs + n0 * size, scratch + i * STREAMED
                    if k0 + STREAMS <= last:
                        stream_rows(beta, nc, k0 == first, here, acs, there, brs, sums)
                    else:
                        for q in range(last - k0):
                            stream_row(beta, nc, k0 + q == first, here + q * acs, acs, there + q * brs, brs, sums)
            for i in range(m):
                keep = beta if block == 0 else type(beta)(1)
                row = c + i * crs + n0 * size
                added = _shifted(addend, i, n0 * size) if block == 0 else (row, crs, 0)
                for j in range(0, nc, PANEL // size):
                    piece = _shifted(added, 0, j * size)
                    source, target = scratch + i * STREAMED + j * size, row + j * size
                    tile(keep, 1, min(PANEL // size, nc - j), 1, one, size, size, source, PANEL, target, crs, *piece)


@inline
def _depth(k):
    """Steps of k in a block: blocks are equal, of whole cache lines."""
    blocks = (k + DEPTH - 1) // DEPTH
    return ((k + blocks - 1) // blocks + 15) // 16 * 16


@pasted
def _matrix_matrix(beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch, addend):
    size = item_size(beta)
    columns, depth = BLOCK_COLUMNS // size, _depth(k)
    for n0 in range(0, n, columns):
        nc = min(columns, n - n0)
        for k0 in range(0, k, depth):
            kc = min(depth, k - k0)
            keep = beta if k0 == 0 else type(beta)(1)
            a_block, b_block, c_block = a + k0 * acs, b + k0 * brs + n0 * bcs, c + n0 * size
            added = _shifted(addend, 0, n0 * size) if k0 == 0 else (c_block, crs, 0)
            done = 0
            if m <= ROWS and bcs == size:
                done = _unpacked(keep, m, nc, kc, a_block, ars, acs, b_block, brs, c_block, crs, added)
            if done < nc:
                _pack(beta, kc, nc - done, b_block + done * bcs, brs, bcs, scratch)
                rest = _shifted(added, 0, done * size)
                _rows_by_panels(keep, m, nc - done, kc, a_block, ars, acs, scratch, c_block + done * size, crs, rest)


@inline
def _beyond(bias, offset):
    """The address of a bias further on, 0 if there is none."""
    return bias + offset if bias != 0 else 0


@inline
def _shifted(addend, row, offset):
    """What is added to the part of C that begins at this row and byte."""
    s, srs, bias = addend
    return s + row * srs + offset, srs, _beyond(bias, offset)


@pasted
def _unpacked(beta, m, n, k, a, ars, acs, b, brs, c, crs, addend):
    """C = A B + beta S + bias for so few rows that packing B, whose rows are contiguous, would cost more than it saves; in the
    columns that fill panels. Returns their number."""
    size = item_size(beta)
    done = 0
    for j in range(0, n - PANEL // size + 1, PANEL // size):
        tile(beta, m, n, k, a, ars, acs, b + j * size, brs, c + j * size, crs, *_shifted(addend, 0, j * size))
        done = j + PANEL // size
    return done


@inline
def _pack(beta, k, n, b, brs, bcs, panels):
    """Copy B into panels, each k rows of PANEL bytes, one after the other."""
    size = item_size(beta)
    for j in range(0, n, PANEL // size):
        panel = panels + j * k * size
        if bcs == size:
            pack_rows(beta, k, min(PANEL // size, n - j), b + j * bcs, brs, panel)
        else:
            for half in range(0, min(PANEL // size, n - j), WIDTH // size):
                pack_columns(beta, k, min(WIDTH // size, n - j - half), b + (j + half) * bcs, bcs, panel + half * size)


@pasted
def _rows_by_panels(beta, m, n, k, a, ars, acs, panels, c, crs, addend):
    """C = A B + beta S + bias for packed B, a block of A's rows at a time, copied where its own layout is unkind."""
    size = item_size(beta)
    copies = n * size > 384 and (abs(acs) > 1024 if acs != size else ars % 1024 == 0)
    block = panels + DEPTH * BLOCK_COLUMNS
    most = BLOCK_ROWS // size
    blocks = (m + most - 1) // most
    rows = ((m + blocks - 1) // blocks + ROWS - 1) // ROWS * ROWS
    for m0 in range(0, m, rows):
        mc, added = min(rows, m - m0), _shifted(addend, m0, 0)
        rows_of_a, rs, cs = a + m0 * ars, ars, acs
        if copies and acs == size:
            _copy(mc, k * size, rows_of_a, ars, block, DEPTH * size + PADDING)
            rows_of_a, rs, cs = block, DEPTH * size + PADDING, size
        elif copies:
            _copy(k, mc * size, rows_of_a, acs, block, (most + ROWS) * size + PADDING)
            rows_of_a, rs, cs = block, size, (most + ROWS) * size + PADDING
        _tiles(beta, mc, n, k, rows_of_a, rs, cs, panels, c + m0 * crs, crs, added)


@inline
def _copy(rows, length, source, srs, target, trs):
    for i in range(rows):
        copy_bytes(target + i * trs, source + i * srs, length)


@pasted
def _tiles(beta, m, n, k, a, ars, acs, panels, c, crs, addend):
    """A tile's rows of A at a time; meanwhile the cache fetches those of the next."""
    size = item_size(beta)
    tiles = (m + ROWS - 1) // ROWS
    for t in range(tiles):
        i, end = m * t // tiles, m * (t + 1) // tiles  # equal tiles: 13 rows are 6 + 7, not 12 + 1
        for j in range(0, n, PANEL // size):
            columns, panel = min(PANEL // size, n - j), panels + j * k * size
            if t + 1 < tiles:
                _prefetch_share(beta, m * (t + 2) // tiles - end, k, a + end * ars, ars, acs, j, n)
            here, added = c + i * crs + j * size, _shifted(addend, i, j * size)
            tile(beta, end - i, columns, k, a + i * ars, ars, acs, panel, PANEL, here, crs, *added)


@inline
def _prefetch_share(beta, m, k, a, ars, acs, j, n):
    """Ask for the share of A that falls to the panel at column j of n."""
    size = item_size(beta)
    following = min(j + PANEL // size, n)
    if acs == size:
        for i in range(m * j // n, m * following // n):
            for line in range(0, k * size, 64):
                prefetch(beta, a + i * ars + line)
    else:
        for i in range(k * j // n, k * following // n):
            prefetch(beta, a + i * acs)


def _matrix(dtype, rows, columns, address, rs, cs):
    """The array at an address."""
    spans = (rows - 1) * rs, (columns - 1) * cs
    before = -sum(min(span, 0) for span in spans)
    memory = (ctypes.c_char * (sum(map(abs, spans)) + dtype.itemsize)).from_address(address - before)
    return np.ndarray((rows, columns), dtype, memory, before, (rs, cs))


def _plain_product(gemm, beta, m, n, k, a, ars, acs, b, brs, bcs, c, crs, scratch):
    """gemm_block in plain Python, for NUMBA_DISABLE_JIT."""
    dtype = np.dtype(type(beta))
    size = dtype.itemsize
    y = _matrix(dtype, m, n, c, crs, size)
    y[...] = _matrix(dtype, m, k, a, ars, acs) @ _matrix(dtype, k, n, b, brs, bcs) + (beta * y if beta else 0)


if config.DISABLE_JIT:
    gemm_block = _plain_product  # type: ignore[assignment]
