"""Models as Hugging Face folders: config.json, model.safetensors, and the tokenizer's files."""

from __future__ import annotations

import dataclasses
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from minigpt.errors import UserError
from minigpt.exchange import families
from minigpt.exchange.family import Architecture, Family
from minigpt.exchange.settings import read_settings, write_settings
from minigpt.exchange.storage import (
    CONFIG,
    LARGEST_FILE,
    WEIGHTS,
    read_json,
    read_weights,
    refuse_pickle,
    remove_other_weights,
    to_json,
    weight_files,
)
from minigpt.exchange.weights import layout, model_of, stored_tensors
from minigpt.files import write_whole
from minigpt.tokenizer import Tokenizer
from minigpt.tokenizer_file import tokenizer_files
from tensorgrad.nn import Module


def known() -> list[str]:
    """Every model_type that is read and written here."""
    return sorted(module.name for module in pkgutil.iter_modules(families.__path__))


def family_of(model_type: object, where: object) -> Family:
    """The table of a model_type; UserError, naming those that are known, if there is none."""
    if model_type not in known():
        raise UserError(f"{where} says model_type {model_type!r}, but only {', '.join(known())} are known")
    return import_module(f"{families.__name__}.{model_type}").FAMILY


def from_pretrained(folder: Path | str, dtype: Any = "float32") -> Module:
    """The model in a Hugging Face folder or a GGUF file, in evaluation mode, its weights in `dtype` whatever they are stored in.

    The class follows `architectures` in config.json.  UserError, one sentence, if anything is missing, malformed,
    unsupported or does not fit together; nothing that is read is executed.
    """
    folder = Path(folder)
    if folder.is_file():
        from minigpt.exchange import gguf

        return gguf.from_file(folder, dtype)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; a model is a folder with {CONFIG} and {WEIGHTS}, or a GGUF file")
    refuse_pickle(folder)
    family, architecture, config = read_config(folder / CONFIG)
    stored, path = read_weights(folder)
    model: Any = model_of(config, stored, family, architecture, dtype, path)
    model.model_type = family.model_type
    return model.eval()


def save_pretrained(model: Module, folder: Path | str, tokenizer: Any = None) -> None:
    """Write a model as a folder that from_pretrained and transformers read, each file whole; the weights come last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents(model, tokenizer, largest=LARGEST_FILE):
        write_whole(folder / name, content)
        written.append(name)
    remove_other_weights(folder, written)


def contents(
    model: Any, tokenizer: Tokenizer | None = None, record: dict[str, Any] | None = None, largest: int = sys.maxsize
) -> Iterator[tuple[str, bytes]]:
    """The files of a model's folder in the order of writing, weights in files of at most `largest` bytes.

    `record` is what config.json says under "minigpt" besides; where the family's own settings do not name them, the tokens
    that begin, end and pad a text are the tokenizer's.  UserError if no family can say what the model is.
    """
    family, name = table_of(model)
    settings = write_settings(family, name, model.config)
    settings["torch_dtype"] = str(next(model.parameters()).dtype)
    if record:
        settings["minigpt"] = settings.get("minigpt", {}) | record
    if tokenizer is not None:
        yield from tokenizer_files(tokenizer, model.config.block_size)
        tokens = {f"{name}_token_id": tokenizer.special(name) for name in ("bos", "eos", "pad")}
        settings |= {key: token for key, token in tokens.items() if token is not None and key in family.written}
    yield CONFIG, to_json(settings)
    yield from weight_files(stored_tensors(model, family, family.classes[name]), largest)


def read_config(path: Path) -> tuple[Family, Architecture, Any]:
    """What a config.json says: the family, the class, and our configuration; UserError for what is not supported."""
    theirs = read_json(path)
    family = family_of(theirs.get("model_type"), path)
    names = theirs.get("architectures") or [next(iter(family.classes))]
    if not isinstance(names, list) or not names or names[0] not in [*family.classes]:
        raise UserError(f"{path} says architectures {names!r}, but only {', '.join(family.classes)} are known")
    architecture = family.classes[names[0]]
    return family, architecture, read_settings(family, architecture, theirs, path)


def table_of(model: Any) -> tuple[Family, str]:
    """The family to write a model in, and the name of its class there.

    It is the one that the model was read from, else the first that says everything about it: whose settings, written and
    read again, give the same configuration, and whose table names every parameter.
    """
    config: Any = model.config
    came_from = next((m.model_type for m in model.modules() if hasattr(m, "model_type")), None)
    for model_type in [came_from] if came_from else known():
        family = family_of(model_type, "the model")
        for name, architecture in family.classes.items():
            if type(model) is architecture.model and _says_all(family, name, config):
                return family, name
    raise UserError(f"no family of {came_from or ', '.join(known())} has a {type(model).__name__} with {config}")


def _says_all(family: Family, name: str, config: Any) -> bool:
    architecture = family.classes[name]
    try:
        again = read_settings(family, architecture, write_settings(family, name, config), "")
        layout(family, architecture, config)
    except (UserError, ValueError, AttributeError, LookupError):
        return False
    return config in (again, *(dataclasses.replace(again, **fields) for fields in architecture.absent.values()))
