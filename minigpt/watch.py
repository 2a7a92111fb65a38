"""`minigpt watch`: a run as it goes on, in the terminal of whoever wants to see it; one look where there is no terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minigpt import facts as run_facts
from minigpt import lock, metrics
from minigpt.errors import UserError

BARS = " ▁▂▃▄▅▆▇█"
Record = dict[str, Any]


def watch(folder: Path, console: Console, wait: Callable[[float], object] = time.sleep) -> None:
    """Show the run until it ends or the user has seen enough; UserError if the folder holds no run."""
    facts = run_facts.read(folder)
    if not console.is_terminal:
        console.print(view(records(folder), facts, running(folder), console.width))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            going_on = running(folder)
            live.update(view(records(folder), facts, going_on, console.width), refresh=True)
            if not going_on:
                return
            wait(1.0)


def running(folder: Path) -> bool:
    """Whether a trainer has the folder."""
    if not (folder / lock.NAME).exists():
        return False
    try:
        with lock.locked(folder):
            return False
    except UserError:
        return True


def records(folder: Path) -> list[Record]:
    """The lines of the log that are whole."""
    try:
        lines = (folder / metrics.NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
            found.append(record | {"step": int(record["step"]), "seconds": float(record["seconds"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def view(seen: Sequence[Record], facts: dict[str, Any], going_on: bool, width: int) -> Group:
    """The newest figures, and the losses so far as rows of bars."""
    if not seen:
        return Group(Text(f"{facts['name']}: no step is logged yet"))
    last, steps = seen[-1], facts["max_steps"]
    evaluated = [r for r in seen if r.get("val_loss") is not None]
    left = last["seconds"] / max(last["step"], 1) * (steps - last["step"])
    state = f"about {left / 60:.1f} minutes left" if going_on else "finished" if last["step"] >= steps else "stopped"
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("step", f"{last['step']:,} of {steps:,}, {state}"),
        ("training loss", _shown(last.get("loss"))),
        ("validation loss", f"{_shown(evaluated[-1]['val_loss'])} at step {evaluated[-1]['step']:,}" if evaluated else "not yet"),
        ("learning rate", f"{last['lr']:.2e}"),
        ("gradient norm", _shown(last.get("grad_norm"))),
        ("tokens a second", f"{last['tokens_per_second']:,.0f}"),
    ):
        table.add_row(Text(name, style="dim"), value)
    room = max(10, min(width - 14, 100))
    parts: list[Any] = [
        Text(facts["name"], style="bold"),
        _row(ProgressBar(total=steps, completed=last["step"], width=room + 12)),
        table,
        Text.assemble(("training    ", "dim"), bars([r.get("loss") for r in seen], room)),
        Text.assemble(("validation  ", "dim"), bars([r["val_loss"] for r in evaluated], room)),
    ]
    notes = [f"step {r['step']}: {r['note']}" for r in seen if r.get("note")][-3:]
    samples = [r["sample"] for r in seen if r.get("sample")][-1:]
    return Group(*parts, *map(Text, notes), *(Text(f"\n{sample}", style="italic") for sample in samples))


def _row(renderable: Any) -> Table:
    grid = Table.grid()
    grid.add_row(renderable)
    return grid


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def bars(values: Sequence[float | None], room: int) -> str:
    """A row of at most `room` blocks, each as high as the mean of the values it stands for; "!" for one that is not finite."""
    if not values:
        return ""
    size = -(-len(values) // room)
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    means = [math.nan if None in group else sum(group) / len(group) for group in groups]  # type: ignore[arg-type]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BARS) - 2) / (high - low) if high > low else 0.0
    return "".join(BARS[1 + round((mean - low) * scale)] if math.isfinite(mean) else "!" for mean in means)
