"""What derivatives cost: in units of the function's own time, against the number of ops, and in memory.

    python benchmarks/derivatives.py [--plot memory.svg]

Each ratio is between minimum times taken alternately in one process.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from shapes import SHAPES
from train import our_model
from turns import machine, table

import tensorgrad as tg
from minigpt.models.gpt import GPT


def minimum(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each, run alternately after two rounds of warming up."""
    best = dict.fromkeys(functions, float("inf"))
    for i in range(rounds + 2):
        for name, f in functions.items():
            started = time.perf_counter()
            f()
            if i >= 2:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def mlp() -> tuple[tg.nn.Module, Callable[[tg.nn.Module], tg.Tensor]]:
    rng = np.random.default_rng(0)
    model = tg.nn.Sequential(*[m for _ in range(4) for m in (tg.nn.Linear(512, 512, rng=rng), tg.nn.Tanh())])
    x = tg.tensor(rng.standard_normal((256, 512)).astype(np.float32))
    return model, lambda m: (m(x) ** 2).mean()


def gpt(name: str) -> tuple[tg.nn.Module, Callable[[GPT], tg.Tensor]]:
    ids, targets = SHAPES[name].ids_and_targets()
    return our_model(SHAPES[name]), lambda m: m.loss(ids, targets)


def costs() -> str:
    rows = []
    for name, (model, loss) in {"MLP, 4 x 512, batch 256": mlp(), "GPT nano": gpt("nano")}.items():
        rng = np.random.default_rng(1)
        v = {key: tg.tensor(rng.standard_normal(p.shape).astype(np.float32)) for key, p in model.named_parameters()}

        def forward(model=model, loss=loss):
            with tg.no_grad():
                return loss(model)

        best = minimum(
            {
                "forward": forward,
                "gradient": lambda model=model, loss=loss: tg.value_and_grad(loss)(model),
                "hvp": lambda model=model, loss=loss, v=v: tg.hvp(loss, model, v),
            },
            rounds=10,
        )
        f, g, h = best["forward"], best["gradient"], best["hvp"]
        rows.append([name, f"{f * 1e3:.1f}", f"{g * 1e3:.1f}", f"{g / f:.2f}", f"{h * 1e3:.1f}", f"{h / g:.2f}"])
    return table(["function", "forward, ms", "value_and_grad, ms", "/ forward", "hvp, ms", "/ gradient"], rows)


def chain(length: int) -> tuple[float, float, float]:
    """Seconds to record, to differentiate and to free a chain of `length` ops."""
    x = tg.tensor(1.0, requires_grad=True)
    started = time.perf_counter()
    y = x
    for _ in range(length):
        y = y + 1.0
    recorded = time.perf_counter()
    y.backward(retain_graph=True)
    differentiated = time.perf_counter()
    del y
    return recorded - started, differentiated - recorded, time.perf_counter() - differentiated


def growth() -> str:
    rows = []
    for length in (10_000, 100_000, 1_000_000):
        times = chain(length)
        rows.append([f"{length:,}", *[f"{t:.3f}" for t in times], *[f"{t / length * 1e6:.2f}" for t in times[1:2]]])
    return table(["ops in a chain", "record, s", "backward, s", "free, s", "backward, us an op"], rows)


def resident() -> float:
    """Megabytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def memory(steps: int = 10_000) -> list[tuple[int, float]]:
    """Resident memory while training an MLP with the cyclic collector off."""
    rng = np.random.default_rng(0)
    model = tg.nn.Sequential(tg.nn.Linear(64, 64, rng=rng), tg.nn.Tanh(), tg.nn.Linear(64, 1, rng=rng))
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-3)
    x = tg.tensor(rng.standard_normal((128, 64)).astype(np.float32))
    curve = []
    gc.disable()
    try:
        for step in range(steps + 1):
            if step % (steps // 10) == 0:
                curve.append((step, resident()))
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
    finally:
        gc.enable()
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", help="save the memory curve as a picture")
    options = parser.parse_args()
    print(machine(), "\n\nThe cost of derivatives\n")
    print(costs())
    print("\nA longer graph\n")
    print(growth())
    print("\nMemory while training, cyclic collector off\n")
    curve = memory()
    print(table(["step", "MB resident"], [[f"{step:,}", f"{mb:.1f}"] for step, mb in curve]))
    if options.plot:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
        axes.plot(*zip(*curve, strict=True), marker="o")
        axes.set(
            xlabel="training step",
            ylabel="resident memory, MB",
            ylim=(0, 1.2 * max(mb for _, mb in curve)),
            title="10,000 steps, cyclic collector off",
        )
        figure.savefig(options.plot)


if __name__ == "__main__":
    main()
