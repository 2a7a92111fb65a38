"""A training step (forward, backward, clip, AdamW) of GPT-2 shapes against nanoGPT's in PyTorch, and against the machine's limit.

    python benchmarks/train.py [--shape nano,baby,gpt2] [--compile] [--busy] [--data FILE]

Both sides have the same weights and batch, must report the same losses, and run in processes of their own, in turn.  --busy
times the steps again while another process uses up one core; --data times `minigpt train --data FILE` as a whole against the
same training in PyTorch.  Without PyTorch there are our figures alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from limit import limit
from shapes import SHAPES, Shape
from turns import busy_core, in_turns, machine, milliseconds, ratio, report, shape_names, table

STEPS = {"nano": 60, "baby": 3, "gpt2": 3}  # timed by each process, after WARM_UP others
WARM_UP = 2
AGREEMENT = 1e-5  # relative, of the first two losses
OURS = "tensorgrad"
Runs = dict[str, list[dict[str, Any]]]


def our_model(shape: Shape) -> Any:
    from minigpt.models.gpt import GPT, GPTConfig

    config = GPTConfig(shape.vocab, shape.context, shape.layers, shape.heads, shape.width)
    return GPT(config, np.random.default_rng(0))


def our_step(shape: Shape) -> Callable[[], float]:
    import tensorgrad as tg

    model = our_model(shape)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))
    ids, targets = shape.ids_and_targets()

    def step() -> float:
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.clipped_step(1.0)
        return loss.item()

    return step


def torch_step(shape: Shape, weights: Path, compiled: bool) -> Callable[[], float]:
    import torch
    from torch_gpt import TorchGPT, decay_groups

    model = TorchGPT(shape.vocab, shape.context, shape.layers, shape.heads, shape.width, flash=True)
    with np.load(weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))
    ids, targets = (torch.from_numpy(a) for a in shape.ids_and_targets())
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def work(side: str, name: str, weights: Path) -> None:
    """One process's part: our initial weights for the peers, or the seconds and losses of one side's steps."""
    shape = SHAPES[name]
    if side == "weights":
        np.savez(weights, **our_model(shape).state_dict())
        return report()
    step = our_step(shape) if side == OURS else torch_step(shape, weights, side == "torch.compile")
    losses, seconds = [step() for _ in range(WARM_UP)], []
    for _ in range(STEPS[name]):
        started = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - started)
    report(seconds=seconds, losses=losses)


def timed(sides: list[str], name: str, rounds: int) -> Runs:
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "weights.npz"))
        in_turns({"weights": [__file__, "--work", "weights", name, weights]}, 1)
        return in_turns({side: [__file__, "--work", side, name, weights] for side in sides}, rounds)


def all_seconds(runs: Runs) -> dict[str, list[float]]:
    return {side: [s for run in given for s in run["seconds"]] for side, given in runs.items()}


def disagreement(runs: Runs) -> float:
    """The largest relative difference between our losses of the first two steps and a peer's."""
    wanted = np.array(runs[OURS][0]["losses"][:2])
    given = [np.array(run["losses"][:2]) for side in runs.values() for run in side]
    return max(float(np.max(np.abs(losses / wanted - 1))) for losses in given)


def versus(seconds: dict[str, list[float]]) -> list[str]:
    """Cells: our time, then each peer's and the ratio."""
    ours = seconds[OURS]
    peers = [times for side, times in seconds.items() if side != OURS]
    return [milliseconds(ours), *[cell for times in peers for cell in (milliseconds(times), ratio(ours, times))]]


def against_limit(name: str, runs: Runs) -> list[str]:
    """Cells: what a step computes, the fastest it could be and the share of that reached, and peak memory."""
    shape, best = SHAPES[name], min(all_seconds(runs)[OURS])
    found = limit(name)
    peaks = [statistics.median(run["peak"] or math.nan for run in given) / 1e6 for given in runs.values()]
    return [
        name,
        f"{shape.flops / 1e9:,.1f}",
        f"{shape.flops / best / 1e9:.0f}",
        ", ".join(f"{library} {rate / 1e9:.0f}" for library, rate in found.rates.items()),
        f"{found.bandwidth / 1e9:.0f}",
        f"{found.seconds * 1e3:,.1f}",
        f"{found.seconds / best:.0%}",
        *[f"{peak:,.0f}" for peak in peaks],
        *[f"{peaks[0] / peak:.2f}" for peak in peaks[1:]],
    ]


