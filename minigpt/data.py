"""The text to train on, as token ids: split into a part to train on and a part to validate on, and cut into windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minigpt.config import SHORTEST, TrainConfig
from minigpt.errors import UserError
from minigpt.manual import Manual
from minigpt.sources import open_source
from minigpt.tokenizer import Tokenizer
from minigpt.tokens import tokenize
from minigpt.vocabularies import Vocabulary


@dataclass(frozen=True)
class Corpus:
    """A text, tokenized: the first nine tenths of its characters to train on, the rest to validate on."""

    name: str
    tokenizer: Tokenizer
    train: np.ndarray  # (n,) of the smallest unsigned type
    validation: np.ndarray
    validation_characters: int


def load_corpus(config: TrainConfig) -> Corpus:
    """Read, split and tokenize, or find it done already.

    UserError if the text is unreadable or has too few tokens for one window of block_size + 1.
    """
    text = Manual() if config.data is None else open_source(config.data, config.field)
    tokens = tokenize(text, Vocabulary(config.tokenizer or "", config.vocab_size, config.model, config.lowercase))
    train, validation = tokens.ids[: tokens.cut], tokens.ids[tokens.cut :]
    shortest = max(2, SHORTEST[config.model])
    for part, ids, least in (("first 90%", train, config.block_size + 1), ("last 10%", validation, shortest + 1)):
        if len(ids) < least:
            raise UserError(
                f"{text.name} is too short: its {part} has {len(ids)} tokens, and block_size {config.block_size} "
                f"needs at least {least} there"
            )
    return Corpus(text.name, tokens.tokenizer, train, validation, tokens.validation_characters)


def random_batch(tokens: np.ndarray, batch: int, block: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows at random places: ids (batch, block) and the tokens that follow each of them, (batch, block), int64."""
    return windows(tokens, rng.integers(0, len(tokens) - block, size=batch), block)


def windows(tokens: np.ndarray, starts: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows that begin at `starts` (b,): ids (b, block) and targets, the same moved on by one."""
    cut = tokens[starts[:, None] + np.arange(block + 1)].astype(np.int64)  # (b, block + 1)
    return cut[:, :-1], cut[:, 1:]
