"""Markov models of order 0, 1 and 2, to measure a trained model against: counting, no training.

Interpolated Witten-Bell smoothing (Witten and Bell 1991; Chen and Goodman 1999, section 2.4), for a history h that was
seen c(h) times and was followed by t(h) different tokens:

    P(w | h) = (c(h w) + t(h) P(w | h without its oldest token)) / (c(h) + t(h)),

down to the uniform distribution below order 0.
"""

from __future__ import annotations

import numpy as np

NAMES = ("unigram", "bigram", "trigram")


class _Counts:
    """How often each packed n-gram occurs; looked up by binary search, so memory follows the text, not V**n."""

    def __init__(self, codes: np.ndarray) -> None:
        self.codes, self.counts = np.unique(codes, return_counts=True)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.counts[at], 0)


def markov_losses(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Mean -log P(token | tokens before), in nats, over validation[2:], of a model of each order fitted on train.

    Needs at least three tokens in each part, and a vocabulary below 2**21 so that three ids fit in 63 bits.
    """
    train, validation = train.astype(np.int64), validation.astype(np.int64)
    probability = np.full(len(validation) - 2, 1 / vocab_size)
    losses = {}
    for order, name in enumerate(NAMES):
        seen, asked = (_ngrams(tokens, order + 1, vocab_size) for tokens in (train, validation))
        grams = _Counts(seen)
        histories, followers = _Counts(seen // vocab_size), _Counts(grams.codes // vocab_size)
        asked = asked[2 - order :]  # the same tokens are predicted at every order
        count, different = histories(asked // vocab_size), followers(asked // vocab_size)
        total = np.maximum(count + different, 1)
        smoothed = (grams(asked) + different * probability) / total
        probability = np.where(count > 0, smoothed, probability)
        losses[name] = float(-np.log(probability).mean())
    return losses


def _ngrams(tokens: np.ndarray, n: int, vocab_size: int) -> np.ndarray:
    """All runs of n tokens, each packed into one integer in base V, the oldest token first: (len - n + 1,)."""
    codes = np.zeros(len(tokens) - n + 1, dtype=np.int64)
    for i in range(n):
        codes = codes * vocab_size + tokens[i : len(tokens) - n + 1 + i]
    return codes
