"""A table of examples: tab- or comma-separated values with a header, or JSON lines.

In .tsv a tab always separates and a quote is a quote; in .csv a field in quotes may hold commas, line ends and doubled quotes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.errors import UserError

KINDS = (".tsv", ".csv", ".jsonl")
Row = tuple[int, dict[str, Any]]  # the line it begins at, and what it has by column


@dataclass(frozen=True)
class Table:
    """The rows of a file, in order, none twice removed; `lines` says where each begins."""

    name: str
    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, i: int) -> str:
        """Where row i is, for an error message."""
        return f"{self.name}, line {self.lines[i]}"

    def has(self, column: str) -> bool:
        """Whether any row has the column."""
        return any(column in row for row in self.rows)

    def column(self, column: str, flag: str) -> list[Any]:
        """A value for each row; UserError that names the flag if a row has no such column."""
        for i, row in enumerate(self.rows):
            if column not in row:
                where = self.place(i) if self.has(column) else self.name
                raise UserError(f"{where} has no column {column!r} (it has {_listed(row)}); name the column with {flag}")
        return [row[column] for row in self.rows]

    def texts(self, column: str, flag: str) -> list[str]:
        """A text for each row; UserError if one is no text, or empty."""
        values = self.column(column, flag)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise UserError(f"{self.place(i)} has {_shown(value)} in column {column!r}, not a text")
            if not value.strip():
                raise UserError(f"{self.place(i)} has an empty text in column {column!r}")
        return values

    def labels(self, column: str, flag: str) -> list[str]:
        """A class for each row, whole numbers and truth values as texts; UserError if one is anything else, or empty."""
        values = self.column(column, flag)
        for i, value in enumerate(values):
            if not isinstance(value, (str, int)):
                raise UserError(f"{self.place(i)} has {_shown(value)} in column {column!r}, not the name of a class")
            if not str(value).strip():
                raise UserError(f"{self.place(i)} has an empty class in column {column!r}")
        return [str(value).strip() for value in values]

    def lists(self, column: str, flag: str) -> list[list[str]]:
        """Words for each row, from a text with spaces between them or a JSON list; UserError if one has none."""
        values = [value.split() if isinstance(value, str) else value for value in self.column(column, flag)]
        for i, value in enumerate(values):
            if not isinstance(value, list) or not value or not all(isinstance(word, str) and word.strip() for word in value):
                raise UserError(f"{self.place(i)} has {_shown(value)} in column {column!r}, not words")
        return values

    def alternatives(self, column: str, flag: str) -> list[tuple[str, ...]]:
        """The texts of each row, any of which is right, from one or from a JSON list; none where it is empty or null."""
        found = []
        for i, value in enumerate(self.column(column, flag)):
            texts = [value] if isinstance(value, str) else [] if value is None else value
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise UserError(
                    f"{self.place(i)} has {_shown(value)} in column {column!r}, not a text, a list of texts, or null for none"
                )
            found.append(tuple(text for text in texts if text.strip()))
        return found


def read_table(path: Path | str) -> Table:
    """The rows of a .tsv, .csv or .jsonl file; UserError, with the line, if it is unreadable, malformed or has none."""
    path = Path(path)
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path} must be a table that ends in {', '.join(KINDS)}, as the ending says how to read it")
    text = _decoded(path)
    read = {".tsv": _tabs, ".csv": _commas, ".jsonl": _objects}[path.suffix.lower()]
    rows = list(read(text, path))
    if not rows:
        raise UserError(f"{path} has no rows")
    lines, values = zip(*rows, strict=True)
    return Table(str(path), values, lines)


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the data file {path}: {error.strerror or error}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line} is not UTF-8 text: byte {raw[error.start]:#04x} at offset {error.start}") from None


def _tabs(text: str, path: Path) -> Iterator[Row]:
    lines = ((number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1))
    return _under_header(((number, line.split("\t")) for number, line in lines if line), path)


def _commas(text: str, path: Path) -> Iterator[Row]:
    limit = csv.field_size_limit(max(1, len(text)))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        fields, start = [], 1
        for row in reader:
            if row:
                fields.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num} is not comma-separated values: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return _under_header(iter(fields), path)


def _under_header(lines: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[Row]:
    _, header = next(lines, (0, []))
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has two columns named {twice!r}")
    for number, fields in lines:
        if len(fields) != len(names):
            raise UserError(
                f"{path}, line {number} has {len(fields)} fields, but the header has {len(names)} ({', '.join(names)})"
            )
        yield number, dict(zip(names, fields, strict=True))


def _objects(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is {_shown(row)}, not an object with a key for each column")
        yield number, row


def _listed(row: dict[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "none"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
