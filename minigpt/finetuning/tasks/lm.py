"""Texts of a kind: the next token is learned, as in training from nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.examples import IGNORED, Batch, Example, by_length
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.task import Rng, Task, mean_loss, writer
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module


class LanguageModelling(Task):
    """Each text, and the token that ends it if there is one; all but the first token are predicted."""

    metric, higher = "loss", False

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        writer(model, config.task)
        super().__init__(config, model, tokenizer)
        if self.limit is not None:
            self.limit += 1  # the last token is predicted, not read

    def read(self, table: Table) -> list[list[Example]]:
        texts = table.texts(self.config.text_column, "--text-column")
        end = [] if self.tokenizer.end_of_text is None else [self.tokenizer.end_of_text]
        rows = [np.array([*self.tokenizer.encode(text), *end]) for text in texts]
        rows = [self.fit(partial(beginning, row), table.place(i)) for i, row in enumerate(rows)]
        return [[Example(row[:-1], row[1:])] if len(row) > 1 else [] for row in rows]

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return model

    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        """Padding comes last, where no token sees it."""
        return tg.cross_entropy(model(batch.ids, rng=rng), batch.targets, IGNORED)

    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        losses = []
        for _, batch in by_length(examples, self.config.batch_size, self.pad):
            losses.append((self.loss(model, batch, None).item(), int((batch.targets != IGNORED).sum())))
        loss = mean_loss(losses)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700))}


def beginning(ids: np.ndarray, length: int | None = None) -> np.ndarray:
    """The first `length` of some tokens, all if it is None."""
    return ids[:length]
