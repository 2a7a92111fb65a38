"""What lies in a model's folder: JSON, and weights in one safetensors file or in several with an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minigpt import tensorfile
from minigpt.errors import UserError
from minigpt.exchange.weights import Stored

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz")
LARGEST_FILE = 5_000_000_000  # bytes of weights in one file
_LARGEST_JSON = 1 << 24  # bytes
_SHARD = re.compile(r"[\w-]+(\.[\w-]+)*\.safetensors")  # never a path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UserError if it is unreadable, too long, malformed or holds anything else."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_LARGEST_JSON))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, not a {type(content).__name__}")
    return content


def to_json(value: dict[str, Any]) -> bytes:
    """The file of an object."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights that can be read here."""
    return (folder / WEIGHTS).exists() or (folder / INDEX).exists()


def read_weights(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    """The tensors of a folder, and the file that is to blame for them; UserError if they cannot be read whole."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return tensorfile.read(folder / WEIGHTS), folder / WEIGHTS
    path = folder / INDEX
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) and _SHARD.fullmatch(file) for file in places.values()):
        raise UserError(f"{path} does not list the files of its tensors")
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(set(places.values())):
        part = tensorfile.read(folder / file)
        listed = {name for name, place in places.items() if place == file}
        if part.keys() != listed:
            raise UserError(f"{path} and {file} differ on {', '.join(sorted(part.keys() ^ listed))}")
        tensors |= part
    return tensors, path


def weight_files(tensors: list[Stored], largest: int) -> Iterator[tuple[str, bytes]]:
    """The files that hold these tensors: one, or several of at most `largest` bytes (or one tensor) each and an index."""
    groups: list[list[Stored]] = [[]]
    room = largest
    for tensor in tensors:
        if groups[-1] and tensor.nbytes > room:
            groups.append([])
            room = largest
        groups[-1].append(tensor)
        room -= tensor.nbytes
    if len(groups) == 1:
        yield WEIGHTS, tensorfile.pack({tensor.name: tensor.make() for tensor in tensors})
        return
    places: dict[str, str] = {}
    for i, group in enumerate(groups, 1):
        file = f"model-{i:05d}-of-{len(groups):05d}.safetensors"
        places |= {tensor.name: file for tensor in group}
        yield file, tensorfile.pack({tensor.name: tensor.make() for tensor in group})
    yield INDEX, to_json({"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)}, "weight_map": places})


def remove_other_weights(folder: Path, written: list[str]) -> None:
    """Remove the weights of a model that was here before."""
    for path in folder.glob("model*.safetensors*"):
        if path.name not in written:
            path.unlink()


def refuse_pickle(folder: Path) -> None:
    """Raise UserError if a folder's weights are in files that could run code."""
    pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLED]
    if pickled and not has_weights(folder):
        raise UserError(
            f"{folder} has {pickled[0]} but no {WEIGHTS}: files that could run code when read are never opened here; "
            "save the model as safetensors with the program that made it"
        )
