"""One trainer to a folder: a lock that the operating system takes back when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from minigpt.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed there, which serves as the lock
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for the length of the block; UserError that names the process that has it already."""
    path = folder / NAME
    file = _acquire(path)
    try:
        os.truncate(file, 0)
        os.write(file, json.dumps({"pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)


def _acquire(path: Path) -> int:
    """The lock file, opened and locked; again if its last holder removed it in the meantime."""
    while True:
        if fcntl is None:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                path.unlink()
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | (0 if fcntl else os.O_EXCL), 0o644)
        except FileExistsError:
            raise UserError(_taken(path)) from None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(file)
            raise UserError(_taken(path)) from None
        os.close(file)


def _taken(path: Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        who = f" (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = ""
    return f"another training is running in {path.parent}{who}; wait for it, stop it, or choose another --out"
