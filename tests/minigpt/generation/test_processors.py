"""Each processor against its equation, worked out by hand."""

import numpy as np
import pytest

from minigpt.generation.config import GenerationConfig
from minigpt.generation.processors import (
    count_penalty,
    min_new_tokens,
    no_repeat_ngram,
    processors,
    repetition_penalty,
    sequence_bias,
)
from minigpt.lossless import char_tokenizer

SCORES = [2.0, -2.0, 0.5, -0.5]
INF = np.inf


def scores():
    return np.array(SCORES, np.float32)


def test_repetition_penalty_makes_the_seen_less_likely_whatever_their_sign():
    assert repetition_penalty(scores(), [0, 1, 1], 1, 2.0).tolist() == [1.0, -4.0, 0.5, -0.5]
    assert repetition_penalty(scores(), [3], 1, 0.5).tolist() == [2.0, -2.0, 0.5, -0.25]


def test_presence_and_frequency_count_what_was_generated():
    assert count_penalty(scores(), [0, 0, 1, 1, 2], 2, 0.5, 0.25).tolist() == [2.0, -3.0, -0.25, -0.5]
    assert count_penalty(scores(), [0, 1], 2, 0.5, 0.25).tolist() == SCORES


def test_no_repeated_ngrams():
    assert no_repeat_ngram(scores(), [0, 1, 2, 0, 1], 2, 3).tolist() == [2.0, -2.0, -INF, -0.5]
    assert no_repeat_ngram(scores(), [0, 1, 0, 2, 0], 2, 2).tolist() == [2.0, -INF, -INF, -0.5]
    assert no_repeat_ngram(scores(), [0, 3], 2, 1).tolist() == [-INF, -2.0, 0.5, -INF]
    assert no_repeat_ngram(scores(), [0, 1], 2, 3).tolist() == SCORES


def test_biases_complete_a_sequence():
    biases = [((1,), 1.5), ((0, 2), 3.0), ((3, 0, 3), -INF), ((1, 2, 3, 0, 1), 9.0)]
    assert sequence_bias(scores(), [2, 3, 0], 1, biases).tolist() == [2.0, -0.5, 3.5, -INF]
    assert sequence_bias(scores(), [2, 0, 3], 1, biases).tolist() == [2.0, -0.5, 0.5, -0.5]


def test_the_end_is_ruled_out_until_there_is_enough():
    assert min_new_tokens(scores(), [0, 1], 1, 2, 3).tolist() == [2.0, -2.0, 0.5, -INF]
    assert min_new_tokens(scores(), [0, 1, 1], 1, 2, 3).tolist() == SCORES


def test_a_configuration_asks_for_them_in_order():
    letters = char_tokenizer("abcd")
    assert processors(GenerationConfig(), letters, 3) == []
    config = GenerationConfig(
        sequence_bias=(("ab", 1.0),),
        repetition_penalty=2.0,
        presence_penalty=1.0,
        no_repeat_ngram_size=2,
        bad_words=("d",),
        min_new_tokens=1,
    )
    made = processors(config, letters, 3)
    names = ["sequence_bias", "repetition_penalty", "count_penalty", "no_repeat_ngram", "sequence_bias", "min_new_tokens"]
    assert [process.func.__name__ for process in made] == names
    assert made[0].keywords["biases"] == [((0, 1), 1.0)] and made[4].keywords["biases"] == [((3,), -INF)]


BIASES = [((4,), 0.7), ((2, 5), -1.5)]
PEERS = {
    "repetition_penalty": ({"penalty": 1.3}, "RepetitionPenaltyLogitsProcessor", {"penalty": 1.3}),
    "no_repeat_ngram": ({"size": 2}, "NoRepeatNGramLogitsProcessor", {"ngram_size": 2}),
    "sequence_bias": (
        {"biases": BIASES},
        "SequenceBiasLogitsProcessor",
        {"sequence_bias": [[list(ids), bias] for ids, bias in BIASES]},
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_the_same_numbers_as_transformers(name):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ours, peer, theirs = PEERS[name]
    process = getattr(transformers, peer)(**theirs)
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids, logits = rng.integers(0, 7, 12), rng.normal(size=7).astype(np.float32)
        expected = process(torch.from_numpy(ids[None]), torch.from_numpy(logits[None].copy()))[0].numpy()
        np.testing.assert_allclose(globals()[name](logits.copy(), ids.tolist(), 0, **ours), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "peer", "theirs"),
    [
        ({"top_k": 5}, "TopKLogitsWarper", {"top_k": 5}),
        ({"top_p": 0.7}, "TopPLogitsWarper", {"top_p": 0.7}),
        ({"min_p": 0.2}, "MinPLogitsWarper", {"min_p": 0.2}),
        ({"typical_p": 0.6}, "TypicalLogitsWarper", {"mass": 0.6}),
    ],
)
def test_the_same_cuts_as_transformers(settings, peer, theirs):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from minigpt.generation.sampling import probabilities

    warp = getattr(transformers, peer)(**theirs)
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.normal(0, 2, size=40).astype(np.float32)
        expected = np.isfinite(warp(None, torch.from_numpy(logits[None].copy()))[0].numpy())
        np.testing.assert_array_equal(probabilities(logits, GenerationConfig(**settings)) > 0, expected)
