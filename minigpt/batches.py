"""What a training step reads next, with a position that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigpt.data import random_batch
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
