"""Named arrays as a safetensors file that carries a hash of its contents, and is refused whole or read whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minigpt.errors import UserError

LARGEST_HEADER = 100_000_000  # bytes, as in the format's reference implementation
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4",
    "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}
TYPES = (*_TYPES, "BF16")


def pack(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes, from arrays of any strides and byte order; the same arrays give the same bytes."""
    plain = {name: np.asarray(tensors[name], tensors[name].dtype.newbyteorder("<"), order="C") for name in tensors}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "sha256": digest(plain)}}
    end = 0
    ordered = sorted(plain, key=lambda name: (-plain[name].itemsize, name))  # each begins at a multiple of its item's size
    for name in ordered:
        start, end = end, end + plain[name].nbytes
        header[name] = {"dtype": _NAMES[plain[name].dtype], "shape": plain[name].shape, "data_offsets": (start, end)}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(plain[name].reshape(-1).view(np.uint8).data for name in ordered)])


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, BF16 as float32, a file without a hash included; UserError if it is malformed, or changed since."""
    try:
        header = _header(path)
        with safe_open(path, "np"):  # the header fits the file
            pass
        tensors = _values(path, header)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read here: {error}") from None
    metadata = header.get("__metadata__") or {}
    if "sha256" in metadata and metadata["sha256"] != digest(tensors):
        raise UserError(f"{path} is damaged: its contents do not have the hash that was stored with them")
    return tensors


def _values(path: Path, header: dict[str, Any]) -> dict[str, np.ndarray]:
    tensors = {}
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, entry in header.items():
            if name != "__metadata__":
                file.seek(start + entry["data_offsets"][0])
                values = np.fromfile(file, _TYPES.get(entry["dtype"], "<u2"), math.prod(entry["shape"]))
                tensors[name] = (_widened(values) if entry["dtype"] == "BF16" else values).reshape(entry["shape"])
    return tensors


def _widened(halves: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, as these."""
    wide = halves.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and values, in hexadecimal."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        total.update(json.dumps([name, value.dtype.str, tensors[name].shape]).encode())
        total.update(value.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The JSON at the file's beginning: each name once, ValueError otherwise."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError(f"the header is a {type(header).__name__}")
    for name, entry in header.items():
        if name != "__metadata__" and isinstance(entry, dict) and entry.get("dtype") not in TYPES:
            raise ValueError(f"{name!r} is of type {entry.get('dtype')!r}, but only {', '.join(TYPES)} are known")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return names
