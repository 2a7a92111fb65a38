"""The GGUF container of ggml, versions 2 and 3: metadata and tensors in a mapped file, every length checked before it is used.

The file is a header, pairs of a key and a typed value, a description of each tensor, and the tensors' blocks of numbers.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from minigpt.errors import UserError

_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_TEXT, _ARRAY = 8, 9
_MOST_AXES = 4


class Damaged(Exception):
    """What is wrong with the file, to be said of it."""


@dataclass(frozen=True)
class Block:
    """A tensor as it lies in the file: `shape` in NumPy's order, `kind` how its numbers are packed."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int  # from the beginning of all blocks

    @property
    def row_bytes(self) -> int:
        size, packed = GGML_QUANT_SIZES[self.kind]
        if self.shape[-1] % size:
            raise Damaged(f"the rows of {self.name}, {self.shape}, are not whole blocks of {size} {self.kind.name} numbers")
        return self.shape[-1] // size * packed

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape[:-1]) * self.row_bytes


class _Reader:
    """Takes one thing after the other from the bytes of a file."""

    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise Damaged("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return bytes(self.take(self.number("Q"))).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A number, a text, or a list or an array of them."""
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY:
            return self.numbers(kind, 1)[0].item()
        kind, count = self.number("I"), self.number("Q")
        if kind == _TEXT:
            if 8 * count > len(self.data) - self.at:  # each has a length of eight bytes
                raise Damaged("it ends too early")
            return [self.text() for _ in range(count)]
        return self.numbers(kind, count)

    def numbers(self, kind: int, count: int) -> np.ndarray:
        if kind not in _NUMBERS:
            raise Damaged(f"a value has the type {kind}, which is not known")
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def block(self) -> Block:
        name = self.text()
        axes = self.number("I")
        if not 1 <= axes <= _MOST_AXES:
            raise Damaged(f"{name} has {axes} axes")
        shape = tuple(self.number("Q") for _ in range(axes))[::-1]
        kind, offset = self.number("I"), self.number("Q")
        try:
            return Block(name, shape, GGMLQuantizationType(kind), offset)
        except ValueError:
            raise Damaged(f"the numbers of {name} are packed in a way, {kind}, that is not known") from None


@dataclass(frozen=True)
class GGUFFile:
    """What a file says of itself, and its tensors."""

    path: Path
    metadata: Mapping[str, Any]
    blocks: tuple[Block, ...]
    data: memoryview

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each tensor's name and its numbers as float32; UserError for a packing that is not floating point."""
        for block in self.blocks:
            packed = np.frombuffer(self.data[block.offset : block.end], np.uint8).reshape(-1, block.row_bytes)
            try:
                with np.errstate(all="ignore"):
                    yield block.name, dequantize(packed, block.kind).astype(np.float32, copy=False).reshape(block.shape)
            except (NotImplementedError, AttributeError):
                raise UserError(f"{self.path}: {block.name} is packed as {block.kind.name}, which cannot be read here") from None


def read(path: Path) -> GGUFFile:
    """The file, its tensors not yet read; UserError, one sentence, if it is unreadable, malformed or of another version."""
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _parsed(path, data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (Damaged, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise UserError(f"{path} is not a GGUF file that can be read here: {error}") from None


def _parsed(path: Path, data: memoryview) -> GGUFFile:
    reader = _Reader(data)
    if bytes(reader.take(4)) != b"GGUF":
        raise Damaged("it does not begin with GGUF")
    version = reader.number("I")
    if version not in (2, 3):
        raise Damaged(f"its version is {version}, not 2 or 3")
    blocks, pairs = reader.number("Q"), reader.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        if key in metadata:
            raise Damaged(f"it has {key} twice")
        metadata[key] = reader.value(reader.number("I"))
    found = tuple(reader.block() for _ in range(blocks))
    if len({block.name for block in found}) < blocks:
        raise Damaged("two of its tensors have the same name")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise Damaged(f"its alignment is {alignment!r}")
    rest = data[-(-reader.at // alignment) * alignment :]
    _check_places(found, len(rest))
    return GGUFFile(path, metadata, found, rest)


def _check_places(blocks: tuple[Block, ...], size: int) -> None:
    """No tensor shares bytes with another, so what is unpacked is never much more than the file."""
    ordered = sorted(blocks, key=lambda block: block.offset)
    for block in ordered:
        if block.end > size:
            raise Damaged(f"{block.name} lies beyond its end")
    for block, after in pairwise(ordered):
        if block.end > after.offset:
            raise Damaged(f"{block.name} and {after.name} overlap")
