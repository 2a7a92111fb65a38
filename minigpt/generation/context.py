"""What the model has read: token sequences, the window of each that it sees, and a key-value cache over the windows.

Rows of unequal length are padded on the left, so that all end together. While a sequence fits the model's context, its
window is all of it, and each step runs the model on the new tokens only. What is kept of a token depends on its position and
on all before it, so a full window cannot simply be moved: when a sequence outgrows it, its window starts again with the
newest half and is read from there (`window_start`). Each token is thus predicted from between half and the whole of the
context, by a rule that depends on nothing but its own sequence: not on the cache, the batch, or what was read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.models.cache import KeyValueCache


def window_start(length: int, block_size: int) -> int:
    """Where the window begins that predicts the token after `length` tokens; it moves by half a block at a time."""
    if length <= block_size:
        return 0
    step = max(1, block_size // 2)
    return -(-(length - block_size) // step) * step


class Context:
    """B sequences, prompts at first, and a cache with room for `extra` more tokens of each."""

    def __init__(self, model: Any, prompts: Iterable[Sequence[int]], extra: int):
        self.model = model
        self.sequences = [[int(token) for token in prompt] for prompt in prompts]
        self._final = max(map(len, self.sequences), default=0) + extra
        self._cache: Sequence[KeyValueCache] | None = None
        self._starts: list[int] = []
        self._width = 0  # tokens in the longest window

    def extend(self, tokens: Sequence[int]) -> None:
        """One more token for each row."""
        for sequence, token in zip(self.sequences, tokens, strict=True):
            sequence.append(token)
        self._width += 1

    def cut(self, count: int) -> None:
        """Take back the last `count` tokens of every row, a guess that was read. What comes instead must be the guess's own
        tokens and one more; then `trim`."""
        for sequence in self.sequences if count else ():
            del sequence[-count:]
        self._width -= count

    def trim(self) -> None:
        """Forget what was read in place of the last token and after it."""
        for layer in self._cache or ():
            layer.length = min(layer.length, self._width - 1)

    def reread(self, sequence: Sequence[int]) -> None:
        """Another sequence in place of the only row's; what both begin with is not read again."""
        old, new = self.sequences[0], [int(token) for token in sequence]
        same = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), min(len(old), len(new)))
        self.sequences, self._width = [new], len(new)
        if any(self._starts):  # what is kept begins later
            self._cache = None
        for layer in self._cache or ():
            layer.length = min(layer.length, same, len(new) - 1)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be kept several times."""
        if list(rows) == list(range(len(self.sequences))):
            return
        self.sequences = [self.sequences[row].copy() for row in rows]
        self._starts = [self._starts[row] for row in rows] if self._starts else []
        for layer in self._cache or ():
            layer.select(np.array(rows, np.int64))

    def room(self) -> int:
        """How many tokens can follow the first row before its window moves."""
        length, block = len(self.sequences[0]), self.model.config.block_size
        return window_start(length, block) + block - length

    def logits(self, last: int = 1) -> np.ndarray:
        """(B, last, V): the logits of what follows each of the last tokens of every row."""
        block = self.model.config.block_size
        starts = [window_start(len(sequence), block) for sequence in self.sequences]
        if self._cache is None or starts != self._starts or self._width > self._cache[0].keys.shape[2]:
            self._restart(starts)
        assert self._cache is not None
        fresh = self._width - self._cache[0].length
        ids = np.zeros((len(starts), fresh), np.int64)
        for row, sequence, start in zip(ids, self.sequences, starts, strict=True):
            new = sequence[max(start, len(sequence) - fresh) :]
            row[fresh - len(new) :] = new
        with tg.no_grad():
            return self.model(ids, cache=self._cache, last=last).numpy()

    def _restart(self, starts: list[int]) -> None:
        lengths = np.array([len(sequence) - start for sequence, start in zip(self.sequences, starts, strict=True)])
        self._starts, self._width = starts, int(lengths.max())
        room = min(self.model.config.block_size, max(self._final, self._width))
        self._cache = self.model.new_cache(len(starts), room, self._width - lengths)
