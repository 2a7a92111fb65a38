"""The output folder of a run: which one, that nobody else writes to it, and that what is saved will fit."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from minigpt import checkpoint, snapshots
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.files import remove_temporaries
from minigpt.lock import locked
from tensorgrad.nn import Module

DEFAULT = TrainConfig().out


def choose(name: str) -> Path:
    """The folder for a new run, which must not hold a model: UserError, or the default name with the next free number."""
    out = Path(name)
    number = 1
    while _is_taken(out):
        if name != DEFAULT:
            raise UserError(
                f"{out} holds a model already; --resume {out} goes on with its training, another --out leaves it as it is"
            )
        number += 1
        out = Path(f"{name}-{number}")
    return out


@contextlib.contextmanager
def opened(out: Path, resume: bool) -> Iterator[None]:
    """Make the folder if need be, lock it for the block, and clear away what died half-written.

    UserError if it cannot be written to, if another training has it, or if a new run found a model in it after all.
    """
    with contextlib.ExitStack() as stack:
        if not out.exists():
            stack.callback(_remove_if_empty, out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out))
        except OSError as error:
            raise UserError(f"cannot write to the folder {out}: {error.strerror or error}") from None
        for folder in (out, out / snapshots.FOLDER):
            remove_temporaries(folder)
        if not resume and _is_taken(out):
            raise UserError(f"another training has finished in {out} in the meantime; choose another --out")
        yield


def check_space(out: Path, model: Module, keep_last: int) -> list[str]:
    """UserError if not even one checkpoint fits on the disk, a warning if not all that are to be kept do."""
    weights = 4 * sum(p.size for p in model.parameters())
    one = 3 * weights + (1 << 20)  # weights and two moments, and the rest
    held = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    free = shutil.disk_usage(out).free
    if free < one + weights:
        raise UserError(
            f"a checkpoint takes {one / 1e6:,.0f} MB and the model beside it {weights / 1e6:,.0f} MB, but the disk of {out} "
            f"has {free / 1e6:,.0f} MB free"
        )
    needed = (keep_last + 2) * one + weights - held  # the best, and the one that is being written, come on top
    if free < needed:
        return [f"warning: {keep_last} checkpoints and the best will take {needed / 1e6:,.0f} MB; {free / 1e6:,.0f} MB are free"]
    return []


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_taken(out: Path) -> bool:
    return (out / checkpoint.WEIGHTS).exists() or bool(snapshots.steps(out))
