"""To go on: each token is predicted from those before it."""

from __future__ import annotations

import numpy as np

from minigpt.objectives.objective import Batch


class Causal:
    """The windows as they are, and the tokens that follow; nothing is left to chance."""

    def __call__(self, ids: np.ndarray, following: np.ndarray, rng: np.random.Generator) -> Batch:
        return Batch((ids,), following)

    def target_counts(self, tokens: np.ndarray, block: int, vocab_size: int) -> np.ndarray:
        """(V,): of every token."""
        return np.bincount(tokens, minlength=vocab_size).astype(float)
