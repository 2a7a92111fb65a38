"""How well a model predicts a text: every token of it once, each from at least half a context of what precedes it.

The text is read in windows of the context's length T that advance by half of it; of each window but the first, the newer
half is scored ("sliding window", Baevski and Auli 2019, section 6.1). The first token has no context and is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import MinigptError, UserError
from minigpt.sources import END, Source
from minigpt.tokenizer import Tokenizer
from minigpt.tokens import encodable

BINS = 15  # of confidence, for the calibration error
BATCH = 16  # windows at once


@dataclass(frozen=True)
class Evaluation:
    """Figures over all scored tokens; `surprise` (n,) is -log2 p of each, in bits, and `confidence` the largest p."""

    tokens: int
    characters: int
    utf8_bytes: int
    nats_per_token: float
    top1: float  # share of tokens that were the likeliest
    top5: float  # or among the five likeliest
    entropy: float  # mean of - sum p log p over predictions, in nats
    calibration_error: float
    surprise: np.ndarray

    @property
    def perplexity(self) -> float:
        """exp of the nats per token."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        return self.nats_per_token * self.tokens / self.characters / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        return self.nats_per_token * self.tokens / self.utf8_bytes / math.log(2)


def encode(source: Source, tokenizer: Tokenizer) -> np.ndarray:
    """The ids of all documents, (n,), each but the last followed by the token that ends a text, if there is one.

    UserError if there are fewer than two tokens, or a character the tokenizer has not seen.
    """
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    parts = [np.array(end, dtype=int) if piece is END else tokenizer.encode(piece) for _, piece in encodable(source.pieces(), 0)]
    ids = np.concatenate(parts) if parts else np.zeros(0, dtype=int)
    if len(ids) < 2:
        raise UserError(f"{source.name} has {len(ids)} tokens, and at least 2 are needed: one to predict from, one to predict")
    return ids


def evaluate(
    model: Any, tokenizer: Tokenizer, ids: np.ndarray, progress: Callable[[int], object] = lambda tokens: None
) -> Evaluation:
    """Score ids (n,), n >= 2; `progress` is told how many tokens were scored each time. MinigptError at logits that are nan."""
    model.eval()
    surprise, confidence, hits, top5, entropy = [], [], [], [], 0.0
    with tg.no_grad():
        for logits, targets in _scored(model, ids):
            log_p = tg.log_softmax(tg.tensor(logits.astype(np.float64))).numpy()  # (n, V)
            chosen = log_p[np.arange(len(targets)), targets]
            if np.isnan(chosen).any():
                raise MinigptError("the model produced logits that are not numbers; its weights may be damaged")
            surprise.append(-chosen)
            confidence.append(np.exp(log_p.max(axis=-1)))
            hits.append(log_p.argmax(axis=-1) == targets)
            top5.append((log_p > chosen[:, None]).sum(axis=-1) < 5)
            entropy -= float(np.sum(np.exp(log_p) * np.where(np.isfinite(log_p), log_p, 0)))
            progress(len(targets))
    nats, sure, right = (np.concatenate(parts) for parts in (surprise, confidence, hits))
    text = tokenizer.decode(ids[1:])
    return Evaluation(
        tokens=len(nats),
        characters=len(text),
        utf8_bytes=sum(len(tokenizer.pieces[token]) for token in ids[1:]),
        nats_per_token=float(nats.mean()),
        top1=float(right.mean()),
        top5=float(np.concatenate(top5).mean()),
        entropy=entropy / len(nats),
        calibration_error=calibration_error(sure, right),
        surprise=nats / math.log(2),
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """sum_b n_b / n |accuracy in bin b - mean confidence in bin b|, bins of equal width (Guo et al. 2017, equation 3)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, correct, BINS) - np.bincount(bins, confidence, BINS)
    return float(np.abs(gap).sum() / len(confidence))


def _scored(model: Any, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(logits (n, V), targets (n,)) for every token but the first, in order."""
    block = model.config.block_size
    stride = max(1, block // 2)
    first = min(block, len(ids) - 1)
    yield model(ids[None, :first]).numpy()[0], ids[1 : first + 1]
    starts = np.arange(stride, len(ids) - block, stride)  # windows that are whole
    for chosen in np.split(starts, range(BATCH, len(starts), BATCH)):
        if len(chosen):
            logits = model(ids[chosen[:, None] + np.arange(block)]).numpy()[:, block - stride :]
            targets = ids[chosen[:, None] + np.arange(block - stride, block) + 1]
            yield logits.reshape(-1, logits.shape[-1]), targets.ravel()
    done = block + len(starts) * stride
    if done < len(ids) - 1:  # the last window ends with the text
        yield model(ids[None, -block - 1 : -1]).numpy()[0, done - len(ids) + 1 :], ids[done + 1 :]
