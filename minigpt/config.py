"""One dataclass is the command line, the configuration file and the record kept with a trained model.

Only the standard library is imported here, so that help and mistaken flags are answered at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from minigpt.errors import UserError

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


LARGEST_FILE = 1 << 20  # bytes of a configuration file


def _option(default: Any, text: str, interval: str | None = None) -> Any:
    """A field with its help text and, for numbers, the interval of allowed values in mathematical notation."""
    return field(default=default, metadata={"help": text, "interval": interval})


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run; raises UserError on a value of the wrong type or outside its interval."""

    preset: Literal["nano", "baby", "gpt2"] = _option("nano", "settings to start from; the other flags override it")
    data: str | None = _option(
        None,
        "text: a UTF-8 file, JSON lines (.jsonl), either gzipped, a folder of them, or - (default: the manual inside Python)",
    )
    field: str = _option("text", "key of the text in JSON lines")
    out: str = _option(
        "minigpt-model", "folder for the model, its checkpoints, the metrics and the loss curve; the default takes a free number"
    )
    tokenizer: Literal["char", "bytes", "bpe"] = _option("char", "what a token is")
    vocab_size: int = _option(2048, "number of tokens that --tokenizer bpe learns", "[256, 2097152]")
    sampling: Literal["random", "epoch"] = _option("random", "windows at random places, or each once an epoch, shuffled")
    n_layer: int = _option(4, "transformer blocks", "[1, 1000]")
    n_head: int = _option(4, "attention heads; must divide n_embd", "[1, 65536]")
    n_embd: int = _option(128, "width of the model", "[1, 65536]")
    block_size: int = _option(64, "context length in tokens", "[1, 1048576]")
    batch_size: int = _option(12, "sequences that are computed at once", "[1, 1048576]")
    grad_accum: int = _option(1, "batches whose gradients make one step", "[1, 1048576]")
    checkpoint_activations: bool = _option(False, "compute each block again in the backward pass: less memory, same numbers")
    max_steps: int = _option(2000, "optimizer steps", "[1, 1000000000]")
    optimizer: Literal["adamw", "adam", "muon", "sgd", "rmsprop", "adagrad"] = _option(
        "adamw", "rule of the steps; muon moves the matrices of the blocks, adamw the rest"
    )
    shard_optimizer: bool = _option(False, "under mpiexec, divide the optimizer's state among the processes (ZeRO, stage 1)")
    schedule: Literal["warmup_cosine", "warmup_stable_decay", "cosine", "linear", "constant", "one_cycle", "plateau"] = _option(
        "warmup_cosine", "how the learning rate goes; plateau follows the validation loss"
    )
    learning_rate: float = _option(1e-3, "highest learning rate", "(0, 1000]")
    min_lr: float | None = _option(None, "learning rate at the end (default: a tenth of the highest)", "[0, 1000]")
    warmup_steps: int | None = _option(None, "steps of linear warm-up (default: a twentieth of max_steps)", "[0, 1000000000]")
    weight_decay: float = _option(0.1, "decay, on matrices only; added to the gradient but in adamw and muon", "[0, 1000]")
    beta1: float = _option(0.9, "decay of the mean of the gradient: the momentum of sgd and muon", "[0, 1)")
    beta2: float = _option(0.99, "decay of the mean of its square, in adam, adamw and rmsprop", "[0, 1)")
    grad_clip: float = _option(1.0, "largest global norm of the gradient, 0 for no limit", "[0, 1e30]")
    label_smoothing: float = _option(0.0, "part of each target that is spread over the vocabulary", "[0, 1)")
    skip_bad_steps: int = _option(0, "steps in a row with a loss or gradient that is not finite to pass over", "[0, 1000000]")
    dropout: float = _option(0.0, "probability of dropping an activation", "[0, 1)")
    bias: bool = _option(True, "biases in linear layers and layer norms")
    seed: int = _option(1337, "seed of every random choice", "[0, 18446744073709551615]")
    eval_interval: int = _option(250, "steps between evaluations; each also saves a checkpoint", "[1, 1000000000]")
    eval_batches: int = _option(20, "batches in an evaluation", "[1, 1000000000]")
    patience: int = _option(0, "evaluations without a better validation loss before training stops, 0 to go on", "[0, 1000000]")
    save_interval: int = _option(0, "steps between checkpoints besides those of evaluations, 0 for none", "[0, 1000000000]")
    keep_last: int = _option(2, "newest checkpoints to keep, besides the best", "[1, 1000000]")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            _check_value(option, getattr(self, option.name))
        if self.min_lr is None:
            object.__setattr__(self, "min_lr", self.learning_rate / 10)
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", self.max_steps // 20)
        self._check_together()

    def _check_together(self) -> None:
        assert self.min_lr is not None and self.warmup_steps is not None
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.min_lr > self.learning_rate:
            raise UserError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}")
        if self.warmup_steps > self.max_steps:
            raise UserError(f"warmup_steps {self.warmup_steps} is more than max_steps {self.max_steps}")


def value_types(option: dataclasses.Field[Any]) -> tuple[type, tuple[str, ...], bool]:
    """A field's plain type, its choices if it has a fixed set of them, and whether it may be None."""
    hint = _HINTS[option.name]
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = next(member for member in members if member is not types.NoneType)
    if typing.get_origin(plain) is Literal:
        return str, typing.get_args(plain), False
    return plain, (), types.NoneType in members


def _check_value(option: dataclasses.Field[Any], value: Any) -> None:
    kind, choices, optional = value_types(option)
    if value is None and optional:
        return
    if choices and value not in choices:
        raise UserError(f"{option.name} must be one of {', '.join(choices)}, not {value!r}")
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:
        article = "an" if kind is int else "a"
        noun = {int: "integer", float: "number", bool: "boolean", str: "string"}[kind]
        raise UserError(f"{option.name} must be {article} {noun}, not {value!r}")
    interval = option.metadata["interval"]
    if interval is not None and not _inside(value, interval):
        raise UserError(f"{option.name} must be in {interval}, not {value}")


def _inside(value: float, interval: str) -> bool:
    """Membership in an interval such as "[0, 1)"; every comparison is false for NaN, so NaN is inside none."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = low <= value if interval[0] == "[" else low < value
    below = value <= high if interval[-1] == "]" else value < high
    return above and below


_HINTS = typing.get_type_hints(TrainConfig)
NAMES = tuple(option.name for option in dataclasses.fields(TrainConfig))


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


def suggest(word: str, known: typing.Iterable[str]) -> str:
    """A tail for an error message that offers the known words closest to a mistyped one."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
