"""What is made of BERT's vectors: words that were masked, a label for a text or for each token, an answer's place.

Each holds a BERT as `.bert`, and its `loss` is the mean of -log p(target) in nats; targets of -100 count for nothing.
(Devlin et al. 2019, sections 3.1 and 4.)  Shapes: B sequences, T positions, C features, V tokens, L labels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor
from tensorgrad.nn import LayerNorm, Linear, Module, Parameter

from .bert import BERT, BERTConfig
from .layers import ACTIVATIONS, IGNORED, Rng, initialise


class Head(Module):
    """A BERT and a linear map of its vectors to `outputs` numbers, after dropout."""

    def __init__(self, config: BERTConfig, outputs: int, rng: Rng, dtype: Any):
        rng = rng or np.random.default_rng()
        self.config = config
        self.bert = BERT(config, rng)
        self.classifier = Linear(config.n_embd, outputs, rng=rng)
        initialise(self.classifier, rng)
        self.astype(dtype)

    def _scores(self, x: Tensor, rng: Rng) -> Tensor:
        return self.classifier(tg.dropout(x, self.config.dropout, self.training, rng))


class MaskedLM(Module):
    """(B, T) -> (B, T, V): logits of the token at each position; the output map is the embedding table, and a bias."""

    def __init__(self, config: BERTConfig, rng: Rng = None, dtype: Any = "float32"):
        rng = rng or np.random.default_rng()
        self.config = dataclasses.replace(config, pooler=None, labels=())
        self.bert = BERT(self.config, rng)
        self.dense = Linear(config.n_embd, config.n_embd, rng=rng)
        self.ln = LayerNorm(config.n_embd, config.norm_eps)
        self.bias = Parameter(np.zeros(config.vocab_size, np.float32))
        initialise(self.dense, rng)
        self.astype(dtype)

    def forward(self, ids: Any, segments: Any = None, mask: Any = None, rng: Rng = None, where: Any = None) -> Tensor:
        """(B, T) -> (B, T, V), or (n, V) if logits are wanted only at the n places `where`, an index of (B, T)."""
        x = self.bert(ids, segments, mask, rng)
        return self._logits(x if where is None else x[where])

    def _logits(self, x: Tensor) -> Tensor:
        x = self.ln(ACTIVATIONS[self.config.activation](self.dense(x)))
        return tg.linear(x, self.bert.wte.weight, self.bias)

    def loss(self, ids: Any, targets: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        """Targets (B, T).  Logits are made only where there is a target."""
        where = np.nonzero(_targets(targets, mask) != IGNORED)
        return tg.cross_entropy(self(ids, segments, mask, rng, where), np.asarray(targets)[where])


class SequenceClassifier(Head):
    """(B, T) -> (B, L): logits of a text's label, from the pooled first position."""

    def __init__(self, config: BERTConfig, rng: Rng = None, dtype: Any = "float32"):
        if config.pooler is None:
            raise ValueError("a SequenceClassifier needs a pooler")
        super().__init__(config, _count(config), rng, dtype)

    def forward(self, ids: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        return self._scores(self.bert.pooled(self.bert(ids, segments, mask, rng), mask), rng)

    def loss(self, ids: Any, targets: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        """Targets (B,)."""
        return tg.cross_entropy(self(ids, segments, mask, rng), targets)


class TokenClassifier(Head):
    """(B, T) -> (B, T, L): logits of each token's label."""

    def __init__(self, config: BERTConfig, rng: Rng = None, dtype: Any = "float32"):
        super().__init__(dataclasses.replace(config, pooler=None), _count(config), rng, dtype)

    def forward(self, ids: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        return self._scores(self.bert(ids, segments, mask, rng), rng)

    def loss(self, ids: Any, targets: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        """Targets (B, T)."""
        return tg.cross_entropy(self(ids, segments, mask, rng), _targets(targets, mask))


class AnswerExtractor(Head):
    """(B, T) -> (B, T, 2): logits of where the answer starts and where its last token is, -inf at padding."""

    def __init__(self, config: BERTConfig, rng: Rng = None, dtype: Any = "float32"):
        super().__init__(dataclasses.replace(config, pooler=None, labels=()), 2, rng, dtype)

    def forward(self, ids: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        scores = self.classifier(self.bert(ids, segments, mask, rng))
        return scores if mask is None else tg.where(np.asarray(mask, bool)[..., None], scores, -np.inf)

    def loss(self, ids: Any, targets: Any, segments: Any = None, mask: Any = None, rng: Rng = None) -> Tensor:
        """Targets (B, 2): the positions of the first and of the last token; the mean of both."""
        return tg.cross_entropy(self(ids, segments, mask, rng).swapaxes(1, 2), targets)


def _count(config: BERTConfig) -> int:
    if not config.labels:
        raise ValueError("labels must not be empty for a classifier")
    return len(config.labels)


def _targets(targets: Any, mask: Any) -> np.ndarray:
    """Targets, none at padding."""
    return np.asarray(targets) if mask is None else np.where(mask, targets, IGNORED)
