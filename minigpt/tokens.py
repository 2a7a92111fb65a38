"""A text as token ids in a memory-mapped file, made once and found again by the hash of the text.

The text is read as a stream, three times at most: for its hash, for its length and alphabet, and to encode it. Memory
does not grow with it, except by what the BPE trainer keeps of its different words.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import Progress

from minigpt.errors import UserError
from minigpt.lock import locked
from minigpt.sources import END
from minigpt.tokenizer import Tokenizer
from minigpt.tokenizer_file import load_tokenizer
from minigpt.vocabularies import Vocabulary, learn

VERSION = 2  # of the files' layout
PLAIN_LINES = 20 << 20  # characters from which the work is announced where there is no terminal
YOUNG = 60.0  # seconds within which whoever made a folder to work in has locked it
_WORK = re.compile(r"\.[0-9a-f]{32}\.\w+")
_JOINT = re.compile(r"\S(?=[ \n])")  # no token of the BPE crosses it


class Text(Protocol):
    """What can be tokenized: a Source, or anything like it."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def one_document(self) -> bool: ...
    def pieces(self) -> Iterator[str | None]: ...


@dataclass(frozen=True)
class Tokens:
    """Token ids, (n,) of the smallest unsigned type that holds the vocabulary, the first `cut` of them to train on."""

    tokenizer: Tokenizer
    ids: np.ndarray
    cut: int
    characters: int
    validation_characters: int


def tokenize(text: Text, vocabulary: Vocabulary) -> Tokens:
    """The first nine tenths of the characters to train on, the rest to validate on; found in the cache or put there.

    Documents are separated by the token that ends a text. A vocabulary is learned from the training part alone.
    """
    size = "" if vocabulary.kind in ("char", "bytes") else vocabulary.size
    about = f"{VERSION} {text.digest} {vocabulary.kind} {size} {vocabulary.model} {vocabulary.lowercase}"
    folder = cache_folder() / hashlib.sha256(about.encode()).hexdigest()[:32]
    return _read(folder) or _made(folder, text, vocabulary)


def _made(folder: Path, text: Text, vocabulary: Vocabulary) -> Tokens:
    """Tokenize into `folder`, which appears whole; one that is damaged is replaced."""
    _clear(folder.parent)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with locked(work):
            _write(work, text, vocabulary)
        if (made := _read(folder)) is None:  # else another process has just done the same
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
            made = _read(folder)
    except OSError as error:
        raise UserError(f"cannot keep the tokens of {text.name} in {folder.parent}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert made is not None
    return made


def _clear(place: Path) -> None:
    """Remove what processes that died while they tokenized have left, which may be large."""
    for work in place.glob(".*"):
        with contextlib.suppress(OSError, UserError):
            if _WORK.fullmatch(work.name) and time.time() - work.stat().st_mtime > YOUNG:
                with locked(work):
                    shutil.rmtree(work)


def cache_folder() -> Path:
    """Where token files are kept: $MINIGPT_CACHE, else the user's cache folder, else one for temporary files."""
    chosen = os.environ.get("MINIGPT_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "minigpt"
    temporary = Path(tempfile.gettempdir()) / f"minigpt-{getattr(os, 'getuid', str)()}"
    for place in [Path(chosen)] if chosen else [user, temporary]:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
            return place
        except OSError as error:
            problem = f"{place}: {error.strerror or error}"
    raise UserError(f"no folder can be written to keep tokens in ({problem}); name one in the environment variable MINIGPT_CACHE")


def id_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned integer type whose values include every id."""
    return np.min_scalar_type(max(vocab_size - 1, 0))


def _write(work: Path, text: Text, vocabulary: Vocabulary) -> None:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        characters, alphabet = _measure(text, progress)
        cut = characters * 9 // 10
        tokenizer = learn(vocabulary, _part(text, cut, 0), alphabet, not text.one_document)
        dtype = id_type(tokenizer.vocab_size)
        if characters >= PLAIN_LINES and progress.disable:
            print(f"tokenizing {text.name}: {characters:,} characters, once", flush=True)
        bar = progress.add_task("tokenizing", total=characters)
        counts, digest = [0, 0], hashlib.sha256()
        with open(work / "ids", "wb") as file:
            for part, piece in encodable(text.pieces(), cut):
                ids = _encoded(tokenizer, piece).astype(dtype)
                counts[part] += len(ids)
                digest.update(ids.data)
                file.write(ids.data)
                progress.advance(bar, len(piece or ""))
            file.flush()
            os.fsync(file.fileno())
    (work / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    about = {"dtype": dtype.name, "counts": counts, "characters": characters, "sha256": digest.hexdigest()}
    (work / "about.json").write_text(json.dumps(about | {"name": text.name}), encoding="utf-8")


def _measure(text: Text, progress: Progress) -> tuple[int, set[str]]:
    """The number of characters, and which they are; UserError if there are none but white space."""
    bar = progress.add_task("reading", total=None)
    characters, blank, alphabet = 0, True, set[str]()
    for piece in text.pieces():
        if piece is not END:
            characters += len(piece)
            alphabet.update(piece)
            blank = blank and not piece.strip()
            progress.update(bar, description=f"reading {characters:,} characters")
    progress.remove_task(bar)
    if blank:
        raise UserError(f"{text.name} has nothing but white space" if characters else f"{text.name} is empty")
    return characters, alphabet


def _part(text: Text, cut: int, part: int) -> Iterator[str]:
    return (piece for which, piece in encodable(text.pieces(), cut) if which == part and piece is not END)


def _encoded(tokenizer: Tokenizer, piece: str | None) -> np.ndarray:
    return np.array([tokenizer.end_of_text]) if piece is END else tokenizer.encode(piece)


def encodable(pieces: Iterator[str | None], cut: int) -> Iterator[tuple[int, str | None]]:
    """(0, piece) before the character `cut`, (1, piece) after it, of pieces that no token reaches across.

    A text without spaces or line ends is kept whole.
    """
    held, part, position = "", 0, 0
    for piece in pieces:
        if piece is END:
            if held:
                yield part, held
            held = ""
            yield part, END
            continue
        if part == 0 and position + len(piece) > cut:
            if held or position < cut:
                yield 0, held + piece[: cut - position]
            held, part, position, piece = "", 1, cut, piece[cut - position :]
        held, position = held + piece, position + len(piece)
        joint = max((m.end() for m in _JOINT.finditer(held, max(0, len(held) - 4096))), default=0)
        if joint:
            yield part, held[:joint]
            held = held[joint:]
    if held:
        yield part, held


def _read(folder: Path) -> Tokens | None:
    """A token file of the cache, or None if it is not there or damaged; no id outside the vocabulary gets past this."""
    try:
        about: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        ids = np.asarray(np.memmap(folder / "ids", dtype=about["dtype"], mode="r"))
        train, validation = about["counts"]
        vocabulary = tokenizer.vocab_size
        sound = len(ids) == train + validation and ids.dtype == id_type(vocabulary)
        sound = sound and _inside(folder / "ids", ids.dtype, vocabulary)
        characters = int(about["characters"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    if not sound:
        return None
    return Tokens(tokenizer, ids, train, characters, characters - characters * 9 // 10)


def _inside(file: Path, dtype: np.dtype, vocab_size: int) -> bool:
    """Whether every id is in the vocabulary; read in blocks, so that the map itself stays unread."""
    with open(file, "rb") as stream:
        blocks = iter(lambda: stream.read(1 << 22), b"")
        return all(int(np.frombuffer(block, dtype).max()) < vocab_size for block in blocks)
