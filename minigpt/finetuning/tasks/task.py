"""What a task is: the columns it needs, how a row becomes examples, its head, its loss, and how well a model does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigpt.checkpoint import continues
from minigpt.errors import UserError
from minigpt.examples import Batch, Example
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.tokenizer import Encoded, Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module

Rng = np.random.Generator | None


class Task(ABC):
    """`metric` is the figure that says which weights are best: the most of it if `higher`, else the least."""

    metric: str
    higher: bool

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        """UserError if the model cannot learn this."""
        self.config, self.tokenizer = config, tokenizer
        self.shortened = 0  # texts that were cut
        self.pad = tokenizer.special("pad") or 0
        known = model.config.block_size
        if known is not None and config.max_length is not None and config.max_length > known:
            raise UserError(f"max_length {config.max_length} is more than the {known} tokens that the model can read")
        self.limit: int | None = config.max_length or known

    @abstractmethod
    def read(self, table: Table) -> list[list[Example]]:
        """The examples that each row gives; UserError for what is missing or malformed in the table."""

    @abstractmethod
    def start(self, model: Any, rng: np.random.Generator) -> Module:
        """The model that learns: the one given, or what it knows under a new head."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        """The mean loss of a batch, in nats."""

    @abstractmethod
    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        """Figures over all examples, "loss" among them."""

    @property
    def shown(self) -> str:
        """The figure to draw beside the loss."""
        return self.metric if self.metric != "loss" else "perplexity"

    def classes(self, table: Table) -> list[str] | None:
        """The class of each row, where the same share of each is to be held out."""
        return None

    def written(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        """Figures of what the model writes, which takes long and is done at the end only."""
        return {}

    def pictures(self, model: Any, examples: Sequence[Example]) -> dict[str, str]:
        """SVGs of how the model does, by file name."""
        return {}

    def fit(self, encode: Callable[..., Any], place: str) -> Any:
        """What `encode()` gives, which has a length, if the model can read it; else, if texts may be cut, encode(length=limit).

        UserError with both lengths otherwise.
        """
        whole = encode()
        if self.limit is None or len(whole) <= self.limit:
            return whole
        if not self.config.truncate:
            raise UserError(
                f"{place} has {len(whole)} tokens, but at most {self.limit} can be read; --truncate cuts what is longer"
            )
        self.shortened += 1
        return encode(length=self.limit)

    def encoded(self, place: str, a: str, b: str | None = None) -> Encoded:
        """A text, or two, as a model with a head reads them; UserError if nothing of either is among the tokens."""
        found = self.fit(partial(self.tokenizer.encode_pair, a, b), place)
        if not (found.texts >= 0).any():
            raise UserError(f"{place} has a text of which no token can be read: {a[:40]!r}")
        return found


def writer(model: Any, task: str) -> None:
    """UserError unless the model predicts the next token of a text."""
    if not continues(model):
        raise UserError(f"the task {task} needs a model that continues texts, such as GPT, not a {type(model).__name__}")


def mean_loss(losses: Sequence[tuple[float, int]]) -> float:
    """The mean over all of what the means (mean, number) are of."""
    return sum(mean * count for mean, count in losses) / sum(count for _, count in losses)
