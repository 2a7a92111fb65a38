"""A class for each text, or for each pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.classification import accuracy, confusion, macro_f1, picture
from minigpt.errors import UserError
from minigpt.examples import IGNORED, Batch, Example, by_length
from minigpt.finetuning.headed import bare, with_head
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.task import Rng, Task
from minigpt.models.heads import SequenceClassifier
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module


class Labelling(Task):
    """What classes and tags have in common: labels, which a model may know already, their weights, and their figures."""

    metric, higher = "accuracy", True
    head: Any

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        bare(model)
        super().__init__(config, model, tokenizer)
        self._known: tuple[str, ...] = model.config.labels if type(model) is self.head else ()
        self.labels: tuple[str, ...] = ()
        self.weights: np.ndarray | None = None

    def numbered(self, rows: Sequence[Sequence[str]], table: Table) -> list[np.ndarray]:
        """The numbers of labels; the first table decides which labels there are, and what they weigh."""
        found = {label for row in rows for label in row}
        if not self.labels:
            self.labels = self._known if found <= set(self._known) else tuple(sorted(found))
            self._learn(rows, table)
        number = {label: i for i, label in enumerate(self.labels)}
        for i, row in enumerate(rows):
            for label in row:
                if label not in number:
                    raise UserError(f"{table.place(i)} has the class {label!r}, but only {', '.join(self.labels)} are known")
        return [np.array([number[label] for label in row], dtype=np.int64) for row in rows]

    def _learn(self, rows: Sequence[Sequence[str]], table: Table) -> None:
        if len(self.labels) < 2:
            raise UserError(f"{table.name} has the class {self.labels[0]!r} only, and at least two are needed to tell apart")
        if self.config.class_weights:
            times = dict.fromkeys(self.labels, 0)
            for row in rows:
                for label in row:
                    times[label] += 1
            counts = np.array([times[label] for label in self.labels])
            self.weights = counts.sum() / (np.maximum(counts, 1) * np.count_nonzero(counts))

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return with_head(model, self.head, self.labels, rng)

    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        return self._loss(model(batch.ids, batch.segments, batch.mask, rng=rng), batch.targets)

    def _loss(self, logits: Tensor, targets: np.ndarray) -> Tensor:
        """With weights w: sum of w l over sum of w."""
        if self.weights is None:
            return tg.cross_entropy(logits, targets, IGNORED)
        weights = np.where(targets == IGNORED, 0.0, self.weights[np.maximum(targets, 0)]).astype(logits.dtype)
        return tg.sum(tg.cross_entropy(logits, targets, IGNORED, reduction="none") * weights) / float(weights.sum())

    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        matrix, loss = self._confusion(model, examples)
        return {"loss": loss, "accuracy": accuracy(matrix), "macro_f1": macro_f1(matrix)}

    def pictures(self, model: Any, examples: Sequence[Example]) -> dict[str, str]:
        matrix, _ = self._confusion(model, examples)
        title = f"accuracy {accuracy(matrix):.1%} of {matrix.sum():,}"
        return {"confusion.svg": picture(matrix, self.labels, title)}

    def _confusion(self, model: Any, examples: Sequence[Example]) -> tuple[np.ndarray, float]:
        """What was taken for what, and the mean loss, without weights."""
        matrix, total = np.zeros((len(self.labels), len(self.labels)), np.int64), 0.0
        for _, batch in by_length(examples, self.config.batch_size, self.pad):
            logits = model(batch.ids, batch.segments, batch.mask)
            total += tg.cross_entropy(logits, batch.targets, IGNORED, reduction="sum").item()
            counted = batch.targets != IGNORED
            matrix += confusion(batch.targets[counted], logits.numpy().argmax(axis=-1)[counted], len(self.labels))
        return matrix, total / matrix.sum()


class Classification(Labelling):
    """The class of a text, or of two as [CLS] a [SEP] b [SEP]."""

    head = SequenceClassifier

    def read(self, table: Table) -> list[list[Example]]:
        c = self.config
        firsts = table.texts(c.text_column, "--text-column")
        seconds = [None] * len(table) if c.pair_column is None else table.texts(c.pair_column, "--pair-column")
        wanted = self.numbered([[label] for label in table.labels(c.label_column, "--label-column")], table)
        rows = []
        for i, (a, b) in enumerate(zip(firsts, seconds, strict=True)):
            found = self.encoded(table.place(i), a, b)
            rows.append([Example(found.ids, wanted[i][0], found.segments)])
        return rows

    def classes(self, table: Table) -> list[str] | None:
        return table.labels(self.config.label_column, "--label-column")
