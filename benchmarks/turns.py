"""Timing two programs that must not disturb each other: each in processes of its own, taking turns.

Two thread pools in one process fight for the cores, and a shared machine drifts; so A and B run one after the other, several
times over, and the minimum and the median of each are compared.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def machine() -> str:
    """One line about where the figures were taken."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, {platform.system()}"


def in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Run `python ARGS` for each name, `rounds` times in turn; each prints a JSON list of seconds, and these are joined."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            times[name] += json.loads(done.stdout.strip().splitlines()[-1])
    return times


def milliseconds(seconds: Sequence[float]) -> str:
    """minimum / median, in milliseconds."""
    return f"{min(seconds) * 1e3:,.1f} / {statistics.median(seconds) * 1e3:,.1f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times faster ours is, by minimum / by median."""
    return f"{min(theirs) / min(ours):.2f} / {statistics.median(theirs) / statistics.median(ours):.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
