"""Drawing a token follows its definition; each cut keeps what its paper says."""

import math

import numpy as np
import pytest

from minigpt.errors import MinigptError
from minigpt.generation.config import GenerationConfig
from minigpt.generation.sampling import choose, log_probability, probabilities

EIGHT = np.log([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.04, 0.01])


def frequencies(logits, draws=4000, **settings):
    rng, config = np.random.default_rng(0), GenerationConfig(**settings)
    chosen = [choose(np.array(logits, np.float32), config, rng) for _ in range(draws)]
    return np.bincount(chosen, minlength=len(logits)) / draws


def kept(logits, **settings):
    p = probabilities(np.array(logits, np.float64), GenerationConfig(**settings))
    return np.flatnonzero(p).tolist()


def test_drawing_follows_the_softmax():
    """Case 247."""
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert frequencies(logits) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    squares = np.array([1, 4, 9, 16]) / 30
    assert frequencies(logits, temperature=0.5) == pytest.approx(squares, abs=0.03)
    assert frequencies(logits, temperature=1e6) == pytest.approx([0.25] * 4, abs=0.03)
    for greedy in (0, 1e-6, 1e-320):
        assert frequencies(logits, 20, temperature=greedy)[3] == 1


def test_top_k_keeps_ties():
    """Cases 248 and 250."""
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert frequencies(logits, top_k=2) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.03)
    assert frequencies(logits, top_k=100) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    assert frequencies(logits, top_k=-1) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    assert frequencies([0, 1, 1, 0], top_k=1) == pytest.approx([0, 0.5, 0.5, 0], abs=0.03)


def test_top_p_keeps_the_nucleus_and_at_least_one():
    """Case 249."""
    assert kept(EIGHT, top_p=0.5) == [0, 1]
    assert kept(EIGHT, top_p=0.5001) == [0, 1, 2]
    assert kept(EIGHT, top_p=1e-9) == [0]
    assert kept(EIGHT, top_p=1) == list(range(8))


def test_min_p_is_relative_to_the_likeliest():
    assert kept(EIGHT, min_p=0.39) == [0, 1, 2, 3]
    assert kept(EIGHT, min_p=1) == [0]
    assert kept([0, 1, 1, 0], min_p=1) == [1, 2]


def test_typical_p_starts_at_the_entropy_not_at_the_top():
    p = np.exp(EIGHT)
    entropy = -np.sum(p * np.log(p))
    nearest = np.argsort(np.abs(-np.log(p) - entropy))
    assert nearest[0] != 0
    for mass in (0.01, 0.2, 0.3, 0.7, 0.94):
        count = np.searchsorted(np.cumsum(p[nearest]), mass) + 1
        assert kept(EIGHT, typical_p=mass) == sorted(nearest[:count].tolist())


@pytest.mark.parametrize("spread", [0, 0.1, 1, 5])
@pytest.mark.parametrize("mass", [1e-9, 0.5, 0.99])
def test_a_large_vocabulary_is_cut_as_if_all_of_it_were_sorted(spread, mass):
    logits = np.round(np.random.default_rng(0).normal(0, spread, 5000), 1)  # with ties
    p = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-p, kind="stable")
    before = np.concatenate([[0], np.cumsum(p[order])[:-1]])
    assert kept(logits, top_p=mass) == sorted(order[before < mass - 1e-12].tolist()) or spread == 0
    assert spread or len(kept(logits, top_p=mass)) == max(1, round(5000 * mass))


def test_cuts_and_temperature_follow_one_another():
    assert kept(EIGHT, top_k=4, top_p=0.6, temperature=0.5) == [0, 1]
    assert kept(EIGHT, top_k=4, min_p=0.6) == [0, 1]
    assert frequencies(EIGHT, top_k=2, temperature=0.5)[:2] == pytest.approx([9 / 13, 4 / 13], abs=0.03)


def test_masked_tokens_are_never_drawn():
    assert frequencies([-math.inf, 0, -math.inf], 200)[1] == 1
    assert kept([-math.inf, 0, -1, -math.inf], typical_p=0.999) == [1, 2]
    assert kept([-math.inf, 0, -1, -math.inf], top_p=0.999) == [1, 2]


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("logits", "message"),
    [([0, math.nan], "not numbers"), ([0, math.inf], "not numbers"), ([-math.inf, -math.inf], "no token is left")],
)
def test_damaged_logits(logits, message, temperature):
    """Case 251."""
    with pytest.raises(MinigptError, match=message):
        choose(np.array(logits), GenerationConfig(temperature=temperature), np.random.default_rng(0))


def test_log_probability():
    logits = np.array([1000.0, 1001.0, -3000.0], np.float32)
    assert log_probability(logits, 1) == pytest.approx(-math.log1p(math.exp(-1)))
    assert log_probability(logits, 0) == pytest.approx(-1 - math.log1p(math.exp(-1)))
