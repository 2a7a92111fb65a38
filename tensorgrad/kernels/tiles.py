"""The innermost steps of a matrix product, written as LLVM code: what gemm.py repeats over blocks.

Each intrinsic becomes a call of one function, written once a module and float type. Matrices are addresses and strides in
bytes, as in gemm.py; `beta` carries the float type.

What ends with a sum takes an `addend` too, (s, srs, bias): the sums become sums + beta S + bias, where the rows of S are srs
bytes apart (S may be C itself; it is not read if beta is 0), and bias, if it is not 0, is the address of one number a column.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensorgrad.kernels.simd import INTEGER, LANES, REGISTERS, Vectors, integer

ROWS = 12 if REGISTERS == 32 else 6  # of a tile
WIDTH = LANES * 4  # bytes of a vector
PANEL = 2 * WIDTH  # bytes of a row of a panel of B, and of a tile
STREAMS = 8  # rows of B at a time, in a product of few rows
DOTS = 8  # rows of a matrix-vector product at a time
VECTORS = 2 if REGISTERS == 32 else 1  # that such rows meet side by side


@intrinsic
def item_size(typing, beta):
    """Bytes of a number of beta's type."""
    return types.int64(beta), lambda context, builder, signature, args: integer(beta.bitwidth // 8)


@intrinsic
def copy_bytes(typing, target, source, count):
    """Copy `count` bytes between two addresses whose ranges do not overlap."""

    def emit(context, builder, signature, args):
        pointers = [builder.inttoptr(x, ir.IntType(8).as_pointer()) for x in args[:2]]
        cgutils.raw_memcpy(builder, *pointers, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def store_number(typing, value, address):
    """Put a number at an address."""

    def emit(context, builder, signature, args):
        Vectors(builder, value).store_scalar(*args)
        return context.get_dummy_value()

    return types.void(value, types.int64), emit


@intrinsic
def prefetch(typing, beta, address):
    """Ask for the cache line at an address."""

    def emit(context, builder, signature, args):
        Vectors(builder, beta).prefetch(args[1])
        return context.get_dummy_value()

    return types.void(beta, types.int64), emit


@intrinsic
def tile(typing, beta, m, n, k, a, ars, acs, b, brs, c, crs, s, srs, bias):
    """C = A B + beta S + bias for m <= ROWS rows and at most 2 vectors of n columns; B has whole vectors in every row."""
    return _call(_write_tile, beta, 13)


@intrinsic
def stream_rows(typing, beta, n, fresh, a, acs, b, brs, sums):
    """sums + a B for STREAMS rows of B, of n contiguous columns; sums are whole vectors, taken as 0 if fresh."""
    return _call(_write_stream_rows, beta, 7)


@intrinsic
def stream_row(typing, beta, n, fresh, a, acs, b, brs, sums):
    """sums + a B for one row of B."""
    return _call(_write_stream_row, beta, 7)


@intrinsic
def pack_rows(typing, beta, k, n, b, brs, panel):
    """panel[i, :n] = B[i, :n], the rest zero; the rows of B are contiguous."""
    return _call(_write_pack_rows, beta, 5)


@intrinsic
def pack_columns(typing, beta, k, n, b, bcs, panel):
    """panel[i, :n] = B[i, :n] for n <= one vector; the columns of B are contiguous; lanes from n on repeat the last."""
    return _call(_write_pack_columns, beta, 5)


@intrinsic
def dot_rows(typing, beta, k, w, wrs, x, y, ys, s, ss, bias, biass):
    """y = W x + beta s + bias for DOTS rows of W; ys, ss and biass are the bytes from one number to the next."""
    return _call(_write_dot_rows, beta, 10)


@intrinsic
def dot_pair(typing, beta, k, w, wrs, x, xrs, y, yrs, s, srs, bias):
    """The same for two vectors x, xrs bytes apart, and results that are contiguous, yrs and srs bytes apart: each number of W
    that is loaded serves both."""
    return _call(_write_dot_pair, beta, 10)


@intrinsic
def dot_row(typing, beta, k, w, wrs, x, y, ys, s, ss, bias, biass):
    """y = W x + beta s + bias for one row of W."""
    return _call(_write_dot_row, beta, 10)


def _call(write: Callable, beta: types.Float, integers: int) -> tuple:
    """Signature and code of an intrinsic f(beta, ..integers) that calls what `write` writes for the same arguments."""

    def emit(context, builder, signature, args):
        builder.call(_function(builder.module, write, beta, [arg.type for arg in args]), args)
        return context.get_dummy_value()

    return types.void(beta, *[types.int64] * integers), emit


def _function(module: ir.Module, write: Callable, element: types.Float, arguments: list, *shape: int) -> ir.Function:
    name = ".".join([write.__name__, str(element), *map(str, shape)])
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        write(Vectors(builder, element), *shape, *function.args)
        builder.ret_void()
    return module.globals[name]


def _write_tile(v: Vectors, beta, m, n, *rest) -> None:
    """Jump to the tile for this many rows and vectors."""
    build = v.builder
    wide = build.zext(build.icmp_signed(">", n, integer(v.lanes)), INTEGER)
    end = build.append_basic_block()
    switch = build.switch(build.add(build.mul(m, integer(2)), wide), end)
    element = types.float32 if v.size == 4 else types.float64
    args = [beta, n, *rest]
    for rows in range(1, ROWS + 1):
        for vectors in (1, 2):
            build.position_at_end(build.append_basic_block())
            switch.add_case(integer(2 * rows + vectors - 1), build.block)
            build.call(_function(build.module, _write_one_tile, element, [x.type for x in args], rows, vectors), args)
            build.branch(end)
    build.position_at_end(end)


def _write_one_tile(v: Vectors, rows: int, vectors: int, beta, n, k, a, ars, acs, b, brs, c, crs, s, srs, bias) -> None:
    build, entry = v.builder, v.builder.block
    row_of_a = [build.mul(ars, integer(i)) for i in range(rows)]
    row_of_c, row_of_s = ([v.at(x, build.mul(xrs, integer(i))) for i in range(rows)] for x, xrs in ((c, crs), (s, srs)))
    for address in row_of_c:
        for line in range(0, vectors * v.width, 64):
            v.prefetch(v.at(address, line), write=True)
    loop, after = build.append_basic_block(), build.append_basic_block()
    build.branch(loop)
    build.position_at_end(loop)
    left, column, row = (_variable(build, x, entry) for x in (k, a, b))
    sums = [[_variable(build, v.zero, entry) for _ in range(vectors)] for _ in range(rows)]
    loaded = [v.load(v.at(row, j * v.width)) for j in range(vectors)]
    for i in range(rows):
        factor = v.splat(v.scalar(v.at(column, row_of_a[i])))
        for j in range(vectors):
            old = sums[i][j]
            sums[i][j] = v.multiply_add(factor, loaded[j], old)
            old.add_incoming(sums[i][j], loop)
    column.add_incoming(v.at(column, acs), loop)
    row.add_incoming(v.at(row, brs), loop)
    left.add_incoming(v.at(left, -1), loop)
    build.cbranch(build.icmp_signed(">", left, integer(1)), loop, after)
    build.position_at_end(after)
    _write_sums(v, _plus_bias(v, sums, n, bias), beta, n, row_of_c, row_of_s)


def _variable(build: ir.IRBuilder, start: ir.Value, entry: ir.Block) -> ir.PhiInstr:
    variable = build.phi(start.type)
    variable.add_incoming(start, entry)
    return variable


def _plus_bias(v: Vectors, sums: list, n, bias) -> list:
    """sums + bias, or sums where bias is 0."""
    build, without = v.builder, v.builder.block
    with build.if_then(build.icmp_signed("!=", bias, integer(0))):
        vectors = range(len(sums[0]))
        parts = [v.load(v.at(bias, j * v.width), v.mask(build.sub(n, integer(j * v.lanes)))) for j in vectors]
        more = [[build.fadd(value, part) for value, part in zip(row, parts, strict=True)] for row in sums]
        inside = build.block
    chosen = [[_variable(build, value, without) for value in row] for row in sums]
    for row, others in zip(chosen, more, strict=True):
        for value, other in zip(row, others, strict=True):
            value.add_incoming(other, inside)
    return chosen


def _write_sums(v: Vectors, sums: list, beta, n, row_of_c: list, row_of_s: list) -> None:
    """C = sums + beta S, without touching the columns from n on."""
    build, last = v.builder, len(sums[0]) - 1
    tail = v.mask(build.sub(n, integer(last * v.lanes)))
    factor = v.splat(beta)

    def write(masked: bool, keep: bool) -> None:
        for row, to, source in zip(sums, row_of_c, row_of_s, strict=True):
            for j, value in enumerate(row):
                mask = tail if masked and j == last else None
                if keep:
                    value = v.multiply_add(factor, v.load(v.at(source, j * v.width), mask), value)
                v.store(value, v.at(to, j * v.width), mask)

    keeps = build.fcmp_unordered("!=", beta, ir.Constant(beta.type, 0.0))
    whole = build.icmp_signed(">=", n, integer(len(sums[0]) * v.lanes))
    with build.if_else(keeps) as (yes, no):
        for keep, branch in ((True, yes), (False, no)):
            with branch, build.if_else(whole) as (full, part):
                with full:
                    write(False, keep)
                with part:
                    write(True, keep)


def _write_pack_rows(v: Vectors, beta, k, n, b, brs, panel) -> None:
    """Meanwhile the cache fetches the next panel."""
    build = v.builder
    masks = [v.mask(build.sub(n, integer(j * v.lanes))) for j in range(2)]
    with cgutils.for_range(build, k) as loop:
        source = v.at(b, build.mul(loop.index, brs))
        target = v.at(panel, build.mul(loop.index, integer(PANEL)))
        for j in range(2):
            v.store(v.load(v.at(source, j * v.width), masks[j]), v.at(target, j * v.width))
        for line in range(PANEL, 2 * PANEL, 64):
            v.prefetch(v.at(source, line))


def _write_pack_columns(v: Vectors, beta, k, n, b, bcs, panel) -> None:
    """A square of lanes x lanes at a time is loaded by columns and transposed in registers."""
    build = v.builder
    last = build.sub(n, integer(1))
    columns = []
    for j in range(v.lanes):
        inside = build.icmp_signed("<", integer(j), last)
        columns.append(v.at(b, build.mul(build.select(inside, integer(j), last), bcs)))
    further = build.mul(integer(v.lanes), bcs)  # from these columns to the next, which will be wanted soon

    def square(start, rows, mask=None) -> None:
        """rows is a number, or a mask's run-time count"""
        for column in columns:
            v.prefetch(v.at(column, build.mul(start, integer(v.size)), further))
        offset, target = build.mul(start, integer(v.size)), v.at(panel, build.mul(start, integer(PANEL)))
        for i, row in enumerate(v.transpose([v.load(v.at(x, offset), mask) for x in columns])):
            with build.if_then(build.icmp_signed("<", integer(i), rows)):
                v.store(row, v.at(target, i * PANEL))

    squares = build.sdiv(k, integer(v.lanes))
    with cgutils.for_range(build, squares) as loop:
        square(build.mul(loop.index, integer(v.lanes)), integer(v.lanes))
    done = build.mul(squares, integer(v.lanes))
    rest = build.sub(k, done)
    with build.if_then(build.icmp_signed(">", rest, integer(0))):
        square(done, rest, v.mask(rest))


def _write_stream_rows(v: Vectors, *args) -> None:
    _write_streams(v, STREAMS, *args)


def _write_stream_row(v: Vectors, *args) -> None:
    _write_streams(v, 1, *args)


def _write_streams(v: Vectors, rows: int, beta, n, fresh, a, acs, b, brs, sums) -> None:
    build = v.builder
    factors = [v.splat(v.scalar(v.at(a, build.mul(acs, integer(i))))) for i in range(rows)]
    sources = [v.at(b, build.mul(brs, integer(i))) for i in range(rows)]
    anew = build.icmp_signed("!=", fresh, integer(0))

    def step(offset, mask=None) -> None:
        total = build.select(anew, v.zero, v.load(v.at(sums, offset)))
        for factor, source in zip(factors, sources, strict=True):
            total = v.multiply_add(factor, v.load(v.at(source, offset), mask), total)
        v.store(total, v.at(sums, offset))

    vectors = build.sdiv(n, integer(v.lanes))
    with cgutils.for_range(build, vectors) as loop:
        step(build.mul(loop.index, integer(v.width)))
    rest = build.srem(n, integer(v.lanes))
    with build.if_then(build.icmp_signed(">", rest, integer(0))):
        step(build.mul(vectors, integer(v.width)), v.mask(rest))


def _write_dot_rows(v: Vectors, *args) -> None:
    _write_dots(v, DOTS, *args)


def _write_dot_row(v: Vectors, *args) -> None:
    _write_dots(v, 1, *args)


def _write_dots(v: Vectors, rows: int, beta, k, w, wrs, x, y, ys, s, ss, bias, biass) -> None:
    (sums,) = _write_dot_sums(v, rows, k, w, wrs, [x])
    _write_dot_ends(v, sums, beta, y, ys, s, ss, bias, biass)


def _write_dot_pair(v: Vectors, beta, k, w, wrs, x, xrs, y, yrs, s, srs, bias) -> None:
    step = integer(v.size)
    first, second = _write_dot_sums(v, DOTS, k, w, wrs, [x, v.at(x, xrs)])
    _write_dot_ends(v, first, beta, y, step, s, step, bias, step)
    _write_dot_ends(v, second, beta, v.at(y, yrs), step, v.at(s, srs), step, bias, step)


def _write_dot_sums(v: Vectors, rows: int, k, w, wrs, xs: list) -> list:
    """For each vector, variables that hold the products of the rows with it, lane by lane. Meanwhile the second-level cache
    fetches the next rows: left to itself, it would start anew with each of them."""
    build = v.builder
    sums = [[cgutils.alloca_once_value(build, v.zero) for _ in range(rows)] for _ in xs]
    further = build.mul(wrs, integer(rows))

    def step(offset, mask=None) -> None:
        shared = [v.load(v.at(x, offset), mask) for x in xs]
        for i in range(rows):
            address = v.at(w, build.mul(wrs, integer(i)), offset)
            v.prefetch(v.at(address, further), level=2)
            row = v.load(address, mask)
            for part, totals in zip(shared, sums, strict=True):
                build.store(v.multiply_add(row, part, build.load(totals[i])), totals[i])

    vectors = build.sdiv(k, integer(v.lanes))
    with cgutils.for_range(build, vectors) as loop:
        step(build.mul(loop.index, integer(v.width)))
    step(build.mul(vectors, integer(v.width)), v.mask(build.srem(k, integer(v.lanes))))
    return sums


def _write_dot_ends(v: Vectors, sums: list, beta, y, ys, s, ss, bias, biass) -> None:
    """y = the sums over the lanes + beta s + bias."""
    build = v.builder
    keeps = build.fcmp_unordered("!=", beta, ir.Constant(beta.type, 0.0))
    biased = build.icmp_signed("!=", bias, integer(0))
    for i, total in enumerate(sums):
        value = cgutils.alloca_once_value(build, v.sum(build.load(total)))
        with build.if_then(biased):
            build.store(build.fadd(build.load(value), v.scalar(v.at(bias, build.mul(biass, integer(i))))), value)
        with build.if_then(keeps):
            term = build.fmul(beta, v.scalar(v.at(s, build.mul(ss, integer(i)))))
            build.store(build.fadd(build.load(value), term), value)
        v.store_scalar(build.load(value), v.at(y, build.mul(ys, integer(i))))
