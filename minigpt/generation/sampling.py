"""Choosing one token: softmax(scores / temperature), cut down to the likely ones in one way or several, and drawn.

Each cut maps (V,) scores, log-probabilities up to a constant, to scores that are -inf where a token is out; at least one
always stays. They follow one another in the order of transformers: top-k, top-p, min-p, typical.
"""

from __future__ import annotations

import math

import numpy as np

from minigpt.errors import MinigptError
from minigpt.generation.config import GenerationConfig


def choose(scores: np.ndarray, config: GenerationConfig, rng: np.random.Generator) -> int:
    """(V,) -> one token, the likeliest if the temperature is 0; MinigptError if the scores allow none."""
    if config.temperature == 0:
        return best(scores)
    cumulative = np.cumsum(probabilities(scores, config))
    return int(np.searchsorted(cumulative / cumulative[-1], rng.random(), side="right"))


def best(scores: np.ndarray) -> int:
    """The likeliest token; MinigptError if the scores are nan or infinite, or every token is ruled out."""
    token = int(scores.argmax())  # the first nan, if there is one
    check(scores[token])
    return token


def check(top: np.floating) -> None:
    """MinigptError unless the highest score is a finite number."""
    if top == -math.inf:
        raise MinigptError("no token is left to choose from: bad words, n-grams or biases rule out all of them")
    if not math.isfinite(top):
        raise MinigptError("the model produced logits that are not numbers; its weights may be damaged")


def probabilities(scores: np.ndarray, config: GenerationConfig) -> np.ndarray:
    """(V,) -> (V,) float64, proportional to the probabilities of being drawn."""
    top = scores.max()
    check(top)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, as it should
        scores = (scores.astype(np.float64) - float(top)) / config.temperature
    if 0 < config.top_k < len(scores):
        scores = top_k(scores, config.top_k)
    if config.top_p < 1:
        scores = top_p(scores, config.top_p)
    if config.min_p > 0:
        scores = min_p(scores, config.min_p)
    if config.typical_p < 1:
        scores = typical_p(scores, config.typical_p)
    return np.exp(scores)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Keep the k likeliest, and those as likely as the k-th (Fan et al. 2018, section 5.4)."""
    return np.where(scores < np.partition(scores, -k)[-k], -np.inf, scores)


def top_p(scores: np.ndarray, mass: float) -> np.ndarray:
    """Keep the fewest likeliest whose probabilities reach `mass`, the nucleus (Holtzman et al. 2020, section 3.1)."""
    return _fewest(scores, -scores, mass)


def min_p(scores: np.ndarray, share: float) -> np.ndarray:
    """Keep those of at least `share` times the highest probability (Nguyen et al. 2024, section 3)."""
    return np.where(scores < scores.max() + math.log(share), -np.inf, scores)


def typical_p(scores: np.ndarray, mass: float) -> np.ndarray:
    """Keep the fewest whose surprise -log p is nearest to its mean, the entropy, and that reach `mass`.

    Locally typical sampling (Meister et al. 2023, section 4).
    """
    p = np.exp(scores - scores.max())
    p /= p.sum()
    surprise = -np.log(p, out=np.zeros_like(p), where=p > 0)
    return _fewest(scores, np.where(p > 0, np.abs(surprise - p @ surprise), np.inf), mass)


def _fewest(scores: np.ndarray, rank: np.ndarray, mass: float) -> np.ndarray:
    """Keep the first tokens in order of rank, as many as it takes to reach this share of the probability, at least one.

    Few tokens have most of the probability, so the first 256 are sorted, and more only if they do not suffice.
    """
    weights = np.exp(scores - scores.max())
    enough, count = mass * weights.sum(), 256
    while True:
        first = np.flatnonzero(rank < np.partition(rank, count)[count]) if count < rank.size else np.arange(rank.size)
        order = first[np.argsort(rank[first], kind="stable")]
        sums = np.cumsum(weights[order])
        if count >= rank.size or (order.size and sums[-1] >= enough):
            break
        count *= 8
    chosen = order[sums - weights[order] < enough]
    kept = np.full_like(scores, -np.inf)
    kept[chosen] = scores[chosen]
    return kept


def log_probability(logits: np.ndarray, token: int) -> float:
    """log softmax(logits)[token], in nats."""
    top = logits.max()
    return float(logits[token] - top) - math.log(float(np.exp(logits - top, dtype=np.float64).sum()))
