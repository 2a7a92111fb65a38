"""One dataclass is the command line, the configuration file and the record kept with a trained model.

Only the standard library is imported here, so that help and mistaken flags are answered at once.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minigpt.errors import UserError
from minigpt.options import check_value, option, suggest

PRESETS: dict[str, dict[str, Any]] = {
    "nano": {},
    "baby": {
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 384,
        "block_size": 256,
        "batch_size": 16,
        "max_steps": 5000,
        "warmup_steps": 100,
        "dropout": 0.2,
    },
    "gpt2": {
        "tokenizer": "bpe",
        "vocab_size": 50257,
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "block_size": 1024,
        "batch_size": 4,
        "max_steps": 100_000,
        "learning_rate": 6e-4,
        "warmup_steps": 2000,
        "beta2": 0.95,
        "eval_interval": 1000,
    },
}


SHORTEST = {"gpt": 1, "bert": 3, "t5": 2}  # windows: a bert's loses two tokens for [CLS] and [SEP], some of a t5's stays
LARGEST_FILE = 1 << 20  # bytes of a configuration file


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run; raises UserError on a value of the wrong type or outside its interval."""

    preset: Literal["nano", "baby", "gpt2"] = option("nano", "settings to start from; the other flags override it")
    data: str | None = option(
        None,
        "text: a UTF-8 file, JSON lines (.jsonl), either gzipped, a folder of them, or - (default: the manual inside Python)",
    )
    field: str = option("text", "key of the text in JSON lines")
    out: str = option(
        "minigpt-model", "folder for the model, its checkpoints, the metrics and the loss curve; the default takes a free number"
    )
    model: Literal["gpt", "bert", "t5"] = option("gpt", "what is trained, and how: to write on, to fill gaps, to rewrite")
    tokenizer: Literal["char", "bytes", "bpe", "wordpiece", "unigram", "words"] | None = option(
        None, "what a token is (default: char; for bert wordpiece, for t5 unigram)"
    )
    vocab_size: int = option(2048, "number of tokens that a tokenizer other than char and bytes learns", "[256, 2097152]")
    lowercase: bool = option(False, "let wordpiece, unigram or words see small letters only")
    whole_words: bool = option(False, "let bert hide all of a word, or none of it")
    sampling: Literal["random", "epoch"] = option("random", "windows at random places, or each once an epoch, shuffled")
    n_layer: int = option(4, "transformer blocks", "[1, 1000]")
    n_head: int = option(4, "attention heads; must divide n_embd", "[1, 65536]")
    n_embd: int = option(128, "width of the model", "[1, 65536]")
    block_size: int = option(64, "context length in tokens", "[1, 1048576]")
    batch_size: int = option(12, "sequences that are computed at once", "[1, 1048576]")
    grad_accum: int = option(1, "batches whose gradients make one step", "[1, 1048576]")
    checkpoint_activations: bool = option(False, "compute each block again in the backward pass: less memory, same numbers")
    max_steps: int = option(2000, "optimizer steps", "[1, 1000000000]")
    optimizer: Literal["adamw", "adam", "muon", "sgd", "rmsprop", "adagrad"] = option(
        "adamw", "rule of the steps; muon moves the matrices of the blocks, adamw the rest"
    )
    shard_optimizer: bool = option(False, "under mpiexec, divide the optimizer's state among the processes (ZeRO, stage 1)")
    schedule: Literal["warmup_cosine", "warmup_stable_decay", "cosine", "linear", "constant", "one_cycle", "plateau"] = option(
        "warmup_cosine", "how the learning rate goes; plateau follows the validation loss"
    )
    learning_rate: float = option(1e-3, "highest learning rate", "(0, 1000]")
    min_lr: float | None = option(None, "learning rate at the end (default: a tenth of the highest)", "[0, 1000]")
    warmup_steps: int | None = option(None, "steps of linear warm-up (default: a twentieth of max_steps)", "[0, 1000000000]")
    weight_decay: float = option(0.1, "decay, on matrices only; added to the gradient but in adamw and muon", "[0, 1000]")
    beta1: float = option(0.9, "decay of the mean of the gradient: the momentum of sgd and muon", "[0, 1)")
    beta2: float = option(0.99, "decay of the mean of its square, in adam, adamw and rmsprop", "[0, 1)")
    grad_clip: float = option(1.0, "largest global norm of the gradient, 0 for no limit", "[0, 1e30]")
    label_smoothing: float = option(0.0, "part of each target that is spread over the vocabulary", "[0, 1)")
    skip_bad_steps: int = option(0, "steps in a row with a loss or gradient that is not finite to pass over", "[0, 1000000]")
    dropout: float = option(0.0, "probability of dropping an activation", "[0, 1)")
    bias: bool = option(True, "biases in linear layers and layer norms")
    seed: int = option(1337, "seed of every random choice", "[0, 18446744073709551615]")
    eval_interval: int = option(250, "steps between evaluations; each also saves a checkpoint", "[1, 1000000000]")
    eval_batches: int = option(20, "batches in an evaluation", "[1, 1000000000]")
    patience: int = option(0, "evaluations without a better validation loss before training stops, 0 to go on", "[0, 1000000]")
    save_interval: int = option(0, "steps between checkpoints besides those of evaluations, 0 for none", "[0, 1000000000]")
    keep_last: int = option(2, "newest checkpoints to keep, besides the best", "[1, 1000000]")

    def __post_init__(self) -> None:
        for name in NAMES:
            check_value(self, name)
        if self.tokenizer is None:
            object.__setattr__(self, "tokenizer", {"gpt": "char", "bert": "wordpiece", "t5": "unigram"}[self.model])
        if self.min_lr is None:
            object.__setattr__(self, "min_lr", self.learning_rate / 10)
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", self.max_steps // 20)
        self._check_together()

    def _check_together(self) -> None:
        assert self.min_lr is not None and self.warmup_steps is not None
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.block_size < SHORTEST[self.model]:
            raise UserError(f"block_size must be at least {SHORTEST[self.model]} for {self.model}, not {self.block_size}")
        if self.model != "gpt" and not self.bias:
            raise UserError(f"a model without biases can be asked for with gpt only: {self.model} has those of its paper")
        if self.whole_words and self.model != "bert":
            raise UserError(f"whole_words is about what a bert is not shown, so it cannot be given for {self.model}")
        if self.lowercase and self.tokenizer in ("char", "bytes", "bpe"):
            raise UserError(f"lowercase is for wordpiece, unigram and words: {self.tokenizer} gives back exactly the text")
        if self.min_lr > self.learning_rate:
            raise UserError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}")
        if self.warmup_steps > self.max_steps:
            raise UserError(f"warmup_steps {self.warmup_steps} is more than max_steps {self.max_steps}")


NAMES = tuple(f.name for f in dataclasses.fields(TrainConfig))


def resolve(flags: dict[str, Any], config_file: str | None = None) -> TrainConfig:
    """The settings in force: defaults, overridden by the preset, then the configuration file, then the flags."""
    from_file = read_config_file(Path(config_file)) if config_file is not None else {}
    given = from_file | flags
    preset = given.get("preset", "nano")
    return TrainConfig(**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}) | given)


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings in a TOML or JSON file; UserError if it is unreadable, malformed or has an unknown key."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path} is longer than {LARGEST_FILE} bytes, so it is no configuration file")
        text = content.decode("utf-8")
        settings = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"cannot read the configuration file {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a valid {path.suffix.lstrip('.').upper() or 'TOML'} file: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} must hold keys and values, not a {type(settings).__name__}")
    for key in settings:
        if key not in NAMES:
            raise UserError(f"unknown key {key!r} in {path}{suggest(key, NAMES)}")
    return settings
