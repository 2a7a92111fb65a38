"""The Markov models against a dictionary-based definition, and against what must hold of probabilities."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from minigpt.baselines import NAMES, markov_losses


def definition(train, history, word, vocab_size):
    """Witten-Bell by the book: recursion over ever shorter histories, down to the uniform distribution."""
    if history is None:
        return 1 / vocab_size
    n = len(history)
    followers = Counter(train[i + n] for i in range(len(train) - n) if tuple(train[i : i + n]) == history)
    shorter = definition(train, history[1:] if history else None, word, vocab_size)
    count, different = sum(followers.values()), len(followers)
    return (followers[word] + different * shorter) / (count + different) if count else shorter


def test_equals_the_definition():
    rng = np.random.default_rng(0)
    train, validation = rng.integers(0, 5, 60), rng.integers(0, 7, 20)  # with tokens never seen in training
    losses = markov_losses(train.astype(np.uint16), validation.astype(np.uint16), 7)
    for order, name in enumerate(NAMES):
        logs = [
            np.log(definition(train.tolist(), tuple(validation[i - order : i].tolist()), int(validation[i]), 7))
            for i in range(2, len(validation))
        ]
        assert losses[name] == pytest.approx(-np.mean(logs), rel=1e-12)


def test_definition_sums_to_one():
    train = np.random.default_rng(1).integers(0, 4, 30).tolist()
    for history in [(), (1,), (1, 2), (3, 3)]:
        assert sum(definition(train, history, word, 6) for word in range(6)) == pytest.approx(1)


def test_order_pays_where_the_text_has_it():
    trigram_text = np.tile([0, 1, 0, 2, 1, 1, 2, 2], 200)  # the last two tokens decide the next one
    followers = defaultdict(set)
    for a, b, c in zip(trigram_text, trigram_text[1:], trigram_text[2:], strict=False):
        followers[a, b].add(c)
    losses = markov_losses(trigram_text, trigram_text[:800], 3)
    assert losses["unigram"] > losses["bigram"] > losses["trigram"]
    noise = np.random.default_rng(2).integers(0, 3, 30_000)
    assert markov_losses(noise[:20_000], noise[20_000:], 3)["trigram"] == pytest.approx(np.log(3), abs=0.01)


def test_large_sparse_vocabulary():
    rng = np.random.default_rng(3)
    train, validation = rng.integers(0, 2**21, 500), rng.integers(0, 2**21, 100)
    losses = markov_losses(train, validation, 2**21)
    assert all(0 < loss < np.log(2**21) + 1 for loss in losses.values())
