"""The flags of GenerationConfig, for every command that writes text."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig


def add_decoding(parser: argparse.ArgumentParser, temperature: float) -> None:
    """A flag for each field; `temperature` is the default without beams."""
    for option in dataclasses.fields(GenerationConfig):
        flag = "--" + option.name.replace("_", "-")
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(option, temperature)}
        if option.name == "early_stopping":
            parser.add_argument(flag, metavar="{no,yes,never}", **extra)
        elif isinstance(option.default, tuple):
            parser.add_argument(flag, action="append", metavar="TEXT=B" if "bias" in option.name else "TEXT", **extra)
        else:
            kind = type(option.default)
            parser.add_argument(flag, type=kind, metavar="N" if kind is int else "X", **extra)


def _help(option: dataclasses.Field[Any], temperature: float) -> str:
    text = option.metadata["help"].replace("%", "%%")
    if option.name == "temperature":
        return f"{text} (default: {f'{temperature}, with beams 0' if temperature else 0})"
    return f"{text}; may be given again" if isinstance(option.default, tuple) else f"{text} (default: {option.default})"


def decoding(options: dict[str, Any], temperature: float) -> GenerationConfig:
    """What the flags say; UserError for a value that is none."""
    given = {name.name: options[name.name] for name in dataclasses.fields(GenerationConfig) if name.name in options}
    given.setdefault("temperature", temperature if given.get("num_beams", 1) == 1 else 0.0)
    biases = []
    for text in given.pop("sequence_bias", ()):
        words, _, number = text.rpartition("=")
        try:
            biases.append((words, float(number)))
        except ValueError:
            raise UserError(f"--sequence-bias must be TEXT=NUMBER, not {text!r}") from None
    return GenerationConfig(**given, sequence_bias=tuple(biases))


def check_batch(options: dict[str, Any]) -> None:
    """UserError for a seed or a batch size that is none."""
    for name, least in (("seed", 0), ("batch_size", 1)):
        if options[name] < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {options[name]}")
