"""Timing programs that must not disturb each other: each in processes of its own, taking turns.

Two thread pools in one process fight for the cores, and a shared machine drifts; so A and B run one after the other, several
times over, and the minimum and the median of each are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def machine() -> str:
    """One line about where, with what and when the figures were taken."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    versions = [f"{os.cpu_count()} cores of {model}", platform.system(), f"Python {platform.python_version()}"]
    for package, name in (("numpy", "NumPy"), ("numba", "Numba"), ("torch", "PyTorch")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(package)}")
    return ", ".join([*versions, datetime.date.today().isoformat()])


def in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run `python ARGS` for each name, `rounds` times in turn; what each has to `report`, run by run."""
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            reports[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    return reports


def report(**values: Any) -> None:
    """Hand values to the process that started this one with `in_turns`, and the most memory held, in bytes."""
    print(json.dumps(values | {"peak": peak_memory()}))


def peak_memory() -> int | None:
    """The most memory this process has held, in bytes, where the system tells."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process uses up one core meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def shape_names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A converter for argparse: "a,b" to ["a", "b"]."""

    def convert(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected some of {', '.join(known)}")
        return names

    return convert


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
