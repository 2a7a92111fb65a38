"""From tokens, drawn or searched for, to answers: text, how it ended, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.decode import decode
from minigpt.generation.processors import Processor, processors
from minigpt.generation.stream import Writer
from minigpt.tokenizer import Tokenizer


@dataclass
class Answer:
    """What was written for a prompt or a source, as far as it got; log_probs are the model's own, in nats, where asked for.

    `finish` is "length", or "stop" for a stop string or the token that ends a text. Seconds are to the first token, and in
    all; those of a batch are the batch's, and beams have both at the end.
    """

    prompt: str
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = "length"
    first_token_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Style:
    """What makes tokens into texts: a tokenizer, settings, the token that ends a text, and tokens that no text has."""

    tokenizer: Tokenizer
    config: GenerationConfig
    end: int | None
    never: tuple[int, ...] = ()

    @property
    def processors(self) -> list[Processor]:
        return processors(self.config, self.tokenizer, self.end, self.never)

    def writer(self, tokens: Iterable[int] = ()) -> Writer:
        """A writer that has read these tokens."""
        writer = Writer.of(self.tokenizer, self.config)
        for token in tokens:
            if token != self.end:
                writer.add(token)
        return writer


def unknown(model: Any, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that a model has beyond those of its tokenizer."""
    return tuple(range(tokenizer.vocab_size, model.config.vocab_size))


@dataclass
class Row:
    """An answer that is being written, what draws its tokens, and what makes text of them."""

    answer: Answer
    rng: np.random.Generator
    writer: Writer


def drawn(context: Context, rows: Sequence[Row], style: Style, log_probs: bool = False) -> Iterator[str]:
    """Complete the answers of a context's rows, and yield each new piece of any of them."""
    over = set[int]()
    began = time.perf_counter()
    for step in decode(context, style.config, [row.rng for row in rows], style.processors, over, log_probs):
        answer, writer = rows[step.row].answer, rows[step.row].writer
        answer.seconds = time.perf_counter() - began
        answer.first_token_seconds = answer.first_token_seconds or answer.seconds
        answer.tokens.append(step.token)
        if step.log_prob is not None:
            answer.log_probs.append(step.log_prob)
        if step.token != style.end:
            yield writer.add(step.token)
        if step.token == style.end or writer.stopped:
            over.add(step.row)
            answer.finish = "stop"
    for row in rows:
        yield row.writer.end()
        row.answer.text = row.writer.text


def searched(context: Context, prompts: Sequence[str], style: Style) -> list[list[Answer]]:
    """The best num_return_sequences answers for each of a context's rows, by beam search."""

    def ends(tokens: Sequence[int]) -> bool:
        return tokens[-1] == style.end or (bool(style.config.stop_strings) and style.writer(tokens).stopped)

    began = time.perf_counter()
    found = beam_search(context, style.config, style.processors, ends)
    seconds = time.perf_counter() - began
    answers: list[list[Answer]] = []
    for prompt, hypotheses in zip(prompts, found, strict=True):
        answers.append([])
        for _, tokens, log_probs in hypotheses:
            finish = "stop" if tokens and ends(tokens) else "length"
            writer = style.writer(tokens)
            writer.end()
            answers[-1].append(Answer(prompt, tokens, log_probs, writer.text, finish, seconds, seconds))
    return answers


def written(context: Context, prompts: Sequence[str], style: Style, seed: int = 0, log_probs: bool = False) -> list[list[Answer]]:
    """num_return_sequences answers for each of a context's rows, the i-th of a row drawn with the seed and i."""
    if style.config.num_beams > 1:
        return searched(context, prompts, style)
    copies = style.config.num_return_sequences
    context.select([row for row in range(len(prompts)) for _ in range(copies)])
    rows = [Row(Answer(prompt), np.random.default_rng([seed, i]), style.writer()) for prompt in prompts for i in range(copies)]
    for _ in drawn(context, rows, style, log_probs):
        pass
    return [[row.answer for row in rows[first : first + copies]] for first in range(0, len(rows), copies)]
