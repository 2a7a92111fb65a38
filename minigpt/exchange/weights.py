"""Stored tensors to parameters and back, by a family's table of names, one tensor at a time."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np

from minigpt.errors import UserError
from minigpt.exchange.changes import Shape
from minigpt.exchange.family import Architecture, Family, Row
from minigpt.finetuning.lora import LoRALinear, adapted
from tensorgrad import Tensor
from tensorgrad.nn import Module, unfilled

LISTED = 100  # faults that one sentence names
_WILD = {"i": r"(?P<i>\d+)", "j": r"(?P<j>\d+)", "p": "(?P<p>weight|bias)"}


@dataclass(frozen=True)
class Entry:
    """One stored tensor: its name without the family's prefix, whether that goes before it, and the parameters it holds."""

    name: str
    prefixed: bool
    parameters: dict[str, Shape]
    row: Row

    def shape(self, config: Any) -> Shape:
        """The shape as stored."""
        return self.row.change.shape([*self.parameters.values()], config)


@dataclass(frozen=True)
class Stored:
    """A tensor to be written: its name, its bytes, and what makes it."""

    name: str
    nbytes: int
    make: Callable[[], np.ndarray]


def layout(family: Family, architecture: Architecture, config: Any) -> list[Entry]:
    """Every tensor that a file of this configuration has; LookupError if the table does not name one of our parameters."""
    with unfilled() as rng:
        model = architecture.model(_with(config, family.full), rng)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    entries: dict[str, Entry] = {}
    for name in shapes:
        entry = _entry(family, architecture, config, name, shapes)
        entries.setdefault(entry.name, entry)
    return [*entries.values()]


def model_of(
    config: Any, stored: dict[str, np.ndarray], family: Family, architecture: Architecture, dtype: Any, where: object
) -> Module:
    """The model of a configuration, its parameters taken out of `stored` one by one, so that they are never there twice.

    UserError, listing all of them, if a tensor is missing, unexpected or misshaped.
    """
    for field in dataclasses.fields(config):
        count = getattr(config, field.name)
        if "layer" in field.name and type(count) is int and count > len(stored):
            raise UserError(f"{where} has {len(stored)} tensors, too few for the {count} layers of config.json")
    config = _as_stored(config, stored, family, architecture)
    entries = {entry.name: entry for entry in layout(family, architecture, config)}
    _settle(stored, family, entries, where)
    _check(stored, entries, config, where)
    with unfilled() as rng:
        model = architecture.model(config, rng, dtype)
    parameters = dict(model.named_parameters())
    for entry in entries.values():
        arrays = entry.row.change.read(stored.pop(entry.name), [*entry.parameters.values()], config)
        for name, array in zip(entry.parameters, arrays, strict=True):
            if name in parameters:
                parameters[name].data = np.ascontiguousarray(array)
            elif array.any():
                raise UserError(f"{where}: {entry.name} is not zero, but config.json says that the model has no biases")
    return model


def _as_stored(config: Any, stored: Mapping[str, np.ndarray], family: Family, architecture: Architecture) -> Any:
    """The configuration, changed where a file lacks a tensor that not every model of the class has."""
    names = {name.removeprefix(family.prefix) for name in stored}
    for name, fields in architecture.absent.items():
        config = config if name in names else _with(config, fields)
    return config


def stored_tensors(model: Any, family: Family, architecture: Architecture) -> list[Stored]:
    """The tensors of a model under their names, in our dtype, each made when it is written; low-rank changes are added in."""
    config = model.config
    parameters = dict(model.named_parameters())
    changed = {f"{name}.weight": module for name, module in adapted(model).items()}
    dtype = next(iter(parameters.values())).dtype
    tensors = []
    for entry in layout(family, architecture, config):
        name = (family.prefix if entry.prefixed else "") + entry.name
        size = math.prod(entry.shape(config)) * dtype.itemsize
        tensors.append(Stored(name, size, partial(_stored, entry, parameters, changed, dtype, config)))
    return tensors


def _stored(
    entry: Entry, parameters: Mapping[str, Tensor], changed: Mapping[str, LoRALinear], dtype: np.dtype, config: Any
) -> np.ndarray:
    arrays = []
    for name, shape in entry.parameters.items():
        if name in changed:
            arrays.append(changed[name].merged_weight())
        else:
            arrays.append(parameters[name].data if name in parameters else np.zeros(shape, dtype))
    return np.ascontiguousarray(entry.row.change.write(arrays, config))


def _with(config: Any, fields: Mapping[str, Any]) -> Any:
    return dataclasses.replace(config, **fields)


def _entry(family: Family, architecture: Architecture, config: Any, name: str, shapes: Mapping[str, Shape]) -> Entry:
    """The stored tensor that holds the parameter of this name."""
    prefixed = not architecture.bare
    own = family.own if prefixed else ""
    rows = [(prefixed, own, row) for row in family.names] + [(False, "", row) for row in architecture.heads]
    for prefix, before, row in (candidate for candidate in rows if candidate[2].when(config)):
        templates = _alternatives(row.ours)
        for template in templates:
            if match := _pattern(before + template).fullmatch(name):
                held = [before + t.format(**match.groupdict()) for t in templates]
                return Entry(row.theirs.format(**match.groupdict()), prefix, {n: shapes[n] for n in held}, row)
    raise LookupError(f"the table of {family.model_type} does not name {name}")


def _settle(stored: dict[str, np.ndarray], family: Family, entries: Mapping[str, Entry], where: object) -> None:
    """Today's names without prefix; nothing that is there twice, or holds nothing learned."""
    for name in list(stored):
        plain = name.removeprefix(family.prefix)
        for old, new in family.older.items():
            plain = plain.removesuffix(old) + new if plain.endswith(old) else plain
        if any(_pattern(template).fullmatch(plain) for template in family.ignored) and plain not in entries:
            del stored[name]
        elif plain != name and plain in stored:
            raise UserError(f"{where} has {plain} twice, once as {name}")
        else:
            stored[plain] = stored.pop(name)
    for copy, original in family.copies.items():
        if copy in entries or copy not in stored:
            continue
        value = stored.pop(copy)
        if not np.array_equal(stored.setdefault(original, value), value, equal_nan=value.dtype.kind == "f"):
            raise UserError(f"{where}: {copy} differs from {original}, but config.json says that they are tied")
    for name, original in family.alike.items():
        if name in entries and original in stored:
            stored.setdefault(name, stored[original])


def _check(stored: Mapping[str, np.ndarray], entries: Mapping[str, Entry], config: Any, where: object) -> None:
    faults = [f"{name} is missing" for name in entries if name not in stored]
    faults += [f"{name} is unexpected" for name in stored if name not in entries]
    for name in entries.keys() & stored.keys():
        value, shape = stored[name], entries[name].shape(config)
        if value.shape != shape or value.dtype.kind != "f":
            faults.append(f"{name} is {value.dtype} {value.shape}, not float {shape}")
    if faults:
        more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise UserError(f"{where} does not fit config.json: {'; '.join(sorted(faults)[:LISTED])}{more}")


@cache
def _alternatives(template: str) -> tuple[str, ...]:
    """ "a.{q,k}.b" -> "a.q.b", "a.k.b"."""
    parts = re.split(r"\{([^{}]*,[^{}]*)\}", template)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return tuple("".join(chosen) for chosen in product(*choices))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """What a template without alternatives stands for, the wild parts as groups."""
    parts = re.split(r"\{([ijp])\}", template)
    return re.compile("".join(_WILD[part] if i % 2 else re.escape(part) for i, part in enumerate(parts)))
