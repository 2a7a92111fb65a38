"""Files and folders that are either whole or not there."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")


def write_whole(path: Path, content: bytes | str) -> None:
    """Write to a temporary name in the same folder, flush to disk, then rename: a reader never sees half a file."""
    temporary = temporary_name(path)
    try:
        _write(temporary, content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder(path: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write all files into a temporary folder, flush each and the folder to disk, then rename it: one atomic step.

    A folder that already has that name is removed.
    """
    temporary = temporary_name(path)
    try:
        temporary.mkdir(parents=True)
        for name, content in contents:
            _write(temporary / name, content)
        _flush_folder(temporary)
        if path.exists():
            remove_folder(path)
        os.rename(temporary, path)
        _flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder, which loses its name first: no half of it is ever found there."""
    temporary = temporary_name(path)
    os.rename(path, temporary)
    shutil.rmtree(temporary)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def remove_temporaries(folder: Path) -> None:
    """Remove what processes that died left half-written in a folder, which nobody may be writing to now."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder last through a loss of power, where the system can (POSIX)."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
