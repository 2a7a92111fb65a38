"""Settings as a frozen dataclass whose fields say what they are for and what values they take: also the flags of a command.

Only the standard library is imported here, so that help and mistaken flags are answered at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Literal, NamedTuple

from minigpt.errors import UserError

_NOUNS = {int: "an integer", float: "a number", bool: "a boolean", str: "a string"}


class Kind(NamedTuple):
    """A field's plain type, its choices if it has a fixed set of them, and whether it may be None."""

    type: type
    choices: tuple[str, ...]
    optional: bool


def option(default: Any, text: str, interval: str | None = None) -> Any:
    """A field with its help text and, for numbers, the interval of allowed values in mathematical notation."""
    return field(default=default, metadata={"help": text, "interval": interval})


@functools.cache
def kinds(settings: Any) -> dict[str, Kind]:
    """What each field of a dataclass holds, by name."""
    hints = typing.get_type_hints(settings)
    return {f.name: _kind(hints[f.name]) for f in dataclasses.fields(settings)}


def _kind(hint: Any) -> Kind:
    members = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    plain = next(member for member in members if member is not types.NoneType)
    optional = types.NoneType in members
    if typing.get_origin(plain) is Literal:
        return Kind(str, typing.get_args(plain), optional)
    return Kind(typing.get_origin(plain) or plain, (), optional)


def check_value(settings: Any, name: str) -> None:
    """UserError if a field of `settings` is of the wrong type, no choice of it, or outside its interval."""
    owner: Any = type(settings)
    value, (kind, choices, optional) = getattr(settings, name), kinds(owner)[name]
    if value is None and optional:
        return
    if choices and value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    if type(value) not in ((int, float) if kind is float else (kind,)):
        raise UserError(f"{name} must be {_NOUNS[kind]}, not {value!r}")
    interval = owner.__dataclass_fields__[name].metadata["interval"]
    if interval is not None and not _inside(value, interval):
        raise UserError(f"{name} must be in {interval}, not {value}")


def _inside(value: float, interval: str) -> bool:
    """Membership in an interval such as "[0, 1)"; every comparison is false for NaN, so NaN is inside none."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = low <= value if interval[0] == "[" else low < value
    below = value <= high if interval[-1] == "]" else value < high
    return above and below


def add_flags(parser: argparse.ArgumentParser, settings: type) -> None:
    """A flag for each field of a dataclass; those that are not given are absent from what is parsed."""
    for f in dataclasses.fields(settings):
        kind, choices, _ = kinds(settings)[f.name]
        flag, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
        if f.default not in (None, ""):
            text += f" (default: {_shown(f.default)})"
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **extra)
        else:
            metavar = (
                "{" + ",".join(choices) + "}" if choices else {int: "N", float: "X", str: f.name.rpartition("_")[2].upper()}[kind]
            )
            parser.add_argument(flag, type=kind, metavar=metavar, **extra)


def _shown(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def suggest(word: str, known: Iterable[str]) -> str:
    """A tail for an error message that offers the known words closest to a mistyped one."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
