"""Texts for a command: from its arguments, or the lines of a file or of standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.tokenizer import Tokenizer

LARGEST_FILE = 16 << 20  # bytes


def add_texts(parser: argparse.ArgumentParser, what: str) -> None:
    """TEXT .. or --file; `what` the texts are for, in the help."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help=f"{what} (default: the lines of standard input)")
    parser.add_argument("--file", metavar="FILE", help="a file with a text on each line, or - for standard input")


def given_texts(options: dict[str, Any]) -> list[str]:
    """What `add_texts` let the user say; UserError for texts both ways, and for an empty line, whose answer would be missing."""
    if not options["texts"]:
        name = options["file"] or "-"
        lines = read_lines(name, "texts", keep_empty=True)
        if (empty := next((i for i, line in enumerate(lines, 1) if not line.strip()), None)) is not None:
            raise UserError(f"line {empty} of {'standard input' if name == '-' else name} is empty: each line must be a text")
        return lines
    if options["file"] is not None:
        raise UserError(f"texts come as arguments or from --file {options['file']}, not both")
    return options["texts"]


def say_cut(tokenizer: Tokenizer, texts: Sequence[str], length: int, control: bool = False) -> None:
    """Say on standard error how many texts are longer than `length` tokens, and were cut."""
    say_longer([len(tokenizer.encode_pair(text, control=control)) for text in texts], length)


def say_longer(lengths: Sequence[int], most: int) -> None:
    """The same of texts whose lengths in tokens are known."""
    cut = sum(length > most for length in lengths)
    if cut:
        print(f"minigpt: {cut} of {len(lengths)} texts were cut to {most:,} tokens", file=sys.stderr)


def read_lines(name: str, what: str, keep_empty: bool = False) -> list[str]:
    """The lines of a file, or of standard input for "-", only those that are not empty unless `keep_empty`.

    UserError if all are empty, or there are too many bytes.
    """
    try:
        with sys.stdin.buffer if name == "-" else open(Path(name), "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"cannot read the {what} in {name}: {error.strerror or error}") from None
    if len(raw) > LARGEST_FILE:
        raise UserError(f"the {what} in {name} are more than {LARGEST_FILE >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: byte {raw[error.start]:#04x} at offset {error.start}") from None
    if not text.strip():
        raise UserError(f"there are no {what} in {name}")
    lines = [line.removesuffix("\r") for line in text.rstrip().split("\n")]
    return lines if keep_empty else [line for line in lines if line.strip()]
