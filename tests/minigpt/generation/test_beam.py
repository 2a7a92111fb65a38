"""Beam search finds what an exhaustive search finds, where that is possible; one beam is greedy."""

import itertools

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.decode import decode


def log_probabilities(model, prompt, tokens):
    with tg.no_grad():
        logits = model(np.array([[*prompt, *tokens]])).numpy()[0, len(prompt) - 1 : -1].astype(np.float64)
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return rows[np.arange(len(tokens)), list(tokens)]


@pytest.mark.slow
def test_enough_beams_find_the_likeliest_texts(model):
    prompt = [3, 1]
    config = GenerationConfig(max_new_tokens=3, temperature=0, num_beams=121, num_return_sequences=5)
    found = beam_search(Context(model, [prompt], config.max_new_tokens), config)[0]
    totals = {tokens: log_probabilities(model, prompt, tokens).sum() for tokens in itertools.product(range(11), repeat=3)}
    best = sorted(totals, key=totals.get, reverse=True)[:5]
    assert [tuple(hypothesis.tokens) for hypothesis in found] == best
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(totals[tuple(hypothesis.tokens)] / 3, abs=1e-5)
        assert hypothesis.log_probs == pytest.approx(log_probabilities(model, prompt, hypothesis.tokens), abs=1e-5)


def test_more_beams_find_no_less_likely_text(model):
    scores = []
    for beams in (2, 4, 16):
        config = GenerationConfig(max_new_tokens=12, temperature=0, num_beams=beams)
        scores.append(beam_search(Context(model, [[1]], config.max_new_tokens), config)[0][0].score)
    assert scores[0] <= scores[1] + 1e-6 and scores[1] <= scores[2] + 1e-6 and scores[0] < scores[2]


def test_one_beam_is_greedy_past_the_context_too(model):
    config = GenerationConfig(max_new_tokens=60, temperature=0)
    for prompt in ([1], [4, 5, 6], list(range(11))):
        greedy = [step.token for step in decode(Context(model, [prompt], config.max_new_tokens), config, [None])]
        assert beam_search(Context(model, [prompt], config.max_new_tokens), config)[0][0].tokens == greedy


def test_a_beam_search_past_the_context_ends(model):
    config = GenerationConfig(max_new_tokens=40, temperature=0, num_beams=3, num_return_sequences=3)
    found = beam_search(Context(model, [[1, 2]], config.max_new_tokens), config)[0]
    assert [len(hypothesis.tokens) for hypothesis in found] == [40] * 3
    assert sorted((h.score for h in found), reverse=True) == [h.score for h in found]
    nothing = GenerationConfig(max_new_tokens=0, temperature=0, num_beams=3)
    assert beam_search(Context(model, [[1, 2]], 0), nothing)[0][0].tokens == []


@pytest.mark.parametrize("lengths", [(4, 4, 4), (2, 7, 7, 16, 1)])
def test_searches_together_are_what_each_is_alone(model, lengths):
    """Past the context too; some end earlier than others."""
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 11, length).tolist() for length in lengths]
    config = GenerationConfig(max_new_tokens=20, temperature=0, num_beams=3, num_return_sequences=2, length_penalty=0.0)

    def ends(tokens):
        return tokens[-1] in (2, 4, 6)

    together = beam_search(Context(model, prompts, 20), config, ends=ends)
    assert len({len(hypothesis.tokens) for found in together for hypothesis in found}) > 1
    for prompt, found in zip(prompts, together, strict=True):
        alone = beam_search(Context(model, [prompt], 20), config, ends=ends)[0]
        assert [hypothesis.tokens for hypothesis in found] == [hypothesis.tokens for hypothesis in alone]
        assert [hypothesis.score for hypothesis in found] == pytest.approx([hypothesis.score for hypothesis in alone], abs=1e-5)
