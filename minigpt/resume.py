"""Going on with a run: its settings, what may change, and the state of its trainer."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from minigpt import checkpoint, snapshots, tensorfile
from minigpt.config import PRESETS, TrainConfig, read_config_file
from minigpt.data import Corpus
from minigpt.errors import UserError
from minigpt.trainer import Trainer

FIXED = (
    "model",
    "tokenizer",
    "vocab_size",
    "lowercase",
    "n_layer",
    "n_head",
    "n_embd",
    "block_size",
    "bias",
    "optimizer",
    "sampling",
)  # what was learned, and the position in the text, fit these
OPTIMIZER, STATE = "optimizer.safetensors", "state.json"


def newest(out: Path) -> tuple[Path, list[str]]:
    """The set to go on with, and why newer ones cannot be believed; UserError if there is none."""
    if (out / snapshots.MANIFEST).exists():
        raise UserError(f"{out} is one checkpoint of a run; --resume takes the folder of the run, {out.parent.parent}")
    found, reasons = snapshots.newest(out)
    if found is None and reasons:
        raise UserError(f"no checkpoint in {out} can be read: {reasons[0]}")
    if found is None and (out / checkpoint.WEIGHTS).exists():
        raise UserError(f"{out} has weights only, neither optimizer nor position, so its training cannot go on")
    if found is None:
        raise UserError(f"{out} has no checkpoint to go on with")
    return found, reasons


def settings(out: Path, flags: dict[str, Any], config_file: str | None) -> TrainConfig:
    """The settings that a run was saved with, overridden by the configuration file, then by the flags.

    UserError if one of those that the weights and the optimizer depend on differs, or if there is nothing left to do.
    """
    path, _ = newest(out)
    saved = checkpoint.read_train_config(path)
    given = (read_config_file(Path(config_file)) if config_file is not None else {}) | flags
    if "out" in given and Path(given["out"]).resolve() != out.resolve():
        raise UserError(f"--resume writes to its own folder, {out}, so --out {given['out']} cannot be given with it")
    preset = PRESETS[given["preset"]] if given.get("preset") in PRESETS else {}
    config = TrainConfig(**dataclasses.asdict(saved) | preset | given | {"out": str(out)})
    if fixed := [name for name in FIXED if getattr(config, name) != getattr(saved, name)]:
        was, is_now = (", ".join(f"{name} {getattr(c, name)}" for name in fixed) for c in (saved, config))
        raise UserError(f"the run in {out} has {was}, so it cannot go on with {is_now}")
    done = snapshots.step_of(path)
    if done >= config.max_steps:
        raise UserError(f"the run in {out} has done {done} steps of {config.max_steps}; a larger --max-steps goes on with it")
    return config


def changed(saved: TrainConfig, config: TrainConfig) -> list[str]:
    """The settings that differ, as "name: old -> new"; where the folder is does not count."""
    names = [option.name for option in dataclasses.fields(TrainConfig) if option.name not in ("out", "preset")]
    pairs = [(name, getattr(saved, name), getattr(config, name)) for name in names]
    return [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]


def fingerprint(corpus: Corpus) -> str:
    """SHA-256 of the tokens, in hexadecimal: the same text in the same tokens."""
    total = hashlib.sha256()
    for tokens in (corpus.train, corpus.validation):
        total.update(np.ascontiguousarray(tokens).view(np.uint8).data)
    return total.hexdigest()


def restore(trainer: Trainer, path: Path, corpus: Corpus, text: str, config: TrainConfig) -> list[str]:
    """Put a trainer where the set at `path` was saved, and return what has changed since; `text` is the fingerprint now.

    UserError if the set is malformed, or the text has another vocabulary.
    """
    model, tokenizer = checkpoint.load(path)
    if tokenizer.pieces != corpus.tokenizer.pieces:
        raise UserError(
            f"{corpus.name} has another vocabulary ({corpus.tokenizer.vocab_size} tokens) than the text that the run in "
            f"{config.out} was trained on ({tokenizer.vocab_size} tokens)"
        )
    state = checkpoint.read_json(path / STATE)
    trainer.restore(model.state_dict(), tensorfile.read(path / OPTIMIZER), state)
    if trainer.step != snapshots.step_of(path):
        raise UserError(f"{path} is the state of step {trainer.step}")
    differences = changed(checkpoint.read_train_config(path), config)
    return differences if state.get("text") == text else [*differences, "the text"]
