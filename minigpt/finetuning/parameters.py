"""Which parameters learn, and how fast: by how deep in the model they are."""

from __future__ import annotations

import re
from typing import Any

from minigpt.errors import UserError
from minigpt.finetuning.settings import FinetuneConfig
from tensorgrad.nn import Module

_LAYER = re.compile(r"(?:^|\.)h\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(wte|wpe|wse|ln_e|ln|positions|distance|map_in)\.")  # as the models name them


def depth(name: str, layers: int) -> int:
    """0 for embeddings, i for layer i from 1, layers + 1 for what comes after them, such as a head."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if _EMBEDDING.search(name) else layers + 1


def freeze(model: Any, which: str) -> None:
    """Let embeddings, those and the first N layers, or all but the head learn nothing; UserError if there are no N layers, or
    nothing is left."""
    layers = _layers(model)
    if which == "none":
        return
    last = {"embeddings": 0, "all": layers}.get(which, int(which) if which.isdecimal() else 0)
    if last > layers:
        raise UserError(f"freeze {which} is more than the {layers} layers of the model")
    for name, p in model.named_parameters():
        if depth(name, layers) <= last:
            p.requires_grad = False
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"freeze {which} leaves nothing of the model to learn")


def groups(model: Module, config: FinetuneConfig) -> list[dict[str, Any]]:
    """What an optimizer moves: parameters of one depth in two groups, matrices, which decay, and the rest.

    `share` is what they take of the learning rate: layer_decay to the power of their distance from the head (Howard and
    Ruder 2018, section 3.2).
    """
    layers = _layers(model)
    found: dict[tuple[int, bool], list[Any]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            found.setdefault((depth(name, layers), p.ndim >= 2), []).append((name, p))
    return [
        {
            "params": params,
            "share": config.layer_decay ** (layers + 1 - deep),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (deep, decays), params in found.items()
    ]


def _layers(model: Module) -> int:
    numbers = [int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))]
    return max(numbers, default=-1) + 1
