"""A dataclass of settings knows its kinds, refuses what does not fit, and becomes flags."""

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from minigpt.errors import UserError
from minigpt.options import Kind, add_flags, check_value, kinds, option, suggest


@dataclass(frozen=True)
class Settings:
    count: int = option(3, "how many, 100% sure", "[1, 10]")
    rate: float | None = option(None, "how fast", "(0, 1)")
    mode: Literal["a", "b"] = option("a", "which")
    loud: bool = option(False, "noise")
    out: str = option("x", "where")


def test_kinds():
    assert kinds(Settings) == {
        "count": Kind(int, (), False),
        "rate": Kind(float, (), True),
        "mode": Kind(str, ("a", "b"), False),
        "loud": Kind(bool, (), False),
        "out": Kind(str, (), False),
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, r"count must be in \[1, 10\], not 0"),
        ("count", 2.0, "count must be an integer, not 2.0"),
        ("count", True, "count must be an integer, not True"),
        ("rate", 1.0, r"rate must be in \(0, 1\), not 1.0"),
        ("rate", float("nan"), r"rate must be in \(0, 1\), not nan"),
        ("rate", "1", "rate must be a number, not '1'"),
        ("mode", "c", "mode must be one of a, b, not 'c'"),
        ("loud", 1, "loud must be a boolean, not 1"),
        ("out", None, "out must be a string, not None"),
    ],
)
def test_values_that_do_not_fit(name, value, message):
    with pytest.raises(UserError, match=message):
        check_value(Settings(**{name: value}), name)


def test_values_that_fit():
    for settings in (Settings(), Settings(count=10, rate=0.5, mode="b", loud=True, out="")):
        for name in kinds(Settings):
            check_value(settings, name)


def test_flags_leave_out_what_is_not_given():
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    assert vars(parser.parse_args([])) == {}
    given = vars(parser.parse_args("--count 4 --rate .5 --mode b --no-loud".split()))
    assert given == {"count": 4, "rate": 0.5, "mode": "b", "loud": False}
    assert "100% sure (default: 3)" in parser.format_help() and "noise (default: no)" in parser.format_help()


def test_suggest():
    assert suggest("lerning_rate", ["learning_rate", "out"]) == "; did you mean learning_rate?"
    assert suggest("zzz", ["learning_rate"]) == ""
