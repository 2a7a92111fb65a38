"""A token that ends a text, for models that were trained without one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from minigpt.tokenizer import END_OF_TEXT, Tokenizer
from minigpt.tokenizer_file import wrapped
from tensorgrad.nn import Module


def with_end(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself if it has such a token, else one that has it as its last."""
    if tokenizer.end_of_text is not None:
        return tokenizer
    backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
    backend.add_special_tokens([END_OF_TEXT])
    return wrapped(backend, tokenizer.settings)


def grown(model: Any, tokens: int) -> Module:
    """The model itself if it knows so many tokens, else one that does: a new token starts as the mean of the others."""
    config = model.config
    if config.vocab_size >= tokens:
        return model
    new = type(model)(dataclasses.replace(config, vocab_size=tokens), np.random.default_rng(0), model.wte.weight.dtype)
    old = dict(model.named_parameters())
    for name, p in new.named_parameters():
        values = old[name].data
        missing = len(p.data) - len(values)
        p.data = np.concatenate([values, np.repeat(values.mean(axis=0, keepdims=True), missing, axis=0)])
    if hasattr(model, "model_type"):
        new.model_type = model.model_type
    return new
