"""Where in a text the answer to a question stands, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.answering import Window, choose, windows
from minigpt.errors import UserError
from minigpt.examples import Batch, Example, by_length
from minigpt.finetuning.headed import bare, with_head
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.task import Rng, Task, mean_loss
from minigpt.models.heads import AnswerExtractor
from minigpt.overlap import exact_match, token_f1
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module


@dataclass(frozen=True, eq=False)
class Asked:
    """A row: the context, and the answers that are right, none if there is no answer in it."""

    context: str
    answers: tuple[str, ...]


class Extraction(Task):
    """A context that is longer than the model gives several examples; where one has no answer, both targets are [CLS]."""

    metric, higher = "f1", True

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        bare(model)
        super().__init__(config, model, tokenizer)

    def read(self, table: Table) -> list[list[Example]]:
        c = self.config
        questions = table.texts(c.question_column, "--question-column")
        contexts = table.texts(c.context_column, "--context-column")
        answers = table.alternatives(c.answer_column, "--answer-column")
        return [self._row(*row, table.place(i)) for i, row in enumerate(zip(questions, contexts, answers, strict=True))]

    def _row(self, question: str, context: str, answers: tuple[str, ...], place: str) -> list[Example]:
        begin = context.find(answers[0]) if answers else 0
        if begin < 0:
            raise UserError(f"{place} has an answer that is not in its context, word for word: {answers[0]!r}")
        asked, examples = Asked(context, answers), []
        assert self.limit is not None
        for window in windows(self.tokenizer, question, context, self.limit):
            where = window.places(begin, begin + len(answers[0])) if answers else None
            examples.append(Example(window.tokens.ids, np.array(where or (0, 0)), window.tokens.segments, (asked, window)))
        return examples

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return with_head(model, AnswerExtractor, (), rng)

    def loss(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        return model.loss(batch.ids, batch.targets, batch.segments, batch.mask, rng)

    def measure(self, model: Any, examples: Sequence[Example]) -> dict[str, float]:
        losses: list[tuple[float, int]] = []
        found: dict[Asked, list[tuple[Window, np.ndarray]]] = {}
        for numbers, batch in by_length(examples, self.config.batch_size, self.pad):
            logits = model(batch.ids, batch.segments, batch.mask)
            losses.append((tg.cross_entropy(logits.swapaxes(1, 2), batch.targets).item(), len(numbers)))
            for i, scores, mask in zip(numbers, logits.numpy(), batch.mask, strict=True):
                asked, window = examples[i].source
                found.setdefault(asked, []).append((window, scores[mask]))
        predicted = [_text(asked, parts) for asked, parts in found.items()]
        wanted = [asked.answers or ("",) for asked in found]
        return {"loss": mean_loss(losses), "exact_match": exact_match(predicted, wanted), "f1": token_f1(predicted, wanted)}


def _text(asked: Asked, parts: Sequence[tuple[Window, np.ndarray]]) -> str:
    """What the model answers, nothing if no answer is likelier."""
    best = choose([window for window, _ in parts], [scores for _, scores in parts], asked.context)
    return best.text if best.score > 0 else ""
