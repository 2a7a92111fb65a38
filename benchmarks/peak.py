"""What all cores together can do at most: multiply-adds on registers alone, and reading memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from tensorgrad.kernels.jit import THREADS, parallel, serial
from tensorgrad.kernels.simd import REGISTERS, Vectors

SUMS = REGISTERS * 3 // 4  # enough to keep every multiply-add unit busy, few enough for the registers


@intrinsic
def _multiply_adds(typing: Any, x: Any, steps: Any) -> Any:
    """SUMS independent sums of vectors, s = x s + x, `steps` times each; one number of the result."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        v = Vectors(builder, x)
        start = v.splat(args[0])
        sums = [cgutils.alloca_once_value(builder, start) for _ in range(SUMS)]
        with cgutils.for_range(builder, args[1]):
            for place in sums:
                builder.store(v.multiply_add(start, builder.load(place), start), place)
        total = v.zero
        for place in sums:
            total = builder.fadd(total, builder.load(place))
        return v.sum(total)

    return x(x, types.int64), emit


@serial
def _sums(x, steps):
    return _multiply_adds(x, steps)


@parallel
def _all_multiply_adds(x, steps, results):
    for i in prange(results.size):
        results[i] = _sums(x, steps)


@serial
def _sum(x):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    return total


@parallel
def _all_sums(x, results):
    for i in prange(results.size):
        results[i] = _sum(x[x.size * i // results.size : x.size * (i + 1) // results.size])


def multiply_adds(kind: Any, steps: int = 500_000) -> tuple[float, float]:
    """(FLOPs, seconds)"""
    results, one = np.empty(THREADS, kind), kind(0.5)
    _all_multiply_adds(one, 1, results)
    started = time.perf_counter()
    _all_multiply_adds(one, steps, results)
    lanes = Vectors(ir.IRBuilder(), types.float32 if kind is np.float32 else types.float64).lanes
    return 2.0 * lanes * SUMS * steps * THREADS, time.perf_counter() - started


def read(count: int) -> tuple[float, float]:
    """(bytes, seconds), of an array of `count` bytes"""
    x, results = np.ones(count // 4, np.float32), np.empty(THREADS, np.float32)
    _all_sums(x[:1000], results)
    started = time.perf_counter()
    _all_sums(x, results)
    return 4.0 * x.size, time.perf_counter() - started
