"""A training step (forward, backward, clip, AdamW) of GPT-2 shapes against the same model in PyTorch, and the time to start.

    python benchmarks/train.py [--shapes nano baby gpt2] [--steps 30] [--rounds 3] [--no-start]

Both sides have the same weights and batches; each runs in its own process, in turn.  PyTorch is optional.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from turns import in_turns, machine, milliseconds, ratio, table

SHAPES = {
    "nano": dict(layers=4, heads=4, width=128, context=64, batch=12, vocab=65),
    "baby": dict(layers=6, heads=6, width=384, context=256, batch=16, vocab=65),
    "gpt2": dict(layers=12, heads=12, width=768, context=64, batch=4, vocab=50304),
}


def flops(layers: int, heads: int, width: int, context: int, batch: int, vocab: int) -> float:
    """Matrix-product operations of forward and backward: 6 per weight and token, and 12 T C per layer and token of attention."""
    tokens = batch * context
    weights = layers * 12 * width * width + vocab * width
    return tokens * (6.0 * weights + layers * 12 * context * width)


def batch_of(shape: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    size = (shape["batch"], shape["context"])
    return rng.integers(0, shape["vocab"], size), rng.integers(0, shape["vocab"], size)


def our_step(shape: dict[str, int]) -> Callable[[], float]:
    import tensorgrad as tg
    from minigpt.models.gpt import GPT, GPTConfig

    config = GPTConfig(shape["vocab"], shape["context"], shape["layers"], shape["heads"], shape["width"])
    model = GPT(config, np.random.default_rng(0))
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))
    ids, targets = batch_of(shape)

    def step() -> float:
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        tg.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def torch_step(shape: dict[str, int], compiled: bool) -> Callable[[], float]:
    import torch
    from torch_gpt import TorchGPT

    from minigpt.models.gpt import GPT, GPTConfig

    config = GPTConfig(shape["vocab"], shape["context"], shape["layers"], shape["heads"], shape["width"])
    weights = GPT(config, np.random.default_rng(0)).state_dict()
    model = TorchGPT(shape["vocab"], shape["context"], shape["layers"], shape["heads"], shape["width"], flash=True)
    model.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    ids, targets = (torch.from_numpy(a) for a in batch_of(shape))
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


STEPS = {"tensorgrad": our_step, "torch": lambda s: torch_step(s, False), "torch.compile": lambda s: torch_step(s, True)}


def work(side: str, shape: str, count: int) -> None:
    """One process's part: three steps to warm up, then the seconds of `count` more; the loss goes to standard error."""
    step = STEPS[side](SHAPES[shape])
    losses = [step() for _ in range(3)]
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - started)
    print(f"{side} {shape}: loss {losses[0]:.6f} -> {losses[-1]:.6f}", file=sys.stderr)
    print(json.dumps(seconds))


def seconds_to_first_step(cache: str) -> float:
    """Wall time from typing `minigpt train` to the report of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minigpt", "train", "--max-steps", "1", "--out", folder]
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "NUMBA_CACHE_DIR": cache}
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 1/"):
                    took = time.perf_counter() - started
                    process.kill()
                    return took
    raise SystemExit("minigpt train reported no first step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["nano"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--no-start", action="store_true", help="leave out the time to the first step")
    parser.add_argument("--work", nargs=2, metavar=("SIDE", "SHAPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(*options.work, options.steps)
    print(machine())
    peers = ["torch"] + ["torch.compile"] * options.compile if importlib.util.find_spec("torch") else []
    rows = []
    for shape in options.shapes:
        commands = {side: [__file__, "--work", side, shape, "--steps", str(options.steps)] for side in ["tensorgrad", *peers]}
        times = in_turns(commands, options.rounds)
        ours = times["tensorgrad"]
        rate = flops(**SHAPES[shape]) / min(ours) / 1e9
        cells = [cell for peer in peers for cell in (milliseconds(times[peer]), ratio(ours, times[peer]))]
        rows.append([shape, milliseconds(ours), f"{rate:.0f}", *cells])
    titles = [title for peer in peers for title in (f"{peer}, ms", f"{peer} / tensorgrad")]
    print("\nA training step (minimum / median)\n")
    print(table(["shape", "tensorgrad, ms", "GFLOP/s", *titles], rows))
    if not options.no_start:
        with tempfile.TemporaryDirectory() as cache:
            os.chmod(cache, 0o700)
            cold, warm = seconds_to_first_step(cache), seconds_to_first_step(cache)
        print("\nFrom `minigpt train` to the first step\n")
        print(table(["kernel cache", "seconds"], [["empty", f"{cold:.1f}"], ["warm", f"{warm:.1f}"]]))


if __name__ == "__main__":
    main()
