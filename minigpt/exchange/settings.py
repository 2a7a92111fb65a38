"""config.json: theirs to ours and back, by a family's table of settings."""

from __future__ import annotations

from typing import Any

from minigpt.errors import UserError
from minigpt.exchange.family import OBJECT, Architecture, Family, Setting
from minigpt.models.heads import SequenceClassifier, TokenClassifier

_SILENT = object()


def read_settings(family: Family, architecture: Architecture, theirs: dict[str, Any], where: object) -> Any:
    """Our configuration of what a config.json says; UserError for what is malformed, or cannot be computed."""
    for name, supported in family.fixed.items():
        value = _find(theirs, name, where)
        if value is not _SILENT and value not in supported:
            raise UserError(f"{where} says {name} {value!r}, but only {_listed(supported)} is supported")
    fields = {setting.ours: _read(setting, theirs, where) for setting in family.settings}
    if architecture.model in (SequenceClassifier, TokenClassifier) and not fields["labels"]:
        raise UserError(f"{where} says id2label {theirs['id2label']!r}, but a model that classifies needs the name of a class")
    try:
        return family.config(**fields | dict(architecture.config))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def write_settings(family: Family, name: str, config: Any) -> dict[str, Any]:
    """What config.json says of a model of the class that they call `name`."""
    theirs: dict[str, Any] = {"architectures": [name], "model_type": family.model_type}
    for key, value in family.written.items():
        _put(theirs, key, value)
    for key, supported in family.fixed.items():
        _put(theirs, key, supported[0])
    for setting in family.settings:
        value = _theirs(setting, getattr(config, setting.ours))
        for key in setting.names:
            _put(theirs, key, value)
    return theirs


def _read(setting: Setting, theirs: dict[str, Any], where: object) -> Any:
    found = ((name, _find(theirs, name, where)) for name in setting.names)
    name, value = next(((n, v) for n, v in found if v is not _SILENT), (setting.names[0], setting.default))
    if setting.values is not None:
        for key, ours in setting.values.items():
            if type(key) is type(value) and key == value:
                return ours
        raise UserError(f"{where} says {name} {value!r}, but only {_listed(setting.values)} is supported")
    if not setting.expected.accepts(value):
        raise UserError(f"{where}: {name} must be {setting.expected.expected}, not {value!r}")
    try:
        return setting.read(value)
    except ValueError as error:
        raise UserError(f"{where} says {name} {value!r}, but {error}") from None


def _theirs(setting: Setting, ours: Any) -> Any:
    if setting.values is None:
        return setting.write(ours)
    found = [key for key, value in setting.values.items() if value == ours and type(value) is type(ours)]
    if not found:
        raise ValueError(f"{setting.ours} {ours!r} has no name in this family")
    return found[0]


def _find(theirs: dict[str, Any], name: str, where: object) -> Any:
    """What a dotted name holds, _SILENT if there is no such thing."""
    *objects, last = name.split(".")
    for key in objects:
        theirs = theirs.get(key)  # type: ignore[assignment]
        if theirs is None:
            return _SILENT
        if not OBJECT.accepts(theirs):
            raise UserError(f"{where}: {key} must be an object, not {theirs!r}")
    return theirs.get(last, _SILENT)


def _put(theirs: dict[str, Any], name: str, value: Any) -> None:
    *objects, last = name.split(".")
    for key in objects:
        theirs = theirs.setdefault(key, {})
    theirs[last] = value


def _listed(values: Any) -> str:
    return " or ".join(map(repr, values))
