"""A tokenizer as files, in and out: tokenizer.json and what stands beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError
from minigpt.lossless import Lossless, kind_of
from minigpt.subwords import Subwords
from minigpt.tokenizer import SPECIAL_NAMES, Tokenizer, short

LARGEST_FILE = 64 << 20  # bytes


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json, with the tokenizer_config.json and chat_template.jinja of its folder, if they are there.

    UserError if one is missing, malformed or too long.
    """
    content = _read(path)
    settings = _settings(path.parent)
    try:
        text = content.decode("utf-8")
        _check_ids(json.loads(text))
        return wrapped(Backend.from_str(text), settings)
    except (KeyboardInterrupt, MemoryError):
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except BaseException as error:  # the tokenizers library raises bare Exception, and where it panics not even that
        raise UserError(f"{path} is not a tokenizer file: {short(error)}") from None


def wrapped(backend: Backend, settings: dict[str, Any] | None = None) -> Tokenizer:
    """A tokenizer of the `tokenizers` library as ours; `settings` is what tokenizer_config.json says."""
    lossless = kind_of(json.loads(backend.to_str())) is not None
    return Lossless(backend, settings) if lossless else Subwords(backend, settings)


def tokenizer_files(tokenizer: Tokenizer, length: int | None) -> Iterator[tuple[str, bytes]]:
    """tokenizer.json and tokenizer_config.json, which says what it said when it was read, else what transformers must know.

    `length` is how many tokens the model takes, None where it has no limit.
    """
    yield "tokenizer.json", tokenizer.backend.to_str(pretty=True).encode()
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if length is not None:
        settings["model_max_length"] = length
    ids = {name: tokenizer.special(name) for name in SPECIAL_NAMES}
    settings |= {f"{name}_token": tokenizer.words[token] for name, token in ids.items() if token is not None}
    yield "tokenizer_config.json", (json.dumps(settings | tokenizer.settings, indent=2) + "\n").encode()


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with the chat template that newer folders keep in a file of its own."""
    path, settings = folder / "tokenizer_config.json", {}
    if path.exists():
        try:
            settings = json.loads(_read(path))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not valid JSON: {short(error)}") from None
        if not isinstance(settings, dict):
            raise UserError(f"{path} must hold an object, not a {type(settings).__name__}")
    template = folder / "chat_template.jinja"
    if template.exists():
        settings = settings | {"chat_template": _read(template).decode("utf-8", errors="replace")}
    return settings


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{path} is more than {LARGEST_FILE >> 20} MiB, so it is no tokenizer file")
    return content


def _check_ids(description: Any) -> None:
    """UserError for a token id beyond the number of tokens; the library would count up to it."""
    model = description.get("model") if isinstance(description, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        added = description.get("added_tokens")
        count = len(vocab) + (len(added) if isinstance(added, list) else 0)
        for word, token in vocab.items():
            if type(token) is not int or not 0 <= token < count:
                where = f"token {short(repr(word))} has id {short(repr(token))}"
                raise UserError(f"the ids of its {count} tokens do not run from 0 to {count - 1}: {where}")
