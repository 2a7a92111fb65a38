"""Text from anywhere, in bounded pieces: files and folders of them, standard input, JSON lines, gzip or not.

A text is read as a stream of pieces of at most a few hundred thousand characters, so its length does not matter. A document is
what belongs together: a whole file, or one line of a `.jsonl` file; END stands after each but the last.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from minigpt.errors import UserError

PIECE = 1 << 18  # bytes read at once
LONGEST_LINE = 1 << 28  # bytes of one JSON line
CHOICE = "; name the key with --field"
END = None  # between two documents


@dataclass(frozen=True)
class Source:
    """Files to read in this order; `field` is the key of the text in JSON lines, `hint` is said if there is none."""

    name: str
    files: tuple[Path, ...]
    field: str = "text"
    hint: str = CHOICE

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes of all files and of how they are read."""
        total = hashlib.sha256(self.field.encode())
        for file in self.files:
            content = hashlib.sha256()
            with _opened(file, plain=True) as stream:
                while block := stream.read(PIECE):
                    content.update(block)
            total.update(f"{_is_lines(file)}".encode() + content.digest())
        return total.hexdigest()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def one_document(self) -> bool:
        return len(self.files) == 1 and not _is_lines(self.files[0])

    def pieces(self) -> Iterator[str | None]:
        """The text in pieces, END between documents; a byte-order mark is dropped, line ends and NUL stay.

        UserError if a file is unreadable, not UTF-8, no JSON lines or no gzip.
        """
        first = True
        for file in self.files:
            with _opened(file) as stream:
                for document in _documents(stream, file, self):
                    if not first:
                        yield END
                    first = False
                    yield from document


def open_source(data: str, field: str = "text", hint: str = CHOICE) -> Source:
    """The file, the files under a folder in the order of their paths (no name beginning with a dot), or "-", standard input.

    UserError if there is nothing to read.
    """
    if data == "-":
        return Source("standard input", (_spooled(sys.stdin.buffer),), field, hint)
    path = Path(data)
    if not path.is_dir():
        return Source(data, (path,), field, hint)
    try:
        inside = sorted(p for p in path.rglob("*") if p.is_file())
    except OSError as error:
        raise UserError(f"cannot read the folder {path}: {error.strerror or error}: {error.filename}") from None
    files = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not files:
        raise UserError(f"the folder {path} has no files to read")
    return Source(data, tuple(files), field, hint)


def _spooled(stream: IO[bytes]) -> Path:
    """Standard input is read more than once, so it is kept in a temporary file for as long as the program runs."""
    kept = tempfile.NamedTemporaryFile(prefix="minigpt-stdin-")
    while block := stream.read(PIECE):
        kept.write(block)
    kept.flush()
    _spool.append(kept)
    return Path(kept.name)


_spool: list[IO[bytes]] = []  # deleted when the program ends


def _is_lines(file: Path) -> bool:
    return file.name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def _opened(file: Path, plain: bool = False) -> IO[bytes]:
    try:
        return open(file, "rb") if plain or file.suffix != ".gz" else gzip.open(file, "rb")  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"cannot read the data file {file}: {error.strerror or error}") from None


def _documents(stream: IO[bytes], file: Path, source: Source) -> Iterator[Iterator[str]]:
    return _json_documents(stream, file, source) if _is_lines(file) else iter([_decoded(stream, file)])


def _decoded(stream: IO[bytes], file: Path) -> Iterator[str]:
    """The UTF-8 text of a file; UserError at the first byte that is none, with its offset in the (unpacked) file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, first = 0, b""
    while True:
        block = _read(file, stream.read, PIECE)
        pending = len(decoder.getstate()[0])
        first = first or block[:2]
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            hint = "it looks like UTF-16; " if first in (b"\xff\xfe", b"\xfe\xff") else ""
            at = offset - pending + error.start
            raise UserError(
                f"{file} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {at} ({hint}convert it first)"
            ) from None
        if offset == 0:
            text = text.removeprefix("\ufeff")
        if text:
            yield text
        if not block:
            return
        offset += len(block)


def _json_documents(stream: IO[bytes], file: Path, source: Source) -> Iterator[Iterator[str]]:
    number = 0
    while line := _read(file, stream.readline, LONGEST_LINE):
        number += 1
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number} is not JSON: {error}") from None
        text = entry.get(source.field) if isinstance(entry, dict) else None
        if not isinstance(text, str):
            found = f"keys {', '.join(map(repr, entry))}" if isinstance(entry, dict) else f"a {type(entry).__name__}"
            raise UserError(f"{file}, line {number} has no text under {source.field!r} (it has {found}){source.hint}")
        yield iter([text])


def _read(file: Path, read: Callable[[int], bytes], most: int) -> bytes:
    try:
        return read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read the data file {file}: {error}") from None
