"""To fill gaps: some tokens are hidden, and predicted from what is on both sides (Devlin et al. 2019, section 3.1).

The gaps are drawn anew each time that a text is read (RoBERTa's dynamic masking; Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

import numpy as np

from minigpt.errors import UserError
from minigpt.objectives.objective import IGNORED, Batch
from minigpt.tokenizer import Tokenizer

RATE = 0.15  # of the tokens are predicted
HIDDEN, REPLACED = 0.8, 0.1  # of these; the others stay as they are


class Masked:
    """[CLS] window [SEP], the window losing its last two tokens for them.

    Each token, or with `whole_words` each word, is a target with probability 0.15; of the targets 80% read as [MASK], 10%
    as a random token, 10% as themselves. Special tokens are neither targets nor random tokens.
    """

    def __init__(self, tokenizer: Tokenizer, whole_words: bool = False) -> None:
        """UserError if the tokenizer lacks one of the special tokens."""
        self.mask, self.begin, self.end = (_needed(tokenizer, name) for name in ("mask", "cls", "sep"))
        self.whole_words = whole_words
        self.plain = np.ones(tokenizer.vocab_size, dtype=bool)
        self.plain[list(tokenizer.specials.values())] = False
        self.begins_word = np.array([piece[:1].isspace() for piece in tokenizer.pieces]) | ~self.plain

    def __call__(self, ids: np.ndarray, following: np.ndarray, rng: np.random.Generator) -> Batch:
        inputs = np.empty_like(ids)
        inputs[:, 0], inputs[:, 1:-1], inputs[:, -1] = self.begin, ids[:, :-2], self.end
        plain = self.plain[inputs]
        chosen = plain & self._drawn(inputs, rng)
        targets = np.where(chosen, inputs, IGNORED)
        fate = rng.random(inputs.shape)
        random = rng.choice(np.flatnonzero(self.plain), inputs.shape)
        inputs = np.where(chosen & (fate < HIDDEN), self.mask, inputs)
        inputs = np.where(chosen & (fate >= HIDDEN) & (fate < HIDDEN + REPLACED), random, inputs)
        return Batch((inputs,), targets)

    def _drawn(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B, T): True with probability RATE, by itself or as its whole word is."""
        drawn = rng.random(ids.shape) < RATE
        if not self.whole_words:
            return drawn
        begins = self.begins_word[ids]
        begins[:, 0] = True
        first = np.maximum.accumulate(np.where(begins, np.arange(ids.shape[1]), 0), axis=1)
        return np.take_along_axis(drawn, first, axis=1)

    def target_counts(self, tokens: np.ndarray, block: int, vocab_size: int) -> np.ndarray:
        """(V,): of every token but the special ones, which are all equally likely to be hidden."""
        return np.bincount(tokens, minlength=vocab_size) * self.plain


def _needed(tokenizer: Tokenizer, name: str) -> int:
    token = tokenizer.special(name)
    if token is None:
        raise UserError(f"to fill gaps a tokenizer needs a {name} token, and this one, of kind {tokenizer.kind}, has none")
    return token
