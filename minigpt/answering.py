"""Answers that stand word for word in a text: the likeliest span, or none (Devlin et al. 2019, sections 4.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.models.heads import AnswerExtractor
from minigpt.texts import batches, numbers, several
from minigpt.tokenizer import Encoded, Tokenizer

LONGEST = 30  # tokens of an answer


@dataclass(frozen=True)
class Window:
    """A question with a part of a context, as tokens; the part begins at character `begin` of the context."""

    tokens: Encoded
    begin: int

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Where tokens first to last stand in the context."""
        return self.begin + int(self.tokens.offsets[first, 0]), self.begin + int(self.tokens.offsets[last, 1])

    def places(self, begin: int, end: int) -> tuple[int, int] | None:
        """The tokens that cover the characters [begin, end) of the context, if they are all here."""
        inside = np.flatnonzero(self.tokens.texts == 1)
        offsets = self.tokens.offsets[inside] + self.begin
        covering = inside[(offsets[:, 1] > begin) & (offsets[:, 0] < end)]
        if not len(covering) or self.begin + self.tokens.offsets[covering[0], 0] > begin or offsets[-1, 1] < end:
            return None
        return int(covering[0]), int(covering[-1])


@dataclass(frozen=True)
class Answer:
    """The characters [begin, end) of a context; `score` is by how much their logits exceed those of no answer."""

    text: str
    begin: int
    end: int
    score: float


def windows(tokenizer: Tokenizer, question: str, context: str, limit: int) -> list[Window]:
    """The question with the whole context, or with parts of it that overlap by half, each of at most `limit` tokens.

    UserError if the question or the context is empty, or the question leaves no room.
    """
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise UserError(f"the {name} is empty")
    whole = tokenizer.encode_pair(question, context)
    if len(whole) <= limit:
        return [Window(whole, 0)]
    places = whole.offsets[whole.texts == 1]
    room = limit - (len(whole) - len(places))
    if room < 2:
        raise UserError(f"the question has {len(whole) - len(places)} tokens, and with it the model can read only {limit}")
    found = []
    for start in range(0, len(places), room // 2):
        begin, end = int(places[start, 0]), int(places[min(start + room, len(places)) - 1, 1])
        found.append(Window(tokenizer.encode_pair(question, context[begin:end], limit), begin))
        if start + room >= len(places):
            break
    return found


def best_span(logits: np.ndarray, inside: np.ndarray, longest: int = LONGEST) -> tuple[int, int, float]:
    """(T, 2) logits of start and end, (T,) where an answer may be -> first and last token, and the sum of their logits.

    The first is not after the last, and there are at most `longest` tokens.
    """
    start, end = np.where(inside[:, None], logits, -np.inf).T.astype(np.float64)
    total = start[:, None] + end[None, :]
    apart = np.arange(len(start))[None, :] - np.arange(len(start))[:, None]
    total[(apart < 0) | (apart >= longest)] = -np.inf
    first, last = np.unravel_index(int(total.argmax()), total.shape)
    return int(first), int(last), float(total[first, last])


def choose(found: Sequence[Window], logits: Sequence[np.ndarray], context: str, longest: int = LONGEST) -> Answer:
    """The best answer in the windows of one context, over the least that no answer got in any of them.

    No answer is the first token, [CLS], as start and as end.
    """
    spans = [best_span(scores, window.tokens.texts == 1, longest) for window, scores in zip(found, logits, strict=True)]
    best = max(range(len(spans)), key=lambda i: spans[i][2])
    first, last, total = spans[best]
    begin, end = found[best].characters(first, last)
    none = min(float(scores[0].sum()) for scores in logits)
    return Answer(context[begin:end], begin, end, total - none)


def answer(
    model: Any,
    tokenizer: Tokenizer,
    question: str,
    contexts: Sequence[str],
    longest: int = LONGEST,
    threshold: float = 0.0,
    batch_size: int = 16,
) -> tuple[int, Answer] | None:
    """The number of the context with the best answer, and that; None if no score is above the threshold.

    A context may be longer than the model can read. UserError for a model that extracts no answers, and for empty texts.
    """
    if not isinstance(model, AnswerExtractor):
        raise UserError(f"a {type(model).__name__} extracts no answers; minigpt finetune --task answer makes a model that does")
    parts = [windows(tokenizer, question, context, model.config.block_size) for context in several(contexts, "contexts")]
    logits = span_logits(model, [window for part in parts for window in part], batch_size)
    answers = []
    for context, part in zip(contexts, parts, strict=True):
        own, logits = logits[: len(part)], logits[len(part) :]
        answers.append(choose(part, own, context, longest))
    best = max(range(len(answers)), key=lambda i: answers[i].score, default=None)
    return None if best is None or not answers[best].score > threshold else (best, answers[best])


def span_logits(model: AnswerExtractor, found: Sequence[Window], batch_size: int) -> list[np.ndarray]:
    """(T, 2) for each window."""
    out: list[np.ndarray] = [np.empty(0)] * len(found)
    for rows, batch in batches([window.tokens for window in found], batch_size):
        with tg.no_grad():
            logits = numbers(model(batch.ids, batch.segments, batch.mask))
        for row, scores, mask in zip(rows, logits, batch.mask, strict=True):
            out[row] = scores[mask]
    return out
