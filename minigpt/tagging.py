"""A tag for each word of a text, by a model that was fine-tuned to tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.models.heads import TokenClassifier
from minigpt.texts import batches, encode_texts, numbers, several
from minigpt.tokenizer import Encoded, Tokenizer

Tagged = list[tuple[str, str]]  # words and their tags


def first_tokens(words: Sequence[str], found: Encoded) -> np.ndarray:
    """The place of each word's first token among those of " ".join(words), as far as the tokens go."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    tokens = np.flatnonzero(found.texts == 0)
    ends = found.offsets[tokens, 1]
    covered = starts < (ends.max() if len(ends) else 0)
    return tokens[np.searchsorted(ends, starts[covered], side="right")]


def tag(model: Any, tokenizer: Tokenizer, texts: Sequence[str], truncate: bool = False, batch_size: int = 32) -> list[Tagged]:
    """The words between spaces, each with its tag; with `truncate`, only as many words as the model can read.

    UserError for a model that was not made to tag, and for a text that is empty, or longer than that unless `truncate`.
    """
    if not isinstance(model, TokenClassifier):
        raise UserError(f"a {type(model).__name__} tags no words; minigpt finetune --task tag makes a model that does")
    split = [text.split() for text in several(texts)]
    encoded = encode_texts(tokenizer, [" ".join(words) for words in split], model.config.block_size, truncate)
    out: list[Tagged] = [[] for _ in texts]
    for rows, batch in batches(encoded, batch_size):
        with tg.no_grad():
            best = numbers(model(batch.ids, batch.segments, batch.mask)).argmax(axis=-1)
        for labels, row in zip(best, rows, strict=True):
            tags = [model.config.labels[label] for label in labels[first_tokens(split[row], encoded[row])]]
            out[row] = list(zip(split[row], tags, strict=False))
    return out
