"""How training grows with the number of processes: measured on 1 and 2 of one thread each, predicted for 8 to 1,024.

    python benchmarks/scaling.py [--shape nano,baby] [--gbit 100] [--latency 2] [--hide 1.0]

Needs mpi4py and an `mpiexec`. The model of a step on p processes, with gradients of M bytes in k buckets:

    T(p) = C(b) + max(A_last, A - h C_back)              C(b) = c0 + c1 b   seconds to compute b sequences

C is measured on one process at two batch sizes, which gives the fixed part c0 (the optimizer's step, starting kernels) and the
part c1 that is shared. C_back = 2/3 of c1 b is the backward pass (two products of matrices for one in the forward pass), during
which the exchange A can hide; h is the part of it that does, 1 at best, and A_last, the exchange of the bucket that is complete
only when the pass is over, never does.

A is the sum over buckets of the time to add up m bytes on p processes, over links of B bytes/s with latency a. A ring first
leaves each process the sum of its p-th part in p - 1 turns, then passes these parts round in p - 1 more; a turn carries m/p:

    ring(m)      = 2 (p - 1) a + (p - 1)/p m (2/B + g)   (Patarasuk and Yuan 2009: no algorithm carries fewer bytes)

By recursive halving and doubling, partners at distances p/2, p/4, .., 1 exchange m/2, m/4, .., and back. The bytes are the same,
and the turns are log2 p instead of p - 1:

    tree(m)      = 2 log2(p) a + (p - 1)/p m (2/B + g)   (Thakur, Rabenseifner and Gropp 2005, section 4.4)

The latter is better for short messages; on real networks with p no power of 2, or contended links, the former keeps up for long
ones. Adding takes g seconds a byte, measured here. a and B of this machine, where processes share memory, are fitted to
allreduces of 1 KB to 16 MB by least squares of relative errors (B then has g in it); the prediction is for the network that the
flags state. Strong scaling divides one batch of 1,024 sequences, weak scaling gives each process the shape's own batch:

    strong efficiency = T(1) / (p T(p)),    weak efficiency = T(1) / T(p).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from shapes import SHAPES, Shape
from turns import machine, shape_names, table

SIZES = [1 << n for n in range(10, 25, 2)]  # bytes
STEPS = {"nano": 20, "baby": 2, "gpt2": 2}
STRONG = 1024  # sequences in the batch that strong scaling divides
PROCESSES = (2, 8, 32, 128, 512, 1024)


def trainer_for(shape: Shape, batch: int) -> Any:
    """A training of that shape on random tokens, in the team of this process."""
    from minigpt import parallel
    from minigpt.config import TrainConfig
    from minigpt.trainer import Trainer

    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "block_size": shape.context}
    tokens = np.random.default_rng(0).integers(0, shape.vocab, 10 * shape.context)
    return Trainer(TrainConfig(batch_size=batch, **sizes), tokens, shape.vocab, parallel.team())


def seconds_a_step(shape: Shape, batch: int, steps: int) -> float:
    """The median, after one step that may compile."""
    trainer, taken = trainer_for(shape, batch), []
    for _ in range(steps + 1):
        began = time.perf_counter()
        trainer.update()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def seconds_to_add(team: Any, size: int) -> float:
    """The median time of an allreduce of `size` bytes."""
    array, taken = np.ones(size // 4, np.float32), []
    for _ in range(30):
        array[:] = 1
        team.allreduce(0.0)  # all begin together
        began = time.perf_counter()
        team.start_allreduce(array).Wait()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def member(name: str) -> None:
    """What one process measures; the leader prints it."""
    from minigpt import parallel

    team, shape = parallel.team(), SHAPES[name]
    batch = shape.batch - shape.batch % 2
    found: dict[str, Any] = {"step": seconds_a_step(shape, batch, STEPS[name]), "batch": batch}
    if team.size == 1:
        found["half"] = seconds_a_step(shape, batch // 2, STEPS[name])
        found["bytes"] = bucket_bytes(shape)
    else:
        found["add"] = [seconds_to_add(team, size) for size in SIZES]
    if team.leads:
        print(json.dumps(found))


def bucket_bytes(shape: Shape) -> list[int]:
    """The sizes of the buckets in the order in which they begin."""
    from minigpt.buckets import Buckets
    from minigpt.team import ALONE

    made = Buckets(trainer_for(shape, 2).model.parameters(), ALONE)
    return (np.diff([0, *made.bounds]) * made.flat.itemsize).tolist()


def seconds_to_add_a_byte() -> float:
    """Of an array of 4 MB to another, in place."""
    a, b = np.ones(1 << 20, np.float32), np.ones(1 << 20, np.float32)
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        np.add(a, b, out=a)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) / a.nbytes


def measured(name: str, members: int) -> dict[str, Any]:
    """Run `member` on so many processes of one thread each."""
    program = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise SystemExit("there is no mpiexec: pip install mpi4py mpich")
    variables = os.environ | {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [program, "-n", str(members), sys.executable, __file__, "--member", name]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{members} processes failed on {name}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Link:
    """Latency in seconds, bytes a second, and seconds to add a byte."""

    latency: float
    bandwidth: float
    adding: float = 0.0

    def carried(self, size: float, p: int) -> float:
        """Seconds for the bytes, by either algorithm."""
        return (p - 1) / p * size * (2 / self.bandwidth + self.adding)

    def ring(self, size: float, p: int) -> float:
        """Seconds to add up `size` bytes on p processes in a ring."""
        return 2 * (p - 1) * self.latency + self.carried(size, p)

    def tree(self, size: float, p: int) -> float:
        """The same by recursive halving and doubling."""
        return 2 * math.log2(p) * self.latency + self.carried(size, p)

    @staticmethod
    def fitted(sizes: list[int], seconds: list[float]) -> Link:
        """For two processes, where both formulas are 2 a + m / B; every size weighs the same."""
        rows = np.array([[2.0, size] for size in sizes]) / np.array(seconds)[:, None]
        a, inverse = np.linalg.lstsq(rows, np.ones(len(seconds)), rcond=None)[0]
        return Link(max(float(a), 0.0), 1 / float(inverse))


@dataclass(frozen=True)
class Cost:
    """The cost model of the module's docstring for one shape."""

    fixed: float
    sequence: float  # seconds
    buckets: list[int]  # bytes
    hidden: float  # h

    def compute(self, batch: float) -> float:
        return self.fixed + self.sequence * batch

    def step(self, batch: float, p: int, link: Link, algorithm: str) -> tuple[float, float]:
        """Seconds of a step on p processes with `batch` sequences each, and how many of them are waiting for the exchange."""
        if p == 1:
            return self.compute(batch), 0.0
        add = [getattr(link, algorithm)(size, p) for size in self.buckets]
        waiting = max(add[-1], sum(add) - self.hidden * 2 / 3 * self.sequence * batch)
        return self.compute(batch) + waiting, waiting


