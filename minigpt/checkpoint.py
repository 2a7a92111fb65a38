"""A model that minigpt has trained, or any other, with its tokenizer: a Hugging Face folder that also says how it was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt import snapshots
from minigpt.config import NAMES, TrainConfig
from minigpt.errors import UserError
from minigpt.exchange import pretrained
from minigpt.exchange.storage import CONFIG, WEIGHTS, has_weights, read_json
from minigpt.files import write_whole
from minigpt.finetuning import adapter
from minigpt.finetuning.lora import merge
from minigpt.tokenizer import Tokenizer
from minigpt.tokenizer_file import load_tokenizer
from tensorgrad.nn import Module

FILES = ("tokenizer.json", "tokenizer_config.json", CONFIG, WEIGHTS)


def save(folder: Path | str, model: Module, tokenizer: Tokenizer, train_config: TrainConfig | None = None) -> None:
    """Write the model's folder, each file whole or not at all; the weights come last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(model, tokenizer, train_config):
        write_whole(folder / name, content)


def contents(model: Module, tokenizer: Tokenizer, train_config: TrainConfig | None = None) -> Iterator[tuple[str, bytes]]:
    """The names of FILES, in their order, and what belongs into them."""
    record = {} if train_config is None else {"train": dataclasses.asdict(train_config)}
    return pretrained.contents(model, tokenizer, record)


def load(folder: Path | str) -> tuple[Any, Tokenizer]:
    """The model (in evaluation mode, float32) and the tokenizer of a folder that `save` or transformers wrote, or a GGUF file.

    An adapter is read on top of the model that it was made for. Without weights of its own, the folder's newest checkpoint
    that is undamaged is read. UserError, one sentence, if anything is missing, malformed, unsupported, damaged or does not
    fit together.
    """
    folder = Path(folder)
    if folder.is_file():
        from minigpt.exchange import gguf

        return _fitting(*gguf.load(folder), folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; a model is a folder that minigpt train has written, or a GGUF file")
    base = adapter.base_of(folder)
    if base is None and not has_weights(folder):
        folder = snapshots.newest(folder)[0] or folder
    model: Any = pretrained.from_pretrained(folder) if base is None else adapter.adapt(load(base)[0], folder)
    return _fitting(model, load_tokenizer(folder / "tokenizer.json"), folder)


def _fitting(model: Any, tokenizer: Tokenizer, where: Path) -> tuple[Any, Tokenizer]:
    """Both, if the model knows every token."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, but the model has {model.config.vocab_size}")
    return model, tokenizer


def load_writer(folder: Path | str) -> tuple[Any, Tokenizer]:
    """`load`, of a model that continues texts, with its adapter, if it has one, added to it; UserError for any other."""
    model, tokenizer = load(folder)
    if not continues(model):
        raise UserError(f"{folder} holds a {type(model).__name__}; this needs a model that continues texts, such as GPT")
    merge(model)
    return model, tokenizer


def continues(model: Any) -> bool:
    """Whether a model predicts the next token of a text."""
    return hasattr(model, "new_cache") and not hasattr(model, "encode")


def read_train_config(folder: Path) -> TrainConfig:
    """The settings that the model in a folder was trained with; UserError if it does not say, or they are no settings."""
    path = folder / "config.json"
    record = read_json(path).get("minigpt")
    settings = record.get("train") if isinstance(record, dict) else None
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not say how the model was trained")
    unknown = [name for name in settings if name not in NAMES]
    if unknown:
        raise UserError(f"{path} has a setting that is not known here: {unknown[0]!r}")
    try:
        return TrainConfig(**settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