def titles(sides: list[str]) -> list[str]:
    return ["shape", f"{OURS}, ms", *[title for peer in sides[1:] for title in (f"{peer}, ms", f"{peer} / {OURS}")]]


def steps(names: list[str], sides: list[str], rounds: int) -> dict[str, Runs]:
    """Print the tables of a step, and stop if the losses differ."""
    runs = {name: timed(sides, name, rounds) for name in names}
    print("\nA training step, minimum / median\n")
    print(table(titles(sides), [[name, *versus(all_seconds(runs[name]))] for name in names]))
    for name in names:
        differ = disagreement(runs[name])
        if not differ <= AGREEMENT:
            raise SystemExit(f"{name}: the losses of the first two steps differ by {differ:.1e} of their size")
        if len(sides) > 1:
            print(f"\n{name}: the losses of the first two steps differ by at most {differ:.0e} of their size.")
    print("\nThe same against the limit, and the most memory each process held\n")
    peaks = [f"{side}, MB" for side in sides] + [f"{OURS} / {peer}" for peer in sides[1:]]
    head = ["shape", "GFLOP", "GFLOP/s", "best product, GFLOP/s", "memory, GB/s", "limit, ms", "reached", *peaks]
    print(table(head, [against_limit(name, runs[name]) for name in names]))
    return runs


def with_a_busy_core(quiet: dict[str, Runs], sides: list[str]) -> None:
    """Print the table of the same steps beside another process."""
    with busy_core():
        slowed = {name: all_seconds(timed(sides, name, 1)) for name in quiet}
    rows = []
    for name, seconds in slowed.items():
        before = all_seconds(quiet[name])
        slower = [f"{statistics.median(times) / statistics.median(before[side]):.2f}" for side, times in seconds.items()]
        rows.append([name, *versus(seconds), *slower])
    print("\nWith another process on one core, and the medians as multiples of those above\n")
    print(table([*titles(sides), *[f"{side} slower by" for side in sides]], rows))


def whole_command(data: str, peers: bool) -> str:
    """Wall time of a training from the command line, imports, evaluations and saved files included."""
    rows, walls = [], []
    with tempfile.TemporaryDirectory() as out:
        ours = ["-m", "minigpt", "train", "--data", data, "--out", out]
        theirs = [str(Path(__file__).with_name("torch_train.py")), "--data", data, "--out", out]
        for side, command in [(OURS, ours)] + [("torch", theirs)] * peers:
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            walls.append(time.perf_counter() - started)
            last = json.loads(Path(out, "metrics.jsonl").read_text().splitlines()[-1])
            rows.append([side, f"{walls[-1]:.1f}", f"{walls[-1] / walls[0]:.2f}", str(last["step"]), f"{last['val_loss']:.3f}"])
    return table(["`minigpt train --data FILE`", "seconds", f"/ {OURS}", "steps", "validation loss"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape_names(SHAPES), default=["nano"], help="one or more of nano,baby,gpt2")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--busy", action="store_true", help="again while another process uses up one core")
    parser.add_argument("--data", metavar="FILE", help="time the whole training command on this text")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        side, name, weights = options.work
        return work(side, name, Path(weights))
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    print(machine())
    installed = importlib.util.find_spec("torch") is not None
    if not installed:
        print("\nPyTorch is not installed: no peers.")
    sides = [OURS] + ["torch"] * installed
    runs = steps(options.shape, sides + ["torch.compile"] * (installed and options.compile), options.rounds)
    if options.busy:
        with_a_busy_core(runs, sides)
    if options.data:
        print("\n" + whole_command(options.data, installed))


if __name__ == "__main__":
    main()
