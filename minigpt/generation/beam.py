"""Beam search: keep the `num_beams` likeliest beginnings, and return the likeliest whole texts.

A text's score is its log-probability divided by (its number of new tokens) ** length_penalty (Wu et al. 2016, eq. 14, in the
simpler form of transformers, whose choices are followed in every detail). Each step considers the 2 num_beams likeliest
continuations, so that num_beams are left to go on with even if num_beams end; a text that ends counts only if its
continuation was among the num_beams likeliest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.processors import Processor
from minigpt.generation.sampling import check
from minigpt.models.gpt import GPT


class Hypothesis(NamedTuple):
    """A whole text: its score, its new tokens, and log p of each under the model."""

    score: float
    tokens: list[int]
    log_probs: list[float]


class _Beam(NamedTuple):
    total: float  # the sum of processed log-probabilities
    tokens: list[int]
    log_probs: list[float]


def beam_search(
    model: GPT,
    prompt: Sequence[int],
    config: GenerationConfig,
    processors: Sequence[Processor] = (),
    ends: Callable[[list[int]], bool] = lambda tokens: False,
) -> list[Hypothesis]:
    """The best num_return_sequences continuations of a prompt, the best first; ends(new tokens) says whether one is whole."""
    context = Context(model, [prompt], config.max_new_tokens)
    beams = [_Beam(0.0, [], [])]
    done: list[Hypothesis] = []
    for length in range(1, config.max_new_tokens + 1):
        likeliest = _continuations(context, beams, len(prompt), config.num_beams, processors)
        running: list[tuple[int, _Beam]] = []
        for rank, (row, beam) in enumerate(likeliest):
            if length == config.max_new_tokens or ends(beam.tokens):
                if rank < config.num_beams and not _full(done, config):
                    done.append(Hypothesis(beam.total / length**config.length_penalty, beam.tokens, beam.log_probs))
            elif len(running) < config.num_beams:
                running.append((row, beam))
        done = sorted(done, key=lambda hypothesis: -hypothesis.score)[: config.num_beams]
        if not running or _settled(done, running[0][1].total, length, config):
            break
        beams = [beam for _, beam in running]
        context.select([row for row, _ in running])
        context.extend([beam.tokens[-1] for beam in beams])
    return done[: config.num_return_sequences] if config.max_new_tokens else [Hypothesis(0.0, [], [])]


def _continuations(
    context: Context, beams: Sequence[_Beam], prompt: int, count: int, processors: Sequence[Processor]
) -> list[tuple[int, _Beam]]:
    """The 2 count likeliest (row, beam with one more token), the likeliest first."""
    logits = context.logits()[:, 0]
    log_probs = logits - _log_sum_exp(logits)
    scores = log_probs.copy()
    for row, sequence in enumerate(context.sequences):
        for process in processors:
            scores[row] = process(scores[row], sequence, prompt)
    totals = (scores + np.array([beam.total for beam in beams], scores.dtype)[:, None]).reshape(-1)
    check(totals.max())
    order = np.argpartition(-totals, min(2 * count, totals.size) - 1)[: 2 * count]
    order = order[np.lexsort((order, -totals[order]))]
    found = []
    for index in order[totals[order] > -np.inf].tolist():
        row, token = divmod(index, scores.shape[1])
        beam = beams[row]
        found.append((row, _Beam(float(totals[index]), [*beam.tokens, token], [*beam.log_probs, float(log_probs[row, token])])))
    return found


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def _full(done: Sequence[Hypothesis], config: GenerationConfig) -> bool:
    return config.early_stopping == "yes" and len(done) == config.num_beams


def _settled(done: Sequence[Hypothesis], best_total: float, length: int, config: GenerationConfig) -> bool:
    """Whether to stop: enough texts are whole and, unless that suffices, no running one is likely to become better.

    The best that a running text may reach is taken from its length now, or with early_stopping "never" and a positive
    penalty from the greatest length, which cannot be wrong.
    """
    if len(done) < config.num_beams:
        return False
    if config.early_stopping == "yes":
        return True
    hopeful = config.early_stopping == "never" and config.length_penalty > 0
    best = best_total / (config.max_new_tokens if hopeful else length) ** config.length_penalty
    return best <= done[-1].score
