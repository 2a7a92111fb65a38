"""What the fields of a model's configuration must be: ValueError with the field, what it must be, and what it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def check_sizes(config: Any, *names: str, least: int = 1, optional: bool = False) -> None:
    """Integers of at least `least`, or None if `optional`."""
    for name in names:
        value = getattr(config, name)
        if not ((isinstance(value, int) and value >= least) or (value is None and optional)):
            raise ValueError(f"{name} must be an integer >= {least}{' or None' * optional}, got {value!r}")


def check_positive(config: Any, *names: str, optional: bool = False) -> None:
    """Finite numbers above 0, or None if `optional`."""
    for name in names:
        value = getattr(config, name)
        if not (value is None and optional) and not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_rates(config: Any, *names: str) -> None:
    """Numbers in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} must be in [0, 1), got {getattr(config, name)}")


def check_known(config: Any, **known: Iterable[str]) -> None:
    """For each field one of the names that are known."""
    for name, names in known.items():
        if getattr(config, name) not in list(names):
            raise ValueError(f"{name} must be one of {', '.join(names)}, got {getattr(config, name)!r}")


def check_multiple(config: Any, name: str, of: str) -> None:
    """One size a multiple of another."""
    value, part = getattr(config, name), getattr(config, of)
    if value % part:
        raise ValueError(f"{name} must be a multiple of {of}, got {name} {value} and {of} {part}")


def check_tokens(config: Any, *names: str) -> None:
    """Tokens of the vocabulary."""
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, int) and 0 <= value < config.vocab_size):
            raise ValueError(f"{name} must be one of the {config.vocab_size} tokens, got {value!r}")
