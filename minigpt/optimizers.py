"""tensorgrad's optimizers by name, and what they remember as arrays named after the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from tensorgrad.nn import Module

_SLOTS = {  # what each rule remembers of a parameter
    tg.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    tg.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    tg.optim.Muon: {"momentum_buffer"},
    tg.optim.SGD: {"momentum_buffer"},
    tg.optim.RMSprop: {"step", "square_avg"},
    tg.optim.Adagrad: {"step", "sum"},
}


def build(config: TrainConfig, model: Module) -> list[tg.optim.Optimizer]:
    """The optimizers that together move every parameter once; decay is on matrices only."""
    groups = tg.optim.decay_groups(model, config.weight_decay)
    lr, betas = config.learning_rate, (config.beta1, config.beta2)
    match config.optimizer:
        case "adam":
            return [tg.optim.Adam(groups, lr=lr, betas=betas)]
        case "sgd":
            return [tg.optim.SGD(groups, lr=lr, momentum=config.beta1)]
        case "rmsprop":
            return [tg.optim.RMSprop(groups, lr=lr, alpha=config.beta2)]
        case "adagrad":
            return [tg.optim.Adagrad(groups, lr=lr)]
        case "muon":
            return _muon(config, groups)
        case _:
            return [tg.optim.AdamW(groups, lr=lr, betas=betas)]


def _muon(config: TrainConfig, groups: list[dict[str, Any]]) -> list[tg.optim.Optimizer]:
    """Muon for the matrices of the blocks, scaled so that AdamW's rates suit it; AdamW for embeddings, biases and gains."""
    inside = lambda name: ".h." in f".{name}"
    matrices = [(name, p) for name, p in groups[0]["params"] if inside(name)]
    groups[0]["params"] = [(name, p) for name, p in groups[0]["params"] if not inside(name)]
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    muon = tg.optim.Muon(matrices, momentum=config.beta1, adjust_lr_fn="match_rms_adamw", **settings)
    return [muon, tg.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))]


def state(optimizers: Sequence[tg.optim.Optimizer]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Arrays named "parameter/slot", and the number of steps of each parameter that counts them."""
    arrays: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for optimizer in optimizers:
        for name, p in _named(optimizer).items():
            for slot, value in optimizer.state.get(p, {}).items():
                if isinstance(value, np.ndarray):
                    arrays[f"{name}/{slot}"] = value
                else:
                    counts[name] = value
    return arrays, counts


def restore(optimizers: Sequence[tg.optim.Optimizer], arrays: Mapping[str, np.ndarray], counts: Any) -> None:
    """Take over a state, by name; UserError if it names other parameters, or is not of their shapes."""
    if not isinstance(counts, dict) or not all(type(count) is int and count >= 0 for count in counts.values()):
        raise UserError("the optimizer's numbers of steps are malformed")
    entries: dict[str, dict[str, Any]] = {name: {"step": count} for name, count in counts.items()}
    for key, value in arrays.items():
        name, _, slot = key.rpartition("/")
        entries.setdefault(name, {})[slot] = value
    known = {name for optimizer in optimizers for name in _named(optimizer)}
    if strange := sorted(entries.keys() - known):
        raise UserError(f"the saved optimizer moves {strange[0]!r}, which this model does not have")
    if entries and (lacking := sorted(known - entries.keys())):
        raise UserError(f"the saved optimizer knows nothing of {lacking[0]!r}")
    for optimizer in optimizers:
        for name in _named(optimizer).keys() & entries.keys():
            if entries[name].keys() != _SLOTS[type(optimizer)]:
                raise UserError(f"the saved optimizer remembers {sorted(entries[name])} of {name!r}, which do not fit")
        saved = optimizer.state_dict()
        saved["state"] = {i: entries[name] for i, name in enumerate(_named(optimizer)) if name in entries}
        try:
            optimizer.load_state_dict(saved)
        except (ValueError, TypeError) as error:
            raise UserError(f"the saved optimizer does not fit: {error}") from None


def _named(optimizer: tg.optim.Optimizer) -> dict[str, tg.Tensor]:
    return {name: p for group in optimizer.param_groups for name, p in zip(group["param_names"], group["params"], strict=True)}
