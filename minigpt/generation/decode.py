"""The loop: read what is new, choose a token for every row, repeat until every row has ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.processors import Processor
from minigpt.generation.sampling import choose, log_probability
from minigpt.generation.speculative import lookup


class Step(NamedTuple):
    """One more token of one row, and log p of it where asked for: under the model, before any setting changes it."""

    row: int
    token: int
    log_prob: float | None


def decode(
    context: Context,
    config: GenerationConfig,
    rngs: Sequence[np.random.Generator],
    processors: Sequence[Processor] = (),
    over: Collection[int] = (),
    log_probs: bool = False,
) -> Iterator[Step]:
    """Yield the tokens that continue each sequence of a context, drawn with its own rng, all rows one step at a time.

    A row ends after max_new_tokens, or once whoever receives its tokens has put it into `over`. Sequences are not empty, and
    the context has room for what is to come. It is left with the rows that ended last.
    """
    starts = [len(sequence) for sequence in context.sequences]
    rows = list(range(len(starts))) if config.max_new_tokens else []
    while rows:
        guess = _guess(context, config, starts[rows[0]]) if len(rows) == 1 and config.prompt_lookup_num_tokens else []
        for token in guess:
            context.extend([token])
        logits = context.logits(1 + len(guess))
        context.cut(len(guess))
        for place in range(1 + len(guess)):
            chosen, ended = [], []
            for row, sequence, values in zip(rows, context.sequences, logits[:, place], strict=True):
                token = _choose(values, sequence, starts[row], config, rngs[row], processors)
                chosen.append(token)
                yield Step(row, token, log_probability(values, token) if log_probs else None)
                ended.append(row in over or len(sequence) + 1 - starts[row] >= config.max_new_tokens)
            context.extend(chosen)
            if any(ended) or chosen != guess[place : place + 1]:
                break
        if guess:
            context.trim()
        if any(ended):
            rows = [row for row, done in zip(rows, ended, strict=True) if not done]
            if rows:
                context.select([i for i, done in enumerate(ended) if not done])


def _choose(
    logits: np.ndarray,
    sequence: Sequence[int],
    prompt: int,
    config: GenerationConfig,
    rng: np.random.Generator,
    processors: Sequence[Processor],
) -> int:
    scores = logits.copy() if processors else logits
    for process in processors:
        scores = process(scores, sequence, prompt)
    return choose(scores, config, rng)


def _guess(context: Context, config: GenerationConfig, start: int) -> list[int]:
    sequence = context.sequences[0]
    left = config.max_new_tokens - (len(sequence) - start) - 1
    most = min(config.prompt_lookup_num_tokens, left, context.room())
    return lookup(sequence, most, config.max_matching_ngram_size) if most > 0 else []
