"""A text for a text: translations, pronunciations, summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.examples import IGNORED, Batch, Example, by_length
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.task import Rng, Task, mean_loss
from minigpt.generation.config import GenerationConfig
from minigpt.generation.translate import score, source_ids
from minigpt.models.seq2seq import EncoderDecoder
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module

JUDGED = 500  # texts that are written at the end


class SequenceToSequence(Task):
    """The decoder reads what it should have written so far: the start token, then the target but for its end."""

    metric, higher = "loss", False

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        if not isinstance(model, EncoderDecoder):
            raise UserError(f"the task seq2seq needs an encoder-decoder, such as T5, not a {type(model).__name__}")
        super().__init__(config, model, tokenizer)
        self.start_token, self.end_token = model.config.start_token, model.config.end_token

    def read(self, table: Table) -> list[list[Example]]:
        sources = table.texts(self.config.source_column, "--source-column")
        targets = table.texts(self.config.target_column, "--target-column")
        ended = partial(source_ids, self.tokenizer, truncate=True)
        rows = []
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            read = self.fit(partial(ended, source, self.end_token), table.place(i))
            written = self.fit(partial(ended, target, self.end_token), table.place(i))
            rows.append([Example(read, written, source=(source, target))])
        return rows

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return model

    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        written = np.where(batch.targets == IGNORED, self.pad, batch.targets)
        before = np.insert(written[:, :-1], 0, self.start_token, axis=1)
        smoothing = self.config.label_smoothing if model.training else 0.0
        return tg.cross_entropy(model(batch.ids, before, batch.mask, rng), batch.targets, IGNORED, label_smoothing=smoothing)

    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        losses = []
        for _, batch in by_length(examples, self.config.batch_size, self.pad):
            losses.append((self.loss(model, batch, None).item(), int((batch.targets != IGNORED).sum())))
        loss = mean_loss(losses)
        judged = self._judged(model, examples, self.config.judge) if self.config.judge else {}
        return {"loss": loss, "perplexity": math.exp(min(loss, 700))} | judged

    @property
    def shown(self) -> str:
        return "bleu" if self.config.judge else "perplexity"

    def written(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        return self._judged(model, examples, JUDGED)

    def _judged(self, model: Any, examples: Sequence[Example], most: int) -> dict[str, float]:
        """Figures of what is written greedily for `most` sources at most, those in even steps through the rows."""
        chosen = examples[:: -(-len(examples) // most)]
        longest = 8 + 3 * max(len(example.targets) for example in chosen) // 2
        sources, targets = zip(*(example.source for example in chosen), strict=True)
        settings = GenerationConfig(temperature=0, max_new_tokens=longest)
        return score(model, self.tokenizer, sources, targets, settings, truncate=True)
