"""Vectors of texts that belong together come near to each other, and away from those of other texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.embed import pool
from minigpt.errors import UserError
from minigpt.examples import IGNORED, Batch, Example, by_length
from minigpt.finetuning.headed import bare
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.task import Rng, Task, mean_loss
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module

SCALE = 20.0  # of cosines, as logits


class Embedding(Task):
    """Multiple negatives ranking (Henderson et al. 2017, section 4): -log softmax of 20 cos(a_i, b_j) over the b_j of a batch.

    A text that stands beside several others is no negative for any of them.
    """

    metric, higher = "accuracy", True

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        bare(model)
        super().__init__(config, model, tokenizer)
        if config.batch_size < 2:
            raise UserError("the task embed tells the texts of a batch apart, so batch_size must be at least 2")

    def read(self, table: Table) -> list[list[Example]]:
        assert self.config.pair_column is not None
        firsts = table.texts(self.config.text_column, "--text-column")
        seconds = table.texts(self.config.pair_column, "--pair-column")
        places = [table.place(i) for i in range(len(table))]
        return [
            [Example(self.encoded(p, a).ids, self.encoded(p, b).ids)] for a, b, p in zip(firsts, seconds, places, strict=True)
        ]

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return bare(model)

    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        a, b = _vectors(model, batch, rng)
        same = (batch.targets[:, None] == batch.targets[None, :]).all(axis=-1)  # (B, B)
        hidden = same & ~np.eye(len(same), dtype=bool)
        scores = tg.where(hidden, -np.inf, SCALE * (a @ b.T))
        return tg.cross_entropy(scores, np.arange(len(same)))

    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        """How often the nearest of all second texts is the one that belongs to a first, or equal to it."""
        losses, numbers, firsts, seconds = [], [], [], []
        for rows, batch in by_length(examples, self.config.batch_size, self.pad):
            a, b = _vectors(model, batch, None)
            losses.append((self.loss(model, batch, None).item(), len(rows)))
            numbers += rows.tolist()
            firsts.append(a.numpy())
            seconds.append(b.numpy())
        cosines = np.concatenate(firsts) @ np.concatenate(seconds).T
        texts = [tuple(examples[i].targets) for i in numbers]
        found = [texts[j] == texts[i] for i, j in enumerate(cosines.argmax(axis=1))]
        return {"loss": mean_loss(losses), "accuracy": float(np.mean(found))}


def _vectors(model: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor]:
    """(B, C) each: the unit vectors of the first and of the second texts."""
    mask = batch.targets != IGNORED
    others = np.where(mask, batch.targets, 0)
    return pool(model(batch.ids, None, batch.mask, rng), batch.mask), pool(model(others, None, mask, rng), mask)
