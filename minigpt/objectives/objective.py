"""What an objective is: it makes windows of a text into what a model reads and what it should predict."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from minigpt.models.layers import IGNORED


class Batch(NamedTuple):
    """What the model is called with, arrays (B, ..), and the targets (B, T) of its logits, IGNORED where there is none."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


class Objective(Protocol):
    """Makes ids (B, T) and the tokens that follow each, (B, T), into a batch; the same stream gives the same batch."""

    def __call__(self, ids: np.ndarray, following: np.ndarray, rng: np.random.Generator) -> Batch: ...

    def target_counts(self, tokens: np.ndarray, block: int, vocab_size: int) -> np.ndarray:
        """How often each token is a target, (V,), up to a factor, in expectation over a text read in windows of `block`."""
        ...


def unigram_loss(counts: np.ndarray, targets: np.ndarray) -> float:
    """Mean -log p(target) in nats where there is one, p as frequent as the counts, smoothed as in minigpt.baselines.

    p(w) = (c(w) + t / V) / (sum c + t), t the number of tokens with a count.
    """
    different = np.count_nonzero(counts)
    p = (counts + different / len(counts)) / (counts.sum() + different)
    return float(-np.log(p[targets[targets != IGNORED]]).mean())
