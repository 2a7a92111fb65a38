"""The class of a text, by a model that was fine-tuned to classify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.models.heads import SequenceClassifier
from minigpt.texts import Text, batches, encode_texts, numbers
from minigpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classified:
    """The likeliest class of a text, and the probability of every class, likeliest first."""

    label: str
    probabilities: dict[str, float]


def classify(
    model: Any, tokenizer: Tokenizer, texts: Sequence[Text], truncate: bool = False, batch_size: int = 32
) -> list[Classified]:
    """The class of each text, or pair of texts.

    UserError for a model that was not made to classify, or has one class only, and for a text that is empty, or longer than
    the model can read unless `truncate`.
    """
    if not isinstance(model, SequenceClassifier):
        raise UserError(f"a {type(model).__name__} classifies nothing; minigpt finetune --task classify makes a model that does")
    labels = model.config.labels
    if len(labels) < 2:
        raise UserError(f"the model has one class only, {labels[0]!r}: what it gives is a score, not the probability of a class")
    encoded = encode_texts(tokenizer, texts, model.config.block_size, truncate)
    probabilities = np.empty((len(texts), len(labels)))
    for rows, batch in batches(encoded, batch_size):
        with tg.no_grad():
            probabilities[rows] = numbers(tg.softmax(model(batch.ids, batch.segments, batch.mask)))
    return [_ranked(labels, row) for row in probabilities]


def _ranked(labels: Sequence[str], probabilities: np.ndarray) -> Classified:
    order = np.argsort(-probabilities, kind="stable")
    return Classified(labels[order[0]], {labels[i]: float(probabilities[i]) for i in order})