def predictions(cost: Cost, batch: int, link: Link, processes: tuple[int, ...]) -> list[list[str]]:
    """A row for each number of processes: the step and the efficiency, strong and weak, by ring and by tree."""
    rows = []
    for p in processes:
        row = [f"{p:,}"]
        for share, ideal in ((STRONG / p, cost.compute(STRONG) / p), (batch, cost.compute(batch))):
            for algorithm in ("ring", "tree"):
                seconds, _ = cost.step(share, p, link, algorithm)
                row.append(f"{seconds * 1e3:,.2f} ({100 * ideal / seconds:.0f} %)")
        rows.append(row)
    return rows


def report(name: str, link: Link, hidden: float) -> None:
    """Measure one shape and print its tables."""
    one, two = measured(name, 1), measured(name, 2)
    batch = one["batch"]
    sequence = min(max(one["step"] - one["half"], 0.0) / (batch / 2), one["step"] / batch)  # what is fixed is not negative
    cost = Cost(one["step"] - sequence * batch, sequence, one["bytes"], hidden)
    here = Link.fitted(SIZES, two["add"])
    said = cost.step(batch / 2, 2, here, "tree")[0]
    rows = [
        ["1 process, whole batch", f"{one['step'] * 1e3:.2f}", "", ""],
        ["1 process, half a batch", f"{one['half'] * 1e3:.2f}", "", ""],
        ["2 processes", f"{two['step'] * 1e3:.2f}", f"{said * 1e3:.2f}", f"{100 * one['step'] / two['step'] / 2:.0f} %"],
    ]
    print(f"\n## {name}: {sum(one['bytes']) / 1e6:.1f} MB of gradients in {len(one['bytes'])} buckets, batch {batch}\n")
    print(table(["step here", "ms", "model, ms", "strong efficiency"], rows))
    print(f"\nAllreduce on 2 processes here; fitted: {here.latency * 1e6:.1f} us and {here.bandwidth / 1e9:.2f} GB/s\n")
    pairs = zip(SIZES, two["add"], strict=True)
    rows = [[f"{size:,}", f"{t * 1e6:,.1f}", f"{here.tree(size, 2) * 1e6:,.1f}"] for size, t in pairs]
    print(table(["bytes", "us", "model, us"], rows))
    network = f"{link.bandwidth * 8e-9:g} Gbit/s and {link.latency * 1e6:g} us"
    print(f"\nPredicted over {network}: a step in ms (efficiency); strong with {STRONG:,} sequences, weak with {batch} each\n")
    header = ["processes", "strong, ring", "strong, tree", "weak, ring", "weak, tree"]
    print(table(header, predictions(cost, batch, link, PROCESSES)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=shape_names(SHAPES), default=["nano", "baby"], help="nano, baby, gpt2, with commas")
    parser.add_argument("--gbit", type=float, default=100.0, help="bandwidth of the network, Gbit/s")
    parser.add_argument("--latency", type=float, default=2.0, help="latency of the network, microseconds")
    parser.add_argument("--hide", type=float, default=1.0, help="part of the backward pass that can hide an exchange")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member:
        return member(options.member)
    sys.stdout.reconfigure(line_buffering=True)  # what is measured stays, even if the rest is cut short
    print(machine())
    link = Link(options.latency * 1e-6, options.gbit * 1e9 / 8, seconds_to_add_a_byte())
    for name in options.shape:
        report(name, link, options.hide)


if __name__ == "__main__":
    main()
