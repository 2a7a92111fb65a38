"""Text to train on: the manual that every Python carries, or the user's files; split, tokenized, cut into windows."""

from __future__ import annotations

import inspect
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigpt import tokenizer as tokenizers
from minigpt.config import TrainConfig
from minigpt.errors import UserError

_PLAIN = str.maketrans({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'", 0x2013: "-", 0x2014: "-", 0x2026: "..."})
_DOCSTRING = re.compile(r"""(?:\A|:[ \t]*(?:#[^\n]*)?\n)(?:\s*#[^\n]*\n)*\s*[rR]?("{3}|'{3})(.*?)\1""", re.DOTALL)


@dataclass(frozen=True)
class Corpus:
    """A text, tokenized: the first nine tenths of its characters to train on, the rest to validate on."""

    name: str
    tokenizer: tokenizers.Tokenizer
    train: np.ndarray  # (n,) uint16 or uint32
    validation: np.ndarray
    validation_characters: int


def load_corpus(config: TrainConfig) -> Corpus:
    """Read, split and tokenize; a BPE vocabulary is learned from the training part alone.

    UserError if the text is unreadable or has too few tokens for one window of block_size + 1.
    """
    text, name = (embedded_text(), "Python's own manual") if config.data is None else read_text(Path(config.data))
    cut = len(text) * 9 // 10
    train_text, validation_text = text[:cut], text[cut:]
    if config.tokenizer == "char":
        tokenizer = tokenizers.char_tokenizer(text)
    elif config.tokenizer == "bytes":
        tokenizer = tokenizers.byte_tokenizer()
    else:
        tokenizer = tokenizers.bpe_tokenizer(train_text, config.vocab_size)
    dtype = np.uint16 if tokenizer.vocab_size <= 65536 else np.uint32
    train, validation = (tokenizer.encode(part).astype(dtype) for part in (train_text, validation_text))
    for part, tokens, least in (("first 90%", train, config.block_size + 1), ("last 10%", validation, 3)):
        if len(tokens) < least:
            raise UserError(
                f"{name} is too short: its {part} has {len(tokens)} tokens, and block_size {config.block_size} "
                f"needs at least {least} there"
            )
    return Corpus(name, tokenizer, train, validation, len(validation_text))


def embedded_text() -> str:
    """The language's manual and the docstrings of the standard library, in a fixed order, in ASCII."""
    pages = _manual()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        pages += _docstrings(path)
    text = "\n\n".join(dict.fromkeys(pages)).translate(_PLAIN).encode("ascii", "ignore").decode("ascii")
    if not text:
        raise UserError("this Python carries neither its manual nor the source of its library: give a text with --data")
    return text + "\n"


def _manual() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return []
    return [topics[name].strip() for name in sorted(topics)]


def _docstrings(path: Path) -> list[str]:
    """The texts in triple quotes that open a file or a block, as they are written: found twenty times faster than by parsing."""
    source = path.read_bytes().decode("utf-8", "ignore").replace("\r\n", "\n")
    return [text for _, body in _DOCSTRING.findall(source) if (text := inspect.cleandoc(body))]


def read_text(path: Path) -> tuple[str, str]:
    """The text and the name of a UTF-8 file, or of all files under a folder in the order of their paths.

    A byte-order mark is dropped; line ends and NUL stay as they are; files are joined by a newline; names that begin
    with a dot are passed over. UserError if there is nothing to read, or a byte that is not UTF-8.
    """
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        files = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not files:
            raise UserError(f"the folder {path} has no files to read")
    else:
        files = [path]
    text = "\n".join(_read_file(file) for file in files)
    if not text.strip():
        raise UserError(f"{path} is empty" if not text else f"{path} has nothing but white space")
    return text, str(path)


def _read_file(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the data file {path}: {error.strerror or error}") from None
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16; " if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(
            f"{path} is not UTF-8 text: byte 0x{raw[error.start]:02x} at offset {error.start} ({hint}convert it first)"
        ) from None


def random_batch(tokens: np.ndarray, batch: int, block: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows at random places: ids (batch, block) and the tokens that follow each of them, (batch, block), int64."""
    return windows(tokens, rng.integers(0, len(tokens) - block, size=batch), block)


def windows(tokens: np.ndarray, starts: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows that begin at `starts` (b,): ids (b, block) and targets, the same moved on by one."""
    cut = tokens[starts[:, None] + np.arange(block + 1)].astype(np.int64)  # (b, block + 1)
    return cut[:, :-1], cut[:, 1:]
