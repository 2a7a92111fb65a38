"""Vectors of floats in LLVM IR, for inner loops that must not be left to the compiler's own vectoriser.

The machine is described by two numbers: LANES, the float32 values in one vector register (float64: half as many), and
REGISTERS, how many there are. They follow the processor; the environment variable TENSORGRAD_LANES (4, 8 or 16) stands
in for the first, so that the code for a narrow machine can be run on a wide one.
"""

import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from tensorgrad.kernels.jit import config

INTEGER = ir.IntType(64)
_INDEX = ir.IntType(32)


def _host() -> tuple[int, int]:
    """(lanes, registers) of the processor that Numba compiles for."""
    arm = llvm.get_default_triple().startswith(("aarch64", "arm64"))
    chosen = os.environ.get("TENSORGRAD_LANES")
    if chosen is not None:
        if chosen not in ("4", "8", "16"):
            raise ValueError(f"TENSORGRAD_LANES is {chosen!r}; expected 4, 8 or 16")
        return int(chosen), 32 if chosen == "16" or arm else 16
    if config.CPU_FEATURES is not None:
        features = {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    else:
        features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if {"avx512f", "avx512vl"} <= features:
        return 16, 32
    if "avx" in features:
        return 8, 16
    return 4, 32 if arm else 16


LANES, REGISTERS = _host()


def integer(value: int) -> ir.Constant:
    """A constant of the machine's integers."""
    return ir.Constant(INTEGER, value)


class Vectors:
    """Writes code for vectors of one float type where an LLVM builder stands. Addresses are integers, in bytes, and
    need no alignment; `size` is the bytes of an element, `lanes` the elements and `width` the bytes of a vector."""

    def __init__(self, builder: ir.IRBuilder, element: types.Float) -> None:
        self.builder = builder
        self.size = element.bitwidth // 8
        self.width = LANES * 4
        self.lanes = self.width // self.size
        self.element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.type = ir.VectorType(self.element, self.lanes)
        self.mask_type = ir.VectorType(ir.IntType(1), self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)

    def at(self, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """address + the sum of terms"""
        for term in terms:
            address = self.builder.add(address, integer(term) if isinstance(term, int) else term)
        return address

    def scalar(self, address: ir.Value) -> ir.Value:
        return self._aligned(self.builder.load(self.builder.inttoptr(address, self.element.as_pointer())))

    def store_scalar(self, value: ir.Value, address: ir.Value) -> None:
        self._aligned(self.builder.store(value, self.builder.inttoptr(address, self.element.as_pointer())))

    def load(self, address: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """The vector at address; lanes outside the mask are zero and not read."""
        pointer = self.builder.inttoptr(address, self.type.as_pointer())
        if mask is None:
            return self._aligned(self.builder.load(pointer))
        return self._call("masked.load", ".p0", self.type, pointer, ir.Constant(_INDEX, 1), mask, self.zero)

    def store(self, value: ir.Value, address: ir.Value, mask: ir.Value | None = None) -> None:
        pointer = self.builder.inttoptr(address, self.type.as_pointer())
        if mask is None:
            self._aligned(self.builder.store(value, pointer))
        else:
            self._call("masked.store", ".p0", ir.VoidType(), value, pointer, ir.Constant(_INDEX, 1), mask)

    def prefetch(self, address: ir.Value, write: bool = False, level: int = 1) -> None:
        """Ask for the cache line at address, soon to be read or written, to come into the cache of this level, 1 to 3; an
        address outside all memory does no harm."""
        pointer = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        module, name, kinds = self.builder.module, "llvm.prefetch.p0", [pointer.type, _INDEX, _INDEX, _INDEX]
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        locality, data_cache = 4 - level, 1
        self.builder.call(module.globals[name], [pointer, *(ir.Constant(_INDEX, x) for x in (int(write), locality, data_cache))])

    def mask(self, count: ir.Value) -> ir.Value:
        """Lanes 0 .. count - 1."""
        kind = ir.VectorType(INTEGER, self.lanes)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), self.splat(count, kind))

    def splat(self, value: ir.Value, kind: ir.VectorType | None = None) -> ir.Value:
        """value in every lane"""
        undefined = ir.Constant(kind or self.type, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
        return self._shuffle(one, undefined, [0] * self.lanes)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x y + z, rounded once where the processor can"""
        return self._call("fmuladd", "", self.type, x, y, z)

    def sum(self, x: ir.Value) -> ir.Value:
        """The sum of the lanes, in pairs."""
        half = self.lanes // 2
        while half:
            x = self.builder.fadd(x, self._shuffle(x, x, [(lane + half) % self.lanes for lane in range(self.lanes)]))
            half //= 2
        return self.builder.extract_element(x, ir.Constant(_INDEX, 0))

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        """`lanes` vectors as a square matrix, transposed: at distance h = lanes/2, .., 2, 1, the lanes of row i with
        bit h set change places with the lanes of row i + h with bit h clear."""
        rows, n, h = list(rows), self.lanes, self.lanes // 2
        while h:
            for i in (i for i in range(n) if not i & h):
                upper, lower = rows[i], rows[i + h]
                rows[i] = self._shuffle(upper, lower, [n + lane - h if lane & h else lane for lane in range(n)])
                rows[i + h] = self._shuffle(upper, lower, [n + lane if lane & h else lane + h for lane in range(n)])
            h //= 2
        return rows

    def _shuffle(self, x: ir.Value, y: ir.Value, lanes: list[int]) -> ir.Value:
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes))

    def _aligned(self, instruction: ir.Instruction) -> ir.Instruction:
        instruction.align = 1
        return instruction

    def _call(self, name: str, ending: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        name = f"llvm.{name}.v{self.lanes}f{self.size * 8}{ending}"
        module = self.builder.module
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(result, [arg.type for arg in args]), name)
        return self.builder.call(module.globals[name], args)
