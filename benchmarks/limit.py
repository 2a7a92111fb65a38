"""How fast a training step could be on this machine: the best rate of a matrix product on the step's own shapes, in any
library, and the rate at which all cores together copy as much memory as the optimizer moves.

    python benchmarks/limit.py [--shape nano,baby,gpt2]

limit = FLOPs of the step / best rate + bytes of AdamW / bandwidth.  NumPy stands for OpenBLAS; PyTorch is optional.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from shapes import SHAPES, Shape
from turns import in_turns, machine, report, shape_names, table

BEST_OF_SECONDS = 0.15  # for each product
COPIES = 5


@dataclass
class Limit:
    """Rates in FLOP/s by library, bandwidth in bytes/s, and the seconds of a step that follow."""

    rates: dict[str, float]
    bandwidth: float
    seconds: float


def limit(name: str) -> Limit:
    """Measured in processes of their own, one for each library and one for the memory."""
    libraries = ["tensorgrad", "numpy"] + ["torch"] * bool(importlib.util.find_spec("torch"))
    runs = in_turns({work: [__file__, "--work", work, "--shape", name] for work in [*libraries, "memory"]}, rounds=1)
    best = {work: max(run["rate"] for run in given) for work, given in runs.items()}
    bandwidth = best.pop("memory")
    shape = SHAPES[name]
    return Limit(best, bandwidth, shape.flops / max(best.values()) + shape.optimizer_bytes / bandwidth)


def product_rate(shape: Shape, product: Callable[[np.ndarray, np.ndarray], object]) -> float:
    """FLOP/s of the fastest of the step's products."""
    rng = np.random.default_rng(0)
    rates = []
    for m, k, n in shape.products():
        a, b = (rng.standard_normal(size, np.float32) for size in ((m, k), (k, n)))
        product(a, b)
        seconds = []
        while sum(seconds) < BEST_OF_SECONDS:
            started = time.perf_counter()
            product(a, b)
            seconds.append(time.perf_counter() - started)
        rates.append(2.0 * m * k * n / min(seconds))
    return max(rates)


def matrix_product(library: str) -> Callable[[np.ndarray, np.ndarray], object]:
    if library == "numpy":
        return np.matmul
    if library == "torch":
        import torch

        return lambda a, b: torch.mm(torch.from_numpy(a), torch.from_numpy(b))
    import tensorgrad as tg

    return lambda a, b: tg.matmul(tg.Tensor(a), tg.Tensor(b))


def bandwidth(count: float) -> float:
    """Bytes read and written a second while each core copies its part of `count` bytes, half read and half written."""
    cores = os.cpu_count() or 1
    items = int(min(count, 1e9)) // 2 // 4 // cores
    parts = [(np.zeros(items, np.float32), np.ones(items, np.float32)) for _ in range(cores)]
    repeats = 1 + int(1e9 / (8 * items * cores))
    together = threading.Barrier(cores + 1)

    def copy(target: np.ndarray, source: np.ndarray) -> None:
        together.wait()
        for _ in range(repeats):
            np.copyto(target, source)
        together.wait()

    best = 0.0
    for _ in range(COPIES):
        for part in parts:
            threading.Thread(target=copy, args=part).start()
        together.wait()
        started = time.perf_counter()
        together.wait()
        best = max(best, 8.0 * items * cores * repeats / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape_names(SHAPES), default=list(SHAPES))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        shape = SHAPES[options.shape[0]]
        memory = options.work == "memory"
        return report(rate=bandwidth(shape.optimizer_bytes) if memory else product_rate(shape, matrix_product(options.work)))
    print(machine(), "\n")
    rows = []
    for name in options.shape:
        found = limit(name)
        rates = [f"{rate / 1e9:.0f}" for rate in found.rates.values()]
        rows.append([name, *rates, f"{found.bandwidth / 1e9:.0f}", f"{found.seconds * 1e3:.1f}"])
    titles = [f"{library}, GFLOP/s" for library in found.rates]
    print(table(["shape", *titles, "memory, GB/s", "limit of a step, ms"], rows))


if __name__ == "__main__":
    main()
