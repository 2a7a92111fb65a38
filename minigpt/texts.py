"""Texts as a BERT reads them: tokens with the special ones around them, in padded batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.errors import UserError
from minigpt.tokenizer import Encoded, Tokenizer

Text = str | tuple[str, str]  # one text, or two that belong together


@dataclass(frozen=True)
class Batch:
    """B texts, padded on the right with token 0 to T tokens; `rows` (B,) says which ones."""

    rows: np.ndarray
    ids: np.ndarray  # (B, T)
    segments: np.ndarray  # (B, T)
    mask: np.ndarray  # (B, T): True at tokens


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[Text], length: int, truncate: bool = False, control: bool = False
) -> list[Encoded]:
    """The tokens of each text, at most `length`; `control` as Tokenizer.encode_pair has it.

    UserError for a text without tokens, and for one that is longer unless `truncate`.
    """
    encoded = []
    for i, text in enumerate(texts):
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


def batches(encoded: Sequence[Encoded], size: int) -> Iterator[Batch]:
    """All texts, `size` at a time, the longest first, so that there is little padding and no later batch needs more memory."""
    order = np.argsort([-len(tokens) for tokens in encoded], kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield padded([encoded[row] for row in rows], rows)


def padded(encoded: Sequence[Encoded], rows: np.ndarray) -> Batch:
    """Some texts as one batch."""
    lengths = np.array([len(tokens) for tokens in encoded])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids, segments = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate([tokens.ids for tokens in encoded])
    segments[mask] = np.concatenate([tokens.segments for tokens in encoded])
    return Batch(rows, ids, segments, mask)
