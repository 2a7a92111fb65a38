"""Checkpoints: each a folder `step-00000250` with a complete set of files, and a manifest of their hashes.

A set appears under its name all at once or not at all, and is believed only if every file has the hash of the manifest.
What the files hold is not known here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from minigpt.errors import UserError
from minigpt.files import remove_folder, write_folder

FOLDER = "checkpoints"  # inside the output folder
MANIFEST = "manifest.json"
FORMAT = "minigpt checkpoint 1"
_NAME = re.compile(r"step-(\d{8,12})")
_LARGEST_MANIFEST = 1 << 20  # bytes


def publish(out: Path, step: int, contents: Iterable[tuple[str, bytes]]) -> Path:
    """Write the set of a step; the folder is returned once it has its name, is on the disk and has been read back."""
    path = out / FOLDER / name_of(step)
    write_folder(path, _with_manifest(contents))
    verify(path)
    return path


def verify(path: Path) -> None:
    """Raise UserError, one sentence, unless the set is complete and as it was written."""
    files = _read_manifest(path / MANIFEST)
    for name, expected in files.items():
        try:
            if (path / name).stat().st_size != expected["bytes"]:
                raise UserError(f"{path / name} has not the length that {MANIFEST} says")
            with open(path / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"cannot read {path / name}: {error.strerror or error}") from None
        if found != expected["sha256"]:
            raise UserError(f"{path / name} is damaged: it has not the hash that {MANIFEST} says")


def newest(out: Path) -> tuple[Path | None, list[str]]:
    """The newest set that can be believed, if there is one, and for each newer one why it cannot."""
    reasons: list[str] = []
    for path in reversed(steps(out)):
        try:
            verify(path)
            return path, reasons
        except UserError as error:
            reasons.append(str(error))
    return None, reasons


def steps(out: Path) -> list[Path]:
    """The sets of an output folder in the order of their steps."""
    folder = out / FOLDER
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def name_of(step: int) -> str:
    """The name of the set of a step."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in a set's name."""
    return int(path.name.partition("-")[2])


def rotate(out: Path, keep_last: int, best: int | None) -> None:
    """Remove all sets but the newest `keep_last` and that of the step `best`."""
    for path in steps(out)[:-keep_last]:
        if step_of(path) != best:
            remove_folder(path)


def _with_manifest(contents: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    files = {}
    for name, content in contents:
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        yield name, content
    yield MANIFEST, (json.dumps({"format": FORMAT, "files": files}, indent=2) + "\n").encode()


def _read_manifest(path: Path) -> dict[str, dict[str, object]]:
    try:
        with open(path, "rb") as file:
            manifest = json.loads(file.read(_LARGEST_MANIFEST))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of a {FORMAT!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files or not all(_is_entry(*item) for item in files.items()):
        raise UserError(f"{path} does not list files with their lengths and hashes")
    return files


def _is_entry(name: str, entry: object) -> bool:
    plain = bool(re.fullmatch(r"[\w-]+\.\w+", name))  # never a path
    return plain and isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
