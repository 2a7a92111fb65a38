"""Every fused kernel, forward and backward, and every elementwise function against PyTorch and NumPy.

    python benchmarks/kernels.py [--only gelu embedding ..] [--rounds 3] [--seconds 0.15] [--threads 1]

Each library runs in a process of its own, in turn; a row is the minimum / median of all runs.  PyTorch is optional.  The limit
is the larger of two times: that of moving as many bytes by the sum of two arrays, and that of the arithmetic at the rate of
a matrix product, both measured in our process.  `--only` keeps the rows whose names contain one of the words.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from turns import machine, ratio, table

ELEMENTS = 1_000_000


@dataclass
class Case:
    """One row: shapes of the differentiable inputs, the function in each library, and what it must move and compute."""

    name: str
    shapes: Sequence[tuple[int, ...]]
    ours: Callable[[Any], Callable]
    theirs: Callable[[Any], Callable]
    bytes: float
    flops: float


def fused_cases() -> Iterator[Case]:
    """Bytes count each array once where it is read and once where it is written: x, y forward; g, x, dx backward."""
    for n, c in [(768, 128), (256, 768)]:
        size = n * c
        yield Case(f"layer norm {n}x{c}", [(n, c), (c,), (c,)], lambda tg: tg.layer_norm,
                   lambda t: lambda x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b), 20 * size, 25 * size)  # fmt: skip
        yield Case(f"RMS norm {n}x{c}", [(n, c), (c,)], lambda tg: tg.rms_norm,
                   lambda t: lambda x, w: t.nn.functional.rms_norm(x, w.shape, w, 1e-6), 20 * size, 15 * size)  # fmt: skip
    for n, c in [(768, 65), (3072, 64)]:
        size = n * c
        yield Case(f"softmax {n}x{c}", [(n, c)], lambda tg: tg.softmax,
                   lambda t: lambda x: t.softmax(x, -1), 20 * size, 25 * size)  # fmt: skip
        yield Case(f"log-softmax {n}x{c}", [(n, c)], lambda tg: tg.log_softmax,
                   lambda t: lambda x: t.log_softmax(x, -1), 20 * size, 40 * size)  # fmt: skip
    for n, c in [(768, 65), (256, 50304)]:
        ids = np.random.default_rng(2).integers(0, c, n)
        yield Case(f"cross-entropy {n}x{c}", [(n, c)], lambda tg, ids=ids: lambda x: tg.cross_entropy(x, ids),
                   lambda t, ids=ids: lambda x: t.nn.functional.cross_entropy(x, t.from_numpy(ids)),
                   12 * n * c, 40 * n * c)  # fmt: skip
    for n, c in [(768, 512), (256, 3072)]:
        for approximate in ("none", "tanh"):
            yield Case(f"GELU ({approximate}) {n}x{c}", [(n, c)], lambda tg, a=approximate: lambda x: tg.gelu(x, approximate=a),
                       lambda t, a=approximate: lambda x: t.nn.functional.gelu(x, approximate=a),
                       20 * n * c, 70 * n * c)  # fmt: skip
        yield Case(f"SiLU {n}x{c}", [(n, c)], lambda tg: tg.silu, lambda t: t.nn.functional.silu, 20 * n * c, 55 * n * c)
    for v, c, n in [(65, 128, 768), (50304, 768, 256)]:
        ids = np.random.default_rng(2).integers(0, v, n)
        yield Case(f"embedding {n} of {v}x{c}", [(v, c)], lambda tg, ids=ids: lambda w: tg.embedding(ids, w),
                   lambda t, ids=ids: lambda w: t.nn.functional.embedding(t.from_numpy(ids), w),
                   12 * n * c + 4 * v * c, 0)  # fmt: skip
    size = 12 * 8 * 256 * 64
    yield Case("rotary 12x8x256x64", [(12, 8, 256, 64)], lambda tg: tg.rotary, torch_rotary, 16 * size, 6 * size)
    size = 1000 * 1000
    yield Case("dropout 1000x1000", [(1000, 1000)], lambda tg: functools.partial(tg.dropout, p=0.1, rng=np.random.default_rng(0)),
               lambda t: lambda x: t.nn.functional.dropout(x, 0.1), 16 * size, 20 * size)  # fmt: skip
    for b, h, t, d in [(12, 4, 64, 32), (16, 6, 256, 64), (2, 12, 1024, 64)]:
        yield Case(f"attention {b}x{h}x{t}x{d}", [(b, h, t, d)] * 3,
                   lambda tg: functools.partial(tg.attention, causal=True),
                   lambda t: functools.partial(t.nn.functional.scaled_dot_product_attention, is_causal=True),
                   48 * b * h * t * d, 7 * b * h * t * t * d)  # fmt: skip
    b, h, t, d = shape = 16, 6, 256, 64
    seen, bias = np.random.default_rng(3).random((b, 1, 1, t)) < 0.9, np.random.default_rng(3).normal(size=(1, h, t, t))
    extras: dict[str, tuple[dict, Callable]] = {
        "mask": ({"mask": seen}, lambda t: {"attn_mask": t.from_numpy(seen)}),
        "bias": ({"bias": bias.astype(np.float32)}, lambda t: {"attn_mask": t.from_numpy(bias.astype(np.float32))}),
        "dropout": ({"causal": True, "dropout_p": 0.1}, lambda t: {"is_causal": True, "dropout_p": 0.1}),
    }
    for name, (ours, theirs) in extras.items():
        flops = 14 * b * h * t * t * d // (1 + ("causal" in ours))
        yield Case(f"attention {b}x{h}x{t}x{d}, {name}", [shape] * 3,
                   lambda tg, how=ours: functools.partial(tg.attention, rng=np.random.default_rng(0), **how),
                   lambda t, how=theirs: functools.partial(t.nn.functional.scaled_dot_product_attention, **how(t)),
                   48 * b * h * t * d, flops)  # fmt: skip


def torch_rotary(t: Any) -> Callable:
    """Halves of each head turned by position times frequency, as language models in PyTorch write it."""

    def rotate(x: Any) -> Any:
        half = x.shape[-1] // 2
        angle = t.arange(x.shape[-2])[:, None] * 10000.0 ** (-t.arange(half) / half)
        cos, sin = t.cos(angle), t.sin(angle)
        a, b = x[..., :half], x[..., half:]
        return t.cat([a * cos - b * sin, b * cos + a * sin], -1)

    return rotate


# Parameter lists for the optimizer: one step over all of a model's weights


def parameter_shapes(layers: int, width: int, context: int, vocab: int) -> list[tuple[int, ...]]:
    block = [(width,), (width,), (3 * width, width), (width, width), (width,), (width,), (4 * width, width), (width, 4 * width)]
    return [(vocab, width), (context, width), *block * layers, (width,), (width,)]


OPTIMIZERS = {"AdamW nano": (4, 128, 64, 65), "AdamW 124M": (12, 768, 1024, 50304)}


def our_adamw(shapes: Sequence[tuple[int, ...]]) -> Callable[[], Any]:
    import tensorgrad as tg

    params = [tg.nn.Parameter(tg.tensor(np.full(s, 0.1, np.float32))) for s in shapes]
    for p in params:
        p.grad = tg.tensor(np.full(p.shape, 0.01, np.float32))
    optimizer = tg.optim.AdamW(params, lr=1e-3)
    return optimizer.step


def torch_adamw(shapes: Sequence[tuple[int, ...]]) -> Callable[[], Any]:
    import torch

    params = [torch.full(s, 0.1, requires_grad=True) for s in shapes]
    for p in params:
        p.grad = torch.full(p.shape, 0.01)
    optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)
    return optimizer.step


# Elementwise functions and chains of them, forward only

FUNCTIONS = {"exp": 20, "log": 30, "tanh": 30, "erf": 45, "sigmoid": 30, "gelu": 35, "silu": 30}  # FLOPs an element
CHAINS: dict[str, tuple[int, Callable]] = {  # passes over memory that a fused loop would need, and the chain
    "(a*b + c).tanh() * d": (5, lambda m, a, b, c, d: m.multiply(m.tanh(m.add(m.multiply(a, b), c)), d)),
    "x*x + 2*x": (2, lambda m, x, *_: x * x + 2 * x),
    "relu(relu(a*b) - c)": (4, lambda m, a, b, c, d: m.relu(m.relu(a * b) - c)),
    "exp(a) / (1 + exp(b))": (3, lambda m, a, b, c, d: m.exp(a) / (1 + m.exp(b))),
}


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """The function in float64, without cancellation."""
    if name == "erf":
        return np.vectorize(math.erf)(x)
    if name == "gelu":
        return x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x)
    e = np.exp(-np.abs(x))
    s = np.where(x >= 0, 1, e) / (1 + e)
    return {"sigmoid": s, "silu": x * s}[name] if name in ("sigmoid", "silu") else getattr(np, name)(x)


def largest_error(name: str, function: Callable, x: np.ndarray) -> float:
    """In units in the last place."""
    wanted = reference(name, x.astype(np.float64))
    error = np.abs(np.asarray(function(x), np.float64) - wanted)
    return float((error / np.spacing(np.abs(wanted.astype(np.float32)))).max())


# The work of one process: {row: [seconds, ..]}


def timed(function: Callable[[], Any], seconds: float) -> list[float]:
    """Runs of about `seconds` in all, five at least, after one to warm up."""
    function()
    taken: list[float] = []
    while len(taken) < 5 or sum(taken) < seconds:
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return taken


def arrays_of(case: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in case.shapes]


def our_pass(case: Case) -> Callable[[], Any]:
    import tensorgrad as tg
    from tensorgrad.autodiff import pull

    xs = [tg.tensor(a, requires_grad=True) for a in arrays_of(case)]
    f = case.ours(tg)
    g = tg.ones_like(f(*xs))
    return lambda: pull([f(*xs)], [g], xs, free=True)


def torch_pass(case: Case) -> Callable[[], Any]:
    import torch

    xs = [torch.from_numpy(a).requires_grad_() for a in arrays_of(case)]
    f = case.theirs(torch)
    g = torch.ones_like(f(*xs))
    return lambda: torch.autograd.grad(f(*xs), xs, g)


def library(side: str) -> tuple[Any, Callable]:
    """A library's functions under our names, and what makes its arrays of NumPy's."""
    if side == "tensorgrad":
        import tensorgrad as tg

        return tg, tg.tensor
    if side == "numpy":
        own = {
            "relu": lambda x: np.maximum(x, 0),
            "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "silu": lambda x: x / (1 + np.exp(-x)),
        }
        return SimpleNamespace(**{**vars(np), **own}), np.asarray
    import torch

    activations = {"gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}
    return SimpleNamespace(**{**vars(torch), **activations}), torch.from_numpy


def elementwise_runs(side: str) -> Iterator[tuple[str, Callable[[], Any], float]]:
    """(row, call, largest error) of every function and chain that the library has."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-6, 6, ELEMENTS).astype(np.float32)
    functions, array = library(side)
    for name in FUNCTIONS:
        given = np.abs(x) if name == "log" else x
        if function := getattr(functions, name, None):
            error = largest_error(name, lambda a, f=function: f(array(a)), given[:: ELEMENTS // 50_000])
            yield name, functools.partial(function, array(given)), error
    inputs = [array(rng.uniform(-2, 2, ELEMENTS).astype(np.float32)) for _ in range(4)]
    for name, (_, chain) in CHAINS.items():
        yield name, functools.partial(chain, functions, *inputs), math.nan


def passes_of(side: str) -> Iterator[tuple[str, Callable[[], Callable]]]:
    """(row, what makes the call) of every fused kernel, and of the optimizer."""
    for case in fused_cases():
        yield case.name, functools.partial(our_pass if side == "tensorgrad" else torch_pass, case)
    for name, sizes in OPTIMIZERS.items():
        yield name, functools.partial(our_adamw if side == "tensorgrad" else torch_adamw, parameter_shapes(*sizes))


def limits() -> Callable[[float, float], float]:
    """(bytes, FLOPs) -> the seconds that this machine must take: measured here, on all threads."""
    import tensorgrad as tg

    a = tg.tensor(np.ones((768, 768), np.float32))
    rate = 2 * 768**3 / min(timed(lambda: a @ a, 0.1))

    @functools.cache
    def seconds_to_move(size: int) -> float:
        x = np.ones(max(size // 12, 1), np.float32)
        return min(timed(lambda: tg.kernels.elementwise.add(x, x), 0.05))

    return lambda size, flops: max(seconds_to_move(min(int(size), 1 << 28)) * max(1, size / (1 << 28)), flops / rate)


def work(side: str, only: Sequence[str], seconds: float) -> None:
    """One process's part."""

    def chosen(name: str) -> bool:
        return not only or any(word.lower() in name.lower() for word in only)

    times, errors, limit = {}, {}, {}
    if side != "numpy":
        for name, make in passes_of(side):
            if chosen(name):
                times[name] = timed(make(), seconds)
    for name, call, error in elementwise_runs(side):
        if chosen(name):
            times[name], errors[name] = timed(call, seconds), error
    if side == "tensorgrad":
        bound = limits()
        limit = {name: bound(*cost) for name, cost in costs().items() if chosen(name)}
    print(json.dumps({"times": times, "errors": errors, "limit": limit}))


def costs() -> dict[str, tuple[float, float]]:
    """(bytes, FLOPs) of every row."""
    found = {case.name: (case.bytes, case.flops) for case in fused_cases()}
    for name, sizes in OPTIMIZERS.items():
        numbers = sum(map(math.prod, parameter_shapes(*sizes)))
        found[name] = 28.0 * numbers, 15.0 * numbers
    found |= {name: (8.0 * ELEMENTS, flops * ELEMENTS) for name, flops in FUNCTIONS.items()}
    return found | {name: (4.0 * passes * ELEMENTS, 0.0) for name, (passes, _) in CHAINS.items()}


# The table


def microseconds(seconds: Sequence[float]) -> str:
    return f"{min(seconds) * 1e6:,.0f} / {statistics.median(seconds) * 1e6:,.0f}"


def gathered(sides: Sequence[str], options: argparse.Namespace, threads: int | None) -> dict[str, dict]:
    """What each side measured in all rounds."""
    found: dict[str, dict] = {side: {"times": {}, "errors": {}, "limit": {}} for side in sides}
    fixed = {} if threads is None else {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    for _ in range(options.rounds):
        for side in sides:
            command = [sys.executable, __file__, "--work", side, "--seconds", str(options.seconds), "--only", *options.only]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **fixed})
            if done.returncode:
                raise SystemExit(f"{side} failed:\n{done.stderr}")
            result = json.loads(done.stdout.strip().splitlines()[-1])
            for name, times in result["times"].items():
                found[side]["times"].setdefault(name, []).extend(times)
            found[side]["errors"] |= result["errors"]
            found[side]["limit"] |= result["limit"]
    return found


def report(found: dict[str, dict], names: Sequence[str]) -> str:
    """One line a row, with what each peer takes and how many times faster ours is."""
    ours, *peers = found
    titles = ["", "tensorgrad, µs", "limit", *[t for p in peers for t in (f"{p}, µs", f"{p} / tensorgrad")], "largest error, ULP"]
    rows = []
    for name in names:
        times = found[ours]["times"][name]
        cells = [name, microseconds(times), f"{found[ours]['limit'][name] * 1e6:,.0f}"]
        for peer in peers:
            theirs = found[peer]["times"].get(name)
            cells += [microseconds(theirs), ratio(times, theirs)] if theirs else ["", ""]
        errors = [
            f"{found[side]['errors'][name]:.1f}" for side in found if not math.isnan(found[side]["errors"].get(name, math.nan))
        ]
        rows.append([*cells, ", ".join(errors)])
    return table(titles, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.15, help="for each row, in each process")
    parser.add_argument("--threads", type=int, help="of every library; all the cores unless given")
    parser.add_argument("--work", metavar="SIDE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.only, options.seconds)
    sides = ["tensorgrad", "numpy"] + ["torch"] * bool(importlib.util.find_spec("torch"))
    found = gathered(sides, options, options.threads)
    measured = found["tensorgrad"]["times"]
    elementwise = [name for name in [*FUNCTIONS, *CHAINS] if name in measured]
    fused = [name for name in measured if name not in elementwise]
    print(machine())
    print("\nForward and backward (minimum / median)\n")
    print(report({side: found[side] for side in sides if side != "numpy"}, fused))
    print(f"\nForward, {ELEMENTS:,} elements of float32 (minimum / median)\n")
    print(report(found, elementwise))


if __name__ == "__main__":
    main()
