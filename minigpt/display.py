"""What a training run shows while it runs and when it ends: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text


class Output(Console):
    """Standard output, where names and texts are shown as they are, with no markup, and where a reader who has left is a
    BrokenPipeError; rich by itself would exit with code 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        raise BrokenPipeError


class Display:
    """Shows each step; use as a context manager."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self.console = console or Output(soft_wrap=True)
        self.steps = steps
        self.validation = math.nan
        self._started: float | None = None
        self._first = 0  # a resumed run does not begin at step 1
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=steps, numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(Text(line))

    def compiling(self, name: str, i: int, n: int) -> None:
        """What the first run on a machine waits for: i of n."""
        self._bar.update(self._task, description=f"compiling {name} ({i} of {n}), this once")
        if self._bar.disable:
            self.say(f"compiling {name} ({i} of {n}) ...")

    def step(self, record: Mapping[str, Any]) -> None:
        """Move the bar to one finished step; what was unusual or evaluated is a line. BrokenPipeError if nobody reads it."""
        now = time.perf_counter()
        self._started = self._started or now
        done = record["step"]
        self._first = self._first or done
        if "note" in record:
            self.say(f"step {done}: {record['note']}")
        left = (now - self._started) / max(done - self._first, 1) * (self.steps - done)
        if record["val_loss"] is not None:
            self.validation = record["val_loss"]
            self.say(_line(record, self.steps))
        validation = "" if math.isnan(self.validation) else f"  val {self.validation:.3f}"
        numbers = f"loss {record['loss']:.3f}{validation}  {record['tokens_per_second']:,.0f} tok/s  {_clock(left)} left"
        self._bar.update(self._task, completed=done, description="training", numbers=numbers)


def _line(record: Mapping[str, Any], steps: int) -> str:
    return (
        f"step {record['step']:>{len(str(steps))}}/{steps}  loss {record['loss']:.4f}  val {record['val_loss']:.4f}  "
        f"lr {record['lr']:.2e}  {record['tokens_per_second']:,.0f} tok/s  {_clock(record['seconds'])}"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(losses: Mapping[str, float], tokens_per_character: float | None) -> Table:
    """Losses in nats per token, as a table with perplexity and, if they can be known, bits per character; the best first."""
    table = Table(title="Validation", title_justify="left")
    for heading in ("model", "nats per token", "perplexity", "bits per character")[: 3 if tokens_per_character is None else 4]:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, loss in sorted(losses.items(), key=lambda item: item[1]):
        bits = [] if tokens_per_character is None else [f"{loss * tokens_per_character / math.log(2):.3f}"]
        perplexity = f"{math.exp(loss):,.2f}" if loss < 700 else "inf"
        table.add_row(name, f"{loss:.4f}", perplexity, *bits, style="bold" if name == "this model" else None)
    return table


def next_command(model: str, folder: str, text: str) -> str:
    """What to type after training a gpt, bert or t5; `text` is a word that it knows, or one with a gap."""
    match model:
        case "bert":
            return f"minigpt fill-mask {shlex.quote(folder)} {shlex.quote(text)}"
        case "t5":
            return f"minigpt finetune {shlex.quote(folder)} --task seq2seq --data FILE"
        case _:
            return f"minigpt generate {shlex.quote(folder)} --prompt {shlex.quote(text)}"
