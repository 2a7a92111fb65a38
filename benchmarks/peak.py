"""What all cores together can do at most: multiply-adds on registers alone, and reading memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from tensorgrad.kernels.jit import THREADS, parallel, serial
from tensorgrad.kernels.simd import INTEGER, REGISTERS, Vectors, integer

SUMS = REGISTERS * 3 // 4  # enough to keep every multiply-add unit busy, few enough for the registers


@intrinsic
def _multiply_adds(typing: Any, x: Any, steps: Any) -> Any:
    """SUMS independent sums of vectors, s = x s + x, `steps` times each; one number of the result."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        v = Vectors(builder, x)
        start, before = v.splat(args[0]), builder.block
        loop, after = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        left = builder.phi(INTEGER)
        sums = [builder.phi(v.type) for _ in range(SUMS)]
        next_sums = [v.multiply_add(start, total, start) for total in sums]
        for total, following in zip(sums, next_sums, strict=True):
            total.add_incoming(start, before)
            total.add_incoming(following, loop)
        left.add_incoming(args[1], before)
        left.add_incoming(builder.sub(left, integer(1)), loop)
        builder.cbranch(builder.icmp_signed(">", left, integer(1)), loop, after)
        builder.position_at_end(after)
        total = v.zero
        for following in next_sums:
            total = builder.fadd(total, following)
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
