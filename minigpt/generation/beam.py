"""Beam search: keep the `num_beams` likeliest beginnings, and return the likeliest whole texts.

A text's score is its log-probability divided by (its number of new tokens) ** length_penalty (Wu et al. 2016, eq. 14, in the
simpler form of transformers, whose choices are followed in every detail). Each step considers the 2 num_beams likeliest
continuations, so that num_beams are left to go on with even if num_beams end; a text that ends counts only if its
continuation was among the num_beams likeliest. Searches for several prompts or sources read their beams together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.processors import Processor
from minigpt.generation.sampling import check

Ends = Callable[[list[int]], bool]


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
    context: Context,
    config: GenerationConfig,
    processors: Sequence[Processor] = (),
    ends: Ends = lambda tokens: False,
) -> list[list[Hypothesis]]:
    """For each sequence of a context the best num_return_sequences continuations, the best first.

    ends(new tokens) says whether a text is whole. The context has room for max_new_tokens; it is used up.
    """
    starts = [len(sequence) for sequence in context.sequences]
    searches = [_Search(config, ends) for _ in starts]
    places = list(range(len(searches))) if config.max_new_tokens else []  # of those that go on
    while places:
        logits = context.logits()[:, 0]
        log_probs = logits - _log_sum_exp(logits)
        counts = [len(searches[place].beams) for place in places]
        prompts = np.repeat([starts[place] for place in places], counts)
        scores = _processed(log_probs, context.sequences, prompts.tolist(), processors)
        rows, first = [], 0
        for place, count in zip(places, counts, strict=True):
            its_own = slice(first, first + count)
            rows += [first + row for row in searches[place].step(scores[its_own], log_probs[its_own])]
            first += count
        places = [place for place in places if searches[place].beams]
        context.select(rows)
        context.extend([beam.tokens[-1] for place in places for beam in searches[place].beams])
    return [search.done[: config.num_return_sequences] for search in searches]


def _processed(
    log_probs: np.ndarray, sequences: Sequence[Sequence[int]], prompts: Sequence[int], processors: Sequence[Processor]
) -> np.ndarray:
    if not processors:
        return log_probs
    scores = log_probs.copy()
    for row, (sequence, prompt) in enumerate(zip(sequences, prompts, strict=True)):
        for process in processors:
            scores[row] = process(scores[row], sequence, prompt)
    return scores


class _Search:
    """The beams that go on, none once the search is over, and the whole texts found so far, the best first."""

    def __init__(self, config: GenerationConfig, ends: Ends):
        self.config, self.ends = config, ends
        self.length = 0
        self.beams = [_Beam(0.0, [], [])]
        self.done = [] if config.max_new_tokens else [Hypothesis(0.0, [], [])]

    def step(self, scores: np.ndarray, log_probs: np.ndarray) -> list[int]:
        """(beams, V) processed and plain -> the old row of each beam that goes on, one token longer."""
        config = self.config
        running: list[tuple[int, _Beam]] = []
        self.length += 1
        for rank, (row, beam) in enumerate(self._continuations(scores, log_probs)):
            if self.length == config.max_new_tokens or self.ends(beam.tokens):
                if rank < config.num_beams and not self._full():
                    self.done.append(Hypothesis(beam.total / self.length**config.length_penalty, beam.tokens, beam.log_probs))
            elif len(running) < config.num_beams:
                running.append((row, beam))
        self.done = sorted(self.done, key=lambda hypothesis: -hypothesis.score)[: config.num_beams]
        if not running or self._settled(running[0][1].total):
            running = []
        self.beams = [beam for _, beam in running]
        return [row for row, _ in running]

    def _continuations(self, scores: np.ndarray, log_probs: np.ndarray) -> list[tuple[int, _Beam]]:
        """The 2 num_beams likeliest (row, beam with one more token), the likeliest first."""
        totals = (scores + np.array([beam.total for beam in self.beams], scores.dtype)[:, None]).reshape(-1)
        check(totals.max())
        count = min(2 * self.config.num_beams, totals.size)
        order = np.argpartition(totals, totals.size - count)[totals.size - count :]
        order = order[np.lexsort((order, -totals[order]))]
        found = []
        for index in order[totals[order] > -np.inf].tolist():
            row, token = divmod(index, scores.shape[1])
            beam = self.beams[row]
            log_prob = float(log_probs[row, token])
            found.append((row, _Beam(float(totals[index]), [*beam.tokens, token], [*beam.log_probs, log_prob])))
        return found

    def _full(self) -> bool:
        return self.config.early_stopping == "yes" and len(self.done) == self.config.num_beams

    def _settled(self, best_total: float) -> bool:
        """Whether to stop: enough texts are whole and, unless that suffices, no running one is likely to become better.

        The best that a running text may reach is taken from its length now, or with early_stopping "never" and a positive
        penalty from the greatest length, which cannot be wrong.
        """
        config = self.config
        if len(self.done) < config.num_beams:
            return False
        if config.early_stopping == "yes":
            return True
        hopeful = config.early_stopping == "never" and config.length_penalty > 0
        best = best_total / (config.max_new_tokens if hopeful else self.length) ** config.length_penalty
        return best <= self.done[-1].score


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
