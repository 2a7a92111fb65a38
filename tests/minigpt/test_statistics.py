"""Entropies and information of texts whose distributions are known."""

import math

import numpy as np
import pytest

from minigpt.statistics import DISTANCES, measure, picture


def test_independent_uniform_tokens_hold_all_bits_and_remember_nothing():
    got = measure(np.random.default_rng(0).integers(0, 8, 200_000), 8)
    assert got.conditional == pytest.approx((3, 3, 3), abs=0.01)
    assert np.abs(got.information).max() < 3e-4  # the bias alone is 1.8e-4


def test_a_cycle_is_free_after_its_first_token():
    got = measure(np.arange(120_000) % 4, 4)
    assert got.conditional == pytest.approx((2, 0, 0), abs=1e-4)
    assert got.information == pytest.approx([2] * len(DISTANCES), abs=1e-3)


def test_a_markov_chain_has_the_entropy_rate_and_the_information_of_its_matrix():
    stay, n = 0.9, 400_000
    ids = np.cumsum(np.random.default_rng(1).random(n) > stay) % 2
    rate = -stay * math.log2(stay) - (1 - stay) * math.log2(1 - stay)
    got = measure(ids, 2)
    assert got.conditional == pytest.approx((1, rate, rate), abs=0.01)
    for i in (0, 1, 4):
        same = (1 + (2 * stay - 1) ** DISTANCES[i]) / 2  # the matrix to the power of the distance
        expected = 1 + same * math.log2(same) + (1 - same) * math.log2(1 - same)
        assert got.information[i] == pytest.approx(expected, rel=0.03)


def test_large_and_small_vocabularies_count_alike():
    ids = np.random.default_rng(2).integers(0, 50, 5000)
    small, large = measure(ids, 50), measure(ids * 40_000, 2_000_000)
    assert small.entropies == pytest.approx(large.entropies, abs=1e-12)
    assert small.information == pytest.approx(large.information, abs=1e-12)


def test_counts():
    got = measure(np.array([3, 1, 3, 2, 3, 1], dtype=np.uint8), 5)
    assert got.types == 3 and got.type_token_ratio == 0.5 and got.tokens == 6
    assert got.most_frequent(2) == [(3, 3), (1, 2)] and len(got.most_frequent(9)) == 3
    assert got.entropies[0] == pytest.approx(math.log2(6) - (3 * math.log2(3) + 2) / 6)


def test_picture_is_an_svg_that_names_the_most_frequent():
    svg = picture(measure(np.arange(500) % 7, 7), ["zero", "one", "two", "three", "four", "five", "six"], "a title")
    assert svg.startswith("<?xml") and "a title" in svg and "zero" in svg
