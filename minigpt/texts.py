"""Texts as a BERT reads them: tokens with the special ones around them, in padded batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigpt.errors import MinigptError, UserError
from minigpt.examples import Batch, Example, by_length
from minigpt.tokenizer import Encoded, Tokenizer
from tensorgrad import Tensor

Text = str | tuple[str, str]  # one text, or two that belong together
NO_TARGETS = np.zeros(0, np.int64)


def several(texts: Sequence[Any], name: str = "texts") -> Sequence[Any]:
    """The texts themselves; UserError for one text alone, each letter of which would be taken for a text."""
    if isinstance(texts, str):
        raise UserError(f"{name} must be a list of texts, not one text, {texts[:40]!r}")
    return texts


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[Text], length: int, truncate: bool = False, control: bool = False
) -> list[Encoded]:
    """The tokens of each text, at most `length`; `control` as Tokenizer.encode_pair has it.

    UserError for one text instead of several, for a text without tokens, and for one that is longer unless `truncate`.
    """
    encoded = []
    for i, text in enumerate(several(texts)):
        a, b = (text, None) if isinstance(text, str) else text
        tokens = tokenizer.encode_pair(a, b, control=control)
        if not (tokens.texts >= 0).any():
            raise UserError(f"text {i + 1} is empty")
        if len(tokens) > length:
            if not truncate:
                raise UserError(
                    f"text {i + 1} has {len(tokens):,} tokens, but the model reads {length:,} at most; truncate cuts such texts"
                )
            tokens = tokenizer.encode_pair(a, b, length, control)
        encoded.append(tokens)
    return encoded


def batches(encoded: Sequence[Encoded], size: int) -> Iterator[tuple[np.ndarray, Batch]]:
    """All texts, the longest first, so that no later batch needs more memory: their numbers, and the batch, without targets."""
    return by_length([Example(tokens.ids, NO_TARGETS, tokens.segments) for tokens in encoded], size)


def numbers(outputs: Tensor) -> np.ndarray:
    """What a model made of texts, as an array; MinigptError at a nan, which would be ranked as if it were a number."""
    found = outputs.numpy()
    if np.isnan(found).any():
        raise MinigptError("the model's outputs are not numbers; its weights may be damaged")
    return found
