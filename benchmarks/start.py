"""The time to start: imports, help, the first training step with and without compiled kernels, the warm-up, a crowd.

    python benchmarks/start.py [--rounds 5] [--data FILE] [--only-warm]

Every figure is of fresh processes, from typing the command; of an import, that of the statement alone.  --data is a text for a
second line of `minigpt train`; without it Python's manual is written to a file and read from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import in_turns, machine, table

from minigpt.manual import embedded_text

IMPORTS = ("numpy", "numba", "torch", "tensorgrad")
LOSS = "import numpy as np, tensorgrad as tg; x = tg.tensor(np.arange(6e5).reshape(-1, 64) % 7 / 7, requires_grad=True); {}; {}"
CROWD = LOSS.format("tg.gelu(tg.layer_norm(x)).sum().backward()", "print(x.grad.data.tobytes()[-16:].hex())")


def seconds_of(command: list[str], cache: str, until: str = "") -> float:
    """From typing `python COMMAND` to its end, or to the first line that begins with `until`."""
    started = time.perf_counter()
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if until and line.startswith(until):
                took = time.perf_counter() - started
                process.kill()
                return took
    if until or process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{''.join(lines)}")
    return time.perf_counter() - started


def first_step(cache: str, *options: str) -> float:
    """Until the report of one step, with an evaluation on ten batches and the saved model in it."""
    with tempfile.TemporaryDirectory() as out:
        command = ["-m", "minigpt", "train", "--max-steps", "1", "--eval-batches", "1", "--out", out, *options]
        return seconds_of(command, cache, until="step 1/")


def crowd(cache: str, count: int = 8) -> float:
    """Until the last of `count` processes that start at once has the gradient, the same in all."""
    started = time.perf_counter()
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    running = [
        subprocess.Popen([sys.executable, "-c", CROWD], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)
    ]
    results = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running) or len(set(results)) > 1:
        raise SystemExit(f"processes that started together disagree or failed: {results}")
    return time.perf_counter() - started


def imports(rounds: int) -> list[list[str]]:
    code = "import time; t = time.perf_counter(); import {}; print('{{\"seconds\":', time.perf_counter() - t, '}}')"
    commands = {f"`import {name}`": ["-c", code.format(name)] for name in IMPORTS if importlib.util.find_spec(name)}
    targets = {"`import tensorgrad`": "0.35"}
    runs = in_turns(commands, rounds)
    return [[name, shown([run["seconds"] for run in runs[name]]), targets.get(name, "")] for name in runs]


def shown(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{ordered[0]:.2f} / {ordered[len(ordered) // 2]:.2f}" if len(ordered) > 1 else f"{ordered[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", metavar="FILE", help="text for the second training line")
    parser.add_argument("--only-warm", action="store_true", help="leave out what compiles: a minute or two")
    options = parser.parse_args()
    print(machine())
    rows = imports(options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or str(Path(folder, "text.txt"))
        if not options.data:
            Path(data).write_text(embedded_text(), encoding="utf-8")
        caches = iter([str(Path(folder, name)) for name in "abc"])
        cache = next(caches)
        cold = first_step(cache)
        rounds = range(options.rounds)
        rows.append(["`minigpt --help`", shown([seconds_of(["-m", "minigpt", "--help"], cache) for _ in rounds]), ""])
        rows.append(["`minigpt train` to its first step, warm", shown([first_step(cache) for _ in rounds]), "1.5"])
        rows.append(["the same with `--data FILE`", shown([first_step(cache, "--data", data) for _ in rounds]), "1.5"])
        rows.append(["the same, empty cache", shown([cold]), "25"])
        if not options.only_warm:
            rows.append(["8 processes at once, empty cache", shown([crowd(next(caches))]), ""])
            rows.append(["`tensorgrad warmup`, empty cache", shown([seconds_of(["-m", "tensorgrad.warmup"], next(caches))]), ""])
    print("\nSeconds to start (minimum / median)\n")
    print(table(["what", "seconds", "target"], rows))


if __name__ == "__main__":
    main()
