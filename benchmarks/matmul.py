"""The matrix product against NumPy's (OpenBLAS) and PyTorch's, shape by shape, beside what the machine could do.

    python benchmarks/matmul.py [--shape nano,baby,gpt2,head,double,batched,vector] [--rounds 3] [--seconds 0.15]

For a linear map y = x W^T of M rows from K to N numbers there are four forms: y = x W^T, y = x W (W stored the other way
round), dx = g W and dW = g^T x.  Each library runs in a process of its own, in turn; PyTorch is optional.  The limits are
measured in the same run: multiply-adds that touch no memory, and the rate at which all cores together read memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from turns import in_turns, machine, report, shape_names, table

GROUPS = {
    "nano": [(768, 128, 384), (768, 128, 128), (768, 128, 512), (768, 512, 128), (768, 128, 65)],
    "baby": [(4096, 384, 1152), (4096, 384, 1536), (4096, 1536, 384)],
    "gpt2": [(256, 768, 2304), (256, 768, 3072), (256, 3072, 768)],
    "head": [(256, 768, 50304)],
    "double": [(768, 128, 384), (256, 768, 2304)],
}
BATCHES = [(48, 64, 32, 64), (48, 64, 64, 32), (96, 256, 64, 256), (96, 256, 256, 64), (4096, 4, 4, 4), (4096, 8, 8, 8),
           (4096, 16, 16, 16), (1024, 32, 32, 32)]  # fmt: skip
WEIGHTS = [(768, 2304), (768, 3072), (3072, 768), (768, 50304)]  # of GPT-2's maps, (inputs, outputs)
FORMS = ["x W'", "x W", "g W", "g' x"]
APART = 400e6  # bytes of weights to go through before the same one again, as generation does
NAMES = [*GROUPS, "batched", "vector"]


@dataclass
class Row:
    """One line: operands for `calls` products in turn, so that caches are as in use, and what each costs."""

    name: str
    pairs: list[tuple[np.ndarray, np.ndarray]]
    flops: float
    bytes: float = 0.0


def rows(group: str) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    kind = np.float64 if group == "double" else np.float32

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(kind)

    for m, k, n in GROUPS.get(group, ()):
        x, w, g = normal(m, k), normal(n, k), normal(m, n)
        for form, pair in zip(FORMS, [(x, w.T), (x, w.T.copy()), (g, w), (g.T, x)], strict=True):
            yield Row(f"({m}, {k}, {n}) {form}", [pair], 2.0 * m * k * n)
    for b, m, k, n in BATCHES if group == "batched" else ():
        x, y = normal(b, m, k), normal(b, n, k).swapaxes(1, 2)
        yield Row(f"{b} of ({m}, {k}, {n})", [(x, y)], 2.0 * b * m * k * n)
    for k, n in WEIGHTS if group == "vector" else ():
        first = normal(n, k)
        weights = [first.copy() for _ in range(1 + int(APART / first.nbytes))]
        for m in (1, 4, 8):
            x = normal(m, k)
            for form, ws in (("x W'", [w.T for w in weights]), ("x W", [w.reshape(k, n) for w in weights])):
                yield Row(f"({m}, {k}, {n}) {form}", [(x, w) for w in ws], 2.0 * m * k * n, 4.0 * n * k)


def product(library: str) -> tuple[Callable[[Any, Any], Any], Callable[[np.ndarray], Any]]:
    """A library's product, and what makes its arrays."""
    if library == "tensorgrad":
        from tensorgrad.kernels.matmul import matmul

        return matmul, lambda x: x
    if library == "numpy":
        return np.matmul, lambda x: x
    import torch

    return torch.matmul, torch.from_numpy


def timed(library: str, group: str, seconds: float) -> dict[str, list[float]]:
    """{row: [minimum, median]}"""
    multiply, convert = product(library)
    found = {}
    for row in rows(group):
        pairs = [(convert(a), convert(b)) for a, b in row.pairs]
        multiply(*pairs[0])
        multiply(*pairs[0])
        taken: list[float] = []
        while len(taken) < 5 or sum(taken) < seconds:
            a, b = pairs[len(taken) % len(pairs)]
            started = time.perf_counter()
            multiply(a, b)
            taken.append(time.perf_counter() - started)
        found[row.name] = [min(taken), statistics.median(taken)]
    return found


def limits() -> dict[str, float]:
    """FLOP/s of multiply-adds in registers, float32 and float64, and bytes/s read from memory, on all cores."""
    from peak import multiply_adds, read

    flops = {}
    for kind in (np.float32, np.float64):
        flops[np.dtype(kind).name] = max(count / seconds for count, seconds in (multiply_adds(kind) for _ in range(10)))
    return flops | {"memory": max(count / seconds for count, seconds in (read(int(APART)) for _ in range(10)))}


def compared(runs: dict[str, list[dict[str, Any]]], row: Row, peak: float, memory: float) -> tuple[list[str], dict[str, float]]:
    """A line of the table, and how many times faster than each of the others ours is."""
    best = {library: min(run["times"][row.name][0] for run in given) for library, given in runs.items()}
    usual = {library: statistics.median(run["times"][row.name][1] for run in given) for library, given in runs.items()}
    ours = best["tensorgrad"]
    rate = f"{row.flops / ours / 1e9:.0f} ({row.flops / ours / peak:.0%})"
    if row.bytes:
        median = usual["tensorgrad"]  # the minimum finds a matrix in the cache
        rate = f"{row.bytes / median / 1e9:.1f} GB/s ({row.bytes / median / memory:.0%})"
    others = [library for library in runs if library != "tensorgrad"]
    ratios = {library: best[library] / ours for library in others}
    cells = [f"{ratios[other]:.2f} / {usual[other] / usual['tensorgrad']:.2f}" for other in others]
    return [row.name, f"{ours * 1e6:,.0f} / {usual['tensorgrad'] * 1e6:,.0f}", rate, *cells], ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape_names(NAMES), default=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.15, help="for each row of each run")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work == "limits":
        return report(limits=limits())
    if options.work:
        return report(times=timed(options.work, options.shape[0], options.seconds))
    libraries = ["tensorgrad", "numpy"] + ["torch"] * bool(importlib.util.find_spec("torch"))
    limit = in_turns({"limits": [__file__, "--work", "limits"]}, 1)["limits"][0]["limits"]
    single, double, memory = limit["float32"], limit["float64"], limit["memory"]
    print(
        f"{machine()}\n\nLimits: {single / 1e9:.0f} GFLOP/s float32, {double / 1e9:.0f} float64; {memory / 1e9:.1f} GB/s read\n"
    )
    names = {"numpy": "OpenBLAS", "torch": "PyTorch"}
    titles = [f"{names[other]} / ours" for other in libraries[1:]]
    for group in options.shape:
        work = {one: [__file__, "--work", one, "--shape", group, "--seconds", str(options.seconds)] for one in libraries}
        runs = in_turns(work, options.rounds)
        peak = double if group == "double" else single
        lines, ratios = zip(*[compared(runs, row, peak, memory) for row in rows(group)], strict=True)
        means = [f"{statistics.geometric_mean(r[other] for r in ratios):.2f}" for other in libraries[1:]]
        header = [group, "ours, us (min / median)", "GFLOP/s (of the limit)", *titles]
        print(table(header, [*lines, ["geometric mean", "", "", *means]]), "\n", flush=True)


if __name__ == "__main__":
    main()
