"""How good a model in training is on the part of the text that is held out, and what is to be beaten there.

The windows, and what an objective leaves to chance in them, are always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.baselines import markov_losses
from minigpt.config import TrainConfig
from minigpt.data import Corpus, windows
from minigpt.errors import UserError
from minigpt.objectives.causal import Causal
from minigpt.objectives.objective import IGNORED, Batch, Objective, unigram_loss
from minigpt.pretraining import predicted
from minigpt.team import ALONE, Team

CAUSAL = Causal()


def evaluate(
    model: Any, corpus: Corpus, config: TrainConfig, batches: int, team: Team = ALONE, objective: Objective = CAUSAL
) -> float:
    """Mean loss in nats per target over evenly spread windows that do not overlap, at most `batches` batches of them.

    UserError if the objective hides none of their tokens.
    """
    model.eval()
    total, count = 0.0, 0.0
    with tg.no_grad():
        for i, batch in enumerate(held_out(corpus, config, batches, objective)):
            weight = float((batch.targets != IGNORED).sum()) / batch.targets.shape[1]
            count += weight
            if i % team.size == team.rank and weight:
                total += tg.cross_entropy(*predicted(model, batch), IGNORED).item() * weight
    if count == 0:
        raise UserError(f"none of the {len(corpus.validation)} tokens held out is a target: a longer text is needed")
    return team.allreduce(total) / count


def held_out(corpus: Corpus, config: TrainConfig, batches: int, objective: Objective) -> Iterator[Batch]:
    """What the objective makes of the windows, at most `batches` batches of them."""
    tokens = corpus.validation
    block = min(config.block_size, len(tokens) - 1)
    whole = (len(tokens) - 1) // block
    count = min(whole, batches * config.batch_size)
    starts = np.arange(count) * whole // count * block
    for chosen in np.split(starts, range(config.batch_size, count, config.batch_size)):
        yield objective(*windows(tokens, chosen, block), np.random.default_rng(int(chosen[0])))


def baselines(corpus: Corpus, config: TrainConfig, batches: int, objective: Objective) -> dict[str, float]:
    """Losses by name: of Markov models of the text, or, of what is hidden in it, by how frequent each token is there."""
    vocab_size = corpus.tokenizer.vocab_size
    if isinstance(objective, Causal):
        return markov_losses(corpus.train, corpus.validation, vocab_size)
    targets = np.concatenate([batch.targets.ravel() for batch in held_out(corpus, config, batches, objective)])
    return {"unigram": unigram_loss(objective.target_counts(corpus.train, config.block_size, vocab_size), targets)}
