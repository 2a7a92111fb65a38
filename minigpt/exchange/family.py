"""What a family of models is: its classes, settings and tensor names, beside ours.  Data only; families/*.py hold it.

Names of tensors are templates: {i} and {j} stand for numbers, {p} for weight or bias, and {a,b,c} for several names, as
in "h.{i}.attn.{q,k,v}_proj.{p}", which a change such as INTERLEAVED makes from one stored tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minigpt.exchange.changes import SAME, Change


@dataclass(frozen=True)
class Kind:
    """Which values a setting may have, and these in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


SIZE = Kind(_is_size, "a positive integer")
OPTIONAL_SIZE = Kind(lambda value: value is None or _is_size(value), "a positive integer or null")
TOKEN = Kind(_is_token, "a token id")
FLAG = Kind(lambda value: type(value) is bool, "true or false")
NUMBER = Kind(lambda value: type(value) in (int, float) and math.isfinite(value), "a number")
TEXT = Kind(lambda value: type(value) is str, "a text")
OBJECT = Kind(lambda value: type(value) is dict, "an object")
OPTIONAL_OBJECT = Kind(lambda value: value is None or type(value) is dict, "an object or null")
_KIND_OF = {int: SIZE, bool: FLAG, float: NUMBER, str: TEXT}


@dataclass(frozen=True)
class Setting:
    """One field of our configuration beside theirs; "a.b" is b in the object a.  Several of theirs hold the same value:
    the first one that a file has is read, all are written.

    `default` is what they assume where their file is silent.  `values` says which of theirs is which of ours, and no other
    is supported (of several for one of ours, the first is written).  Else the value is the same, checked to be of the `kind`
    (that of the default unless given), or `read` makes it ours, and `write` theirs; ValueError from `read` refuses it.
    """

    ours: str
    theirs: str | tuple[str, ...]
    default: Any
    kind: Kind | None = None
    values: Mapping[Any, Any] | None = None
    read: Callable[[Any], Any] = lambda value: value
    write: Callable[[Any], Any] = lambda value: value

    @property
    def names(self) -> tuple[str, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    @property
    def expected(self) -> Kind:
        return self.kind or _KIND_OF[type(self.default)]


def labels() -> tuple[Setting, Setting]:
    """The names of a classifier's classes, `config.labels`, in order; silent files have LABEL_0 and LABEL_1."""
    return (
        Setting("labels", "label2id", None, kind=Kind(lambda value: True, "anything"), write=_numbers),
        Setting("labels", "id2label", {"0": "LABEL_0", "1": "LABEL_1"}, kind=OPTIONAL_OBJECT, read=_in_order, write=_by_number),
    )


def _in_order(names: dict[str, Any] | None) -> tuple[str, ...]:
    names = names or {}
    if set(names) != {str(i) for i in range(len(names))} or not all(type(name) is str for name in names.values()):
        raise ValueError("a name for each number from 0 is expected")
    return tuple(names[str(i)] for i in range(len(names)))


def _by_number(names: tuple[str, ...]) -> dict[str, str] | None:
    return {str(i): name for i, name in enumerate(names)} or None


def _numbers(names: tuple[str, ...]) -> dict[str, int] | None:
    return {name: i for i, name in enumerate(names)} or None


@dataclass(frozen=True)
class Row:
    """One line of the table of names: their tensor, our parameter or parameters, and how the layouts differ.

    It holds for configurations that `when` is true of.
    """

    theirs: str
    ours: str
    change: Change = SAME
    when: Callable[[Any], bool] = lambda config: True


@dataclass(frozen=True)
class Architecture:
    """A class of theirs, as `architectures` in config.json names it, beside ours.

    `heads` are its names besides the family's, without prefix on either side.  `config` are fields of our configuration that
    the class decides, and `absent` others, by the tensor without which a file has them.  A `bare` class has its tensors without
    the family's prefix, and so has ours.
    """

    model: type
    heads: tuple[Row, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bare: bool = False


@dataclass(frozen=True)
class Family:
    """Everything that tells one `model_type` from another.

    `classes`: their class name -> ours; the first is assumed where a file names none, and of several with one class of ours
    the first is written.  `config`: our configuration class.  `prefix` and `own` stand before the `names` of every class
    that is not bare, in their file and in our model; files without their prefix are read all the same.
    `fixed`: settings of theirs with the values that our model computes, the first of which is written, and assumed where a
    file is silent.  `written`: settings that are written only, for others' sake.
    `copies`: tensors that a file may have, equal to others that our model has once.  `alike`: tensors that our model has, and
    a file may lack where they equal others.  `ignored`: tensors that hold nothing learned, such as stored masks.  `older`:
    endings of names that early files have, and what they are now.
    `full`: fields of our configuration with which a model has every tensor that the format has; what a model lacks of these
    is zero in the file.
    """

    model_type: str
    classes: Mapping[str, Architecture]
    config: type
    settings: tuple[Setting, ...]
    names: tuple[Row, ...]
    prefix: str = ""
    own: str = ""
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    alike: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    older: Mapping[str, str] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
