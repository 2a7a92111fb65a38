"""What a training step reads next, with a position that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigpt.data import random_batch, windows
from minigpt.errors import UserError


class RandomWindows:
    """Windows of `block` tokens at random places; the position is the state of the random stream."""

    def __init__(self, tokens: np.ndarray, batch: int, block: int, rng: np.random.Generator) -> None:
        self.tokens, self.batch, self.block, self.rng = tokens, batch, block, rng

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """ids (batch, block) and the tokens that follow each of them, (batch, block), int64."""
        return random_batch(self.tokens, self.batch, self.block, self.rng)

    def state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return stream_state(self.rng)

    def restore(self, state: Any) -> None:
        """Take over a position; UserError if it is none."""
        restore_stream(self.rng, state)


class EpochWindows:
    """Windows side by side, each once an epoch in an order shuffled anew, beginning at another token each time.

    The position is the epoch and how many of its windows were read; a batch may reach into the next epoch.
    """

    def __init__(self, tokens: np.ndarray, batch: int, block: int, rng: np.random.Generator) -> None:
        self.tokens, self.batch, self.block = tokens, batch, block
        self.seed = int(rng.integers(2**62))
        self._begin(0)

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """ids (batch, block) and the tokens that follow each of them, (batch, block), int64."""
        starts = np.zeros(0, dtype=np.int64)
        while len(starts) < self.batch:
            if self.read == len(self.starts):
                self._begin(self.epoch + 1)
            more = self.starts[self.read : self.read + self.batch - len(starts)]
            self.read += len(more)
            starts = np.concatenate([starts, more])
        return windows(self.tokens, starts, self.block)

    def state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return {"epoch": self.epoch, "read": self.read}

    def restore(self, state: Any) -> None:
        """Take over a position; UserError if it is none."""
        epoch, read = (state.get("epoch"), state.get("read")) if isinstance(state, dict) else (None, None)
        if type(epoch) is not int or type(read) is not int or not (0 <= epoch < 2**62 and 0 <= read < 2**62):
            raise UserError(f"the position in the epochs is malformed: {state!r:.100}")
        self._begin(epoch)
        self.read = min(read, len(self.starts))

    def _begin(self, epoch: int) -> None:
        rng = np.random.default_rng([self.seed, epoch])
        offset = int(rng.integers(min(self.block, len(self.tokens) - self.block)))
        self.starts = offset + self.block * rng.permutation((len(self.tokens) - 1 - offset) // self.block)
        self.epoch, self.read = epoch, 0


def stream_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a random stream: names, and whole numbers of up to 128 bits."""
    return dict(rng.bit_generator.state)


def restore_stream(rng: np.random.Generator, state: Any) -> None:
    """Put a random stream where another was; UserError if the state is none of its kind."""
    try:
        rng.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"the state of a random stream is malformed: {error}") from None
    if stream_state(rng) != state:
        raise UserError("the state of a random stream is malformed: it is not taken over as it is")
