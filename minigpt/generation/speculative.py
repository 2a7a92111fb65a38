"""Prompt lookup: guess the next tokens from what followed the same words before, and verify the guess in one step.

The model reads the guessed tokens at once, which costs hardly more than reading one, for the weights are read once. Its
own choice is then made position by position exactly as without a guess, with the same random numbers, until it differs
from the guess. So what is generated is the same, drawn from the same distribution (Leviathan et al. 2023, section 2.3,
with a draft that is certain of its guess: it is accepted with the probability that the model gives it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def lookup(ids: Sequence[int], most: int, longest: int) -> list[int]:
    """Up to `most` tokens that followed the latest earlier place with the longest same ending, of `longest` tokens or fewer."""
    text = np.array(ids, np.int64)
    for size in range(min(longest, len(text) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
        places = np.flatnonzero((windows == text[len(text) - size :]).all(axis=1))
        if places.size:
            start = int(places[-1]) + size
            return text[start : start + most].tolist()
    return []
