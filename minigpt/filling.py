"""The words that a model would put where a text has a mask, [MASK] or as its tokenizer spells it (Devlin et al. 2019, task 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.models.heads import MaskedLM
from minigpt.texts import batches, encode_texts, numbers
from minigpt.tokenizer import Encoded, Tokenizer


@dataclass(frozen=True)
class Guess:
    """A token, how it is spelled, and how likely it is."""

    token: int
    word: str
    probability: float


def fill_mask(
    model: Any, tokenizer: Tokenizer, texts: Sequence[str], count: int = 5, truncate: bool = False, batch_size: int = 32
) -> list[list[list[Guess]]]:
    """For each text, and each mask in it, the `count` likeliest tokens, likeliest first; other masks stay masked.

    Control tokens that are spelled out in a text are read as such.  UserError for a model that was not made to fill masks,
    and for a text that has none, or is longer than the model can read unless `truncate`.
    """
    if not isinstance(model, MaskedLM):
        raise UserError(f"a {type(model).__name__} fills no masks; minigpt train --model bert makes a model that does")
    mask = tokenizer.special("mask")
    if mask is None:
        raise UserError("the tokenizer has no token for a mask")
    encoded = encode_texts(tokenizer, texts, model.config.block_size, truncate, control=True)
    _check(tokenizer, encoded, mask, model.config.block_size)
    found: list[list[list[Guess]]] = [[] for _ in texts]
    for rows, batch in batches(encoded, batch_size):
        places = np.nonzero(batch.mask & (batch.ids == mask))
        with tg.no_grad():
            logits = model(batch.ids, batch.segments, batch.mask, where=places)
            probabilities = numbers(tg.softmax(logits))[:, : tokenizer.vocab_size]
        for row, likely in zip(rows[places[0]], probabilities, strict=True):
            best = np.argsort(-likely, kind="stable")[:count]
            found[row].append(
                [Guess(int(i), tokenizer.decode([i]).strip() or tokenizer.words[i], float(likely[i])) for i in best]
            )
    return found


def _check(tokenizer: Tokenizer, encoded: Sequence[Encoded], mask: int, length: int) -> None:
    """UserError for a text without a mask."""
    for i, tokens in enumerate(encoded):
        if mask not in tokens.ids:
            cut = f" among its first {length:,} tokens" if len(tokens) == length else ""
            raise UserError(f"text {i + 1} has no {tokenizer.words[mask]}{cut}: write it where a word is to be guessed")
