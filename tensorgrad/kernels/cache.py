"""Compiled kernels on disk: one file a kernel and signature, each compiled by one process while the others wait for it.

Numba's own cache looks only at the file a kernel is written in, and numbers its files in an index that two processes can
tear. Here a name holds a hash of everything that decides the machine code, the helpers' files included, and the content
begins with its own hash: a file that is damaged, or of another machine, is compiled again.
"""

import functools
import hashlib
import os
import pickle
import re
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

try:
    import fcntl
except ImportError:  # Windows: processes that start together each compile for themselves
    fcntl = None  # type: ignore[assignment]

config: Any = numba.config  # its names are made at run time
PATIENCE = 60.0  # seconds to wait for another process before compiling what it seems to compile


class DiskCache(NullCache):
    """What Numba asks for and gives compiled code to."""

    def __init__(self, function: Callable) -> None:
        file = Path(function.__code__.co_filename)
        self.name = f"{function.__module__}.{function.__qualname__}"
        named = "<" not in self.name  # a lambda or a closure is not determined by its name and its file
        self.sources = sources_digest(file) if named else None  # now: files may change while the program runs

    @property
    def cache_path(self) -> str | None:
        return str(directory()) if self.sources and directory() else None

    def _stem(self, signature: Any) -> str:
        """Names what is compiled, and for which machine."""
        return f"{self.name}-{build_digest(signature)}"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        if self.cache_path is None:
            return None
        stem = self._stem(signature)
        path = Path(self.cache_path, f"{stem}-{self.sources}.kernel")
        content = _read(path)
        if content is None:
            claim(stem)
            content = _read(path)  # another process may have written it while this one waited
            if content is not None:
                give_back(stem)
        return None if content is None else CompileResult._rebuild(target_context, *pickle.loads(content))

    def save_overload(self, signature: Any, result: Any) -> None:
        if self.cache_path is None:
            if self.sources:
                _warn_uncached()
            return
        stem = self._stem(signature)
        try:
            if not result.library.has_dynamic_globals:
                self._save(stem, dumps(result._reduce()))
        except OSError:  # the disk is full, or another process has the file open
            _warn_uncached()
        finally:
            give_back(stem)

    def _save(self, stem: str, payload: bytes) -> None:
        place = Path(str(self.cache_path))
        for old in place.glob(f"{stem}-*.kernel"):
            old.unlink(missing_ok=True)
        write(place / f"{stem}-{self.sources}.kernel", _digest(payload) + payload)


def write(path: Path, content: bytes) -> None:
    """Make a file that is never seen half-written."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _read(path: Path) -> bytes | None:
    """What was saved, if it is whole."""
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    return blob[32:] if blob[:32] == _digest(blob[32:]) else None


def build_digest(*more: Any) -> str:
    """Of what decides the machine code beside the sources."""
    codegen = cpu_target.target_context.codegen()
    switches = config.BOUNDSCHECK, config.OPT, config.DEBUGINFO_DEFAULT, config.USING_SVML
    build = (*more, codegen.magic_tuple(), numba.__version__, sys.version, os.environ.get("TENSORGRAD_LANES"), switches)
    return _digest(repr(build).encode()).hex()[:16]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@functools.cache
def _warn_uncached() -> None:
    warnings.warn(
        "compiled kernels cannot be kept on disk: every start compiles them again; set NUMBA_CACHE_DIR to a writable directory",
        RuntimeWarning,
        stacklevel=2,
    )


# Processes that start together share the work: who compiles a kernel holds a lock on one byte of a file that all have open.
# The system drops a lock with its process. Callers lock before what they call, so no two can wait for each other.


@functools.cache
def _claims() -> int | None:
    try:
        return os.open(Path(str(directory()), "claims"), os.O_RDWR | os.O_CREAT, 0o600) if fcntl else None
    except OSError:
        return None


def _byte(what: str) -> int:
    return int.from_bytes(_digest(what.encode())[:3], "big")


def claim(what: str, patience: float = PATIENCE) -> bool:
    """Wait while another process has claimed this; whether it is now this one's, which may ask again."""
    file, deadline = _claims(), time.monotonic() + patience
    while file is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(what))
            return True
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return False
    return False


def give_back(what: str) -> None:
    """Let another process claim it."""
    file = _claims()
    if file is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, _byte(what))
        except OSError:
            pass


@functools.cache
def _text(path: Path) -> bytes:
    return path.read_bytes()


@functools.cache
def _sources(path: Path) -> frozenset[Path]:
    """The files whose text decides what `path` compiles to: itself and, in turn, its imports in the same directory."""
    found = {path}
    for statement in re.findall(rb"^(?:from|import) [^(\n]*(?:\([^)]*\))?", _text(path), re.MULTILINE):
        for neighbour in {path.with_name(word + ".py") for word in re.findall(r"\w+", statement.decode())} - {path}:
            if neighbour.exists():
                found |= _sources(neighbour)
    return frozenset(found)


@functools.cache
def sources_digest(path: Path) -> str | None:
    """Of every file that a kernel written in `path` may be made of; None if they cannot be read."""
    try:
        return _digest(b"".join(map(_text, sorted(_sources(path))))).hex()[:16]
    except OSError:
        return None  # a notebook's cell, a zipped package


@functools.cache
def directory() -> Path | None:
    """Where compiled code is kept: the user's choice, else beside the sources, else a private directory, else nowhere.

    Files there are unpickled, so the directory must belong to this user and be closed to others.
    """
    if config.CACHE_DIR:
        places = [Path(config.CACHE_DIR)]
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        places = [
            Path(__file__).parent / "__pycache__",
            Path(user) / "tensorgrad",
            Path(tempfile.gettempdir()) / f"tensorgrad-{getattr(os, 'getuid', str)()}",
        ]
    return next(filter(_private, places), None)


def _private(path: Path) -> bool:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
        if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & stat.S_IWOTH):
            return False
        tempfile.TemporaryFile(dir=path).close()
        return path.is_dir()
    except OSError:
        return False
