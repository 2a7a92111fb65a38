"""A pretrained BERT under a head for a task."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from minigpt.errors import UserError
from minigpt.exchange.pretrained import table_of
from minigpt.models.bert import BERT
from tensorgrad.nn import Module


def bare(model: Any) -> BERT:
    """The BERT in a model; UserError if there is none."""
    found = getattr(model, "bert", model)
    if not isinstance(found, BERT):
        raise UserError(f"a {type(model).__name__} writes text; this needs a model that reads in both directions, as BERT does")
    return found


def with_head(model: Module, head: Any, labels: tuple[str, ...], rng: np.random.Generator) -> Module:
    """The model itself if it has this class and these labels, else its BERT under a new `head`.

    A pooler that the model lacks is new too, of the kind that the family's classifiers have. UserError if the family has none.
    """
    base = bare(model)
    if type(model) is head and model.config.labels == labels:  # type: ignore[attr-defined]
        return model
    family, _ = table_of(model)
    architecture = next((known for known in family.classes.values() if known.model is head), None)
    if architecture is None:
        raise UserError(f"no {head.__name__} of the family {family.model_type} is known")
    config = dataclasses.replace(base.config, labels=labels, **architecture.config)
    new = head(config, rng, base.wte.weight.dtype)
    kept = dict(new.bert.named_parameters())
    new.bert.load_state_dict({name: value for name, value in base.state_dict().items() if name in kept}, strict=False)
    new.model_type = family.model_type
    return new
