"""Prompts in, text out: what the command line and Python call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from minigpt.errors import UserError
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.decode import decode
from minigpt.generation.processors import processors
from minigpt.generation.stream import Writer
from minigpt.models.gpt import GPT
from minigpt.tokenizer import Tokenizer


@dataclass
class Answer:
    """One continuation of a prompt, as far as it got; log_probs are the model's own, in nats, where asked for.

    `finish` is "length", or "stop" for a stop string or the end-of-text token. Seconds are to the first token, and in all;
    those of a batch are the batch's, and beams have both at the end.
    """

    prompt: str
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = "length"
    first_token_seconds: float = 0.0
    seconds: float = 0.0


def start_ids(model: GPT, tokenizer: Tokenizer, prompt: str, truncate: bool = False) -> np.ndarray:
    """The prompt's ids; an empty prompt begins after a line end, or after token 0 if the model knows no line end.

    UserError if the prompt is longer than the context, unless `truncate` keeps only its newest tokens.
    """
    if not prompt:
        return tokenizer.encode("\n") if b"\n" in tokenizer.pieces else np.zeros(1, dtype=np.int64)
    ids = tokenizer.encode(prompt)
    block = model.config.block_size
    if len(ids) > block and not truncate:
        raise UserError(
            f"the prompt has {len(ids)} tokens, but the model's context is {block} (--truncate keeps the last {block})"
        )
    return ids[-block:]


def generate_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str = "",
    config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None,
    truncate: bool = False,
) -> Iterator[str]:
    """Yield the continuation of a prompt piece by piece, never half a character; what stays half at the end is U+FFFD.

    UserError as in start_ids, before anything is generated. Tokens are drawn with `rng`; without one, from a fresh seed.
    """
    config = config or GenerationConfig()
    start = start_ids(model, tokenizer, prompt, truncate).tolist()
    if config.num_beams > 1:
        return (answer.text for answer in _beams(model, tokenizer, prompt, start, config)[:1])
    row = _Row(Answer(prompt), start, rng or np.random.default_rng(), Writer.of(tokenizer, config))
    return (piece for piece in _together(model, tokenizer, [row], config, False) if piece)


def generate_texts(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: GenerationConfig | None = None,
    seed: int = 0,
    truncate: bool = False,
    log_probs: bool = False,
) -> list[Answer]:
    """num_return_sequences answers to each prompt, in order, made together in one batch, but for beam search.

    The i-th answer to a prompt depends on the prompt, the seed and i, not on what else is in the batch. UserError as in
    start_ids, before anything is generated.
    """
    config = config or GenerationConfig()
    starts = [start_ids(model, tokenizer, prompt, truncate).tolist() for prompt in prompts]
    if config.num_beams > 1:
        found = (_beams(model, tokenizer, prompt, start, config) for prompt, start in zip(prompts, starts, strict=True))
        return [answer for answers in found for answer in answers]
    rows = [
        _Row(Answer(prompt), start, np.random.default_rng([seed, i]), Writer.of(tokenizer, config))
        for prompt, start in zip(prompts, starts, strict=True)
        for i in range(config.num_return_sequences)
    ]
    equal_lengths_together = sorted(rows, key=lambda row: len(row.start))
    for _ in _together(model, tokenizer, equal_lengths_together, config, log_probs):
        pass
    return [row.answer for row in rows]


@dataclass
class _Row:
    answer: Answer
    start: list[int]
    rng: np.random.Generator
    writer: Writer


def _together(model: GPT, tokenizer: Tokenizer, rows: Sequence[_Row], config: GenerationConfig, log_probs: bool) -> Iterator[str]:
    """Complete the answers of the rows, and yield each new piece of any of them."""
    end, over = tokenizer.end_of_text, set[int]()
    began = time.perf_counter()
    process = processors(config, tokenizer, end)
    starts, rngs = [row.start for row in rows], [row.rng for row in rows]
    for step in decode(model, starts, config, rngs, process, over, log_probs):
        answer, writer = rows[step.row].answer, rows[step.row].writer
        answer.seconds = time.perf_counter() - began
        answer.first_token_seconds = answer.first_token_seconds or answer.seconds
        answer.tokens.append(step.token)
        if step.log_prob is not None:
            answer.log_probs.append(step.log_prob)
        if step.token != end:
            yield writer.add(step.token)
        if step.token == end or writer.stopped:
            over.add(step.row)
            answer.finish = "stop"
    for row in rows:
        yield row.writer.end()
        row.answer.text = row.writer.text


def _beams(model: GPT, tokenizer: Tokenizer, prompt: str, start: list[int], config: GenerationConfig) -> list[Answer]:
    end = tokenizer.end_of_text

    def read(tokens: Sequence[int]) -> Writer:
        writer = Writer.of(tokenizer, config)
        for token in tokens:
            if token != end:
                writer.add(token)
        return writer

    def ends(tokens: Sequence[int]) -> bool:
        return tokens[-1] == end or (bool(config.stop_strings) and read(tokens).stopped)

    began = time.perf_counter()
    answers = []
    for found in beam_search(model, start, config, processors(config, tokenizer, end), ends):
        finish = "stop" if found.tokens and ends(found.tokens) else "length"
        writer = read(found.tokens)
        writer.end()
        seconds = time.perf_counter() - began
        answers.append(Answer(prompt, found.tokens, found.log_probs, writer.text, finish, seconds, seconds))
    return answers
