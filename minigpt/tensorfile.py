"""Named arrays as a safetensors file that carries a hash of its contents, and is refused whole or read whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as _pack

from minigpt.errors import UserError

LARGEST_HEADER = 100_000_000  # bytes, as in the format's reference implementation
TYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def pack(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes, from arrays of any strides and byte order; the same arrays give the same bytes."""
    plain = {name: np.asarray(tensors[name], tensors[name].dtype.newbyteorder("="), order="C") for name in sorted(tensors)}
    file = _pack(plain, metadata={"format": "pt", "sha256": digest(plain)})
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # the library writes them in any order
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[start:]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, a file without a hash included; UserError if it is malformed, or changed since it was written."""
    try:
        header = _header(path)
        tensors = load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read here: {error}") from None
    metadata = header.get("__metadata__") or {}
    if "sha256" in metadata and metadata["sha256"] != digest(tensors):
        raise UserError(f"{path} is damaged: its contents do not have the hash that was stored with them")
    return tensors


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
