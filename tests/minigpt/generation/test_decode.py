"""Cached is uncached, batched is single, padded is unpadded, guessed is greedy; past the end of the context too."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context, window_start
from minigpt.generation.decode import decode
from minigpt.generation.sampling import log_probability
from minigpt.generation.speculative import lookup

GREEDY = {"temperature": 0}


def logits_of(model, ids):
    with tg.no_grad():
        return model(np.array([ids])).numpy()[0]


def continued(model, prompts, count, seeds=None, **settings):
    """The new tokens of each prompt."""
    config = GenerationConfig(max_new_tokens=count, **settings)
    rngs = [np.random.default_rng(seed) for seed in (seeds or range(len(prompts)))]
    found = [[] for _ in prompts]
    for step in decode(Context(model, prompts, config.max_new_tokens), config, rngs):
        found[step.row].append(step.token)
    return found


def test_cached_logits_equal_the_full_forward(model):
    """Case 131."""
    ids = np.random.default_rng(1).integers(0, 11, 16)
    full = logits_of(model, ids)
    for first in (1, 5, 16):
        cache = model.new_cache()
        with tg.no_grad():
            parts = [model(ids[None, :first], cache=cache).numpy()[0]]
            parts += [model(ids[None, i : i + 1], cache=cache).numpy()[0] for i in range(first, 16)]
        assert np.abs(np.concatenate(parts) - full).max() < 1e-5 * np.abs(full).max()


def test_logits_of_the_last_positions_only(model):
    ids = np.random.default_rng(1).integers(0, 11, (2, 9))
    with tg.no_grad():
        full = model(ids).numpy()
        for last in (1, 3, 9):
            assert np.abs(model(ids, last=last).numpy() - full[:, -last:]).max() < 1e-5


def test_two_hundred_greedy_tokens_equal_uncached_ones(model):
    """Cases 131 and 243."""
    sequence = [1, 2, 3]
    for token in continued(model, [sequence], 200, **GREEDY)[0]:
        start = window_start(len(sequence), 16)
        assert token == logits_of(model, sequence[start:])[-1].argmax()
        sequence.append(token)
    assert len(sequence) == 203 and len(set(sequence)) > 5


@pytest.mark.parametrize("block", [1, 2, 3, 16])
def test_window_holds_half_to_all_of_the_context(block):
    starts = [window_start(n, block) for n in range(1, 100)]
    assert starts == sorted(starts)
    for n, start in enumerate(starts, 1):
        assert n - start <= block
        assert (n <= block and start == 0) or n - start >= block - max(1, block // 2) + 1
        assert start % max(1, block // 2) == 0


def prompts_of(*lengths):
    rng = np.random.default_rng(2)
    return [rng.integers(0, 11, length).tolist() for length in lengths]


@pytest.mark.parametrize("lengths", [(5, 5, 5), (1, 3, 3, 16, 9), (16, 1), (30, 2)])
@pytest.mark.parametrize("settings", [GREEDY, {}])
def test_a_batch_of_unequal_prompts_equals_each_alone(model, lengths, settings):
    prompts = prompts_of(*lengths)
    together = continued(model, prompts, 40, **settings)
    alone = [continued(model, [prompt], 40, [i], **settings)[0] for i, prompt in enumerate(prompts)]
    assert together == alone


@pytest.mark.parametrize("lengths", [(4, 4), (2, 7, 7, 16), (40, 3)])
def test_padding_changes_no_logits(model, lengths):
    """Case 132."""
    prompts = prompts_of(*lengths)
    context = Context(model, prompts, 30)
    for _ in range(30):
        logits = context.logits()[:, 0]
        for row, sequence in enumerate(context.sequences):
            full = logits_of(model, sequence[window_start(len(sequence), 16) :])[-1]
            assert np.abs(logits[row] - full).max() < 1e-5 * np.abs(full).max()
        context.extend(logits.argmax(axis=1))


def test_what_stands_in_the_padding_changes_nothing_at_all(model):
    ids = np.array([[1, 2, 3, 4, 5], [7, 7, 7, 4, 5]])
    results = []
    for filler in (7, 0):
        ids[1, :3] = filler
        with tg.no_grad():
            results.append(model(ids, cache=model.new_cache(2, padding=np.array([0, 3]))).numpy()[:, 3:])
    assert np.array_equal(*results)


def test_rows_that_end_leave_the_others_alone(model):
    prompts, over, found = prompts_of(3, 9, 5), set(), [[], [], []]
    config = GenerationConfig(max_new_tokens=25, temperature=0)
    for row, token, _ in decode(Context(model, prompts, config.max_new_tokens), config, [None] * 3, over=over):
        found[row].append(token)
        if len(found[row]) == (4, 25, 11)[row]:
            over.add(row)
    assert [len(tokens) for tokens in found] == [4, 25, 11]
    whole = continued(model, prompts, 25, **GREEDY)
    assert all(tokens == reference[: len(tokens)] for tokens, reference in zip(found, whole, strict=True))


def test_the_seed_decides(model):
    def draw(seed):
        return continued(model, [[1]], 40, [seed])

    assert draw(1) == draw(1) != draw(2)


def test_lookup():
    assert lookup([1, 2, 3, 4, 1, 2], 2, 2) == [3, 4]
    assert lookup([1, 2, 3, 1, 2, 4, 1, 2], 9, 2) == [4, 1, 2]  # the latest
    assert lookup([5, 2, 3, 1, 2, 4, 5, 2], 1, 3) == [3]  # the longest ending before the latest
    assert lookup([1, 2, 3], 5, 2) == []
    assert lookup([1], 5, 2) == []
    assert lookup([4, 4, 4], 5, 2) == [4]


@pytest.mark.parametrize("guess", [1, 3, 10])
@pytest.mark.parametrize("settings", [GREEDY, {"temperature": 0.7}, {"temperature": 0.5, "top_k": 3}])
def test_guesses_change_no_token(model, guess, settings):
    """The same random numbers give the same tokens, so the distribution is the same too."""
    for prompt in prompts_of(1, 9, 16, 40):
        plain = continued(model, [prompt], 120, **settings)
        assert continued(model, [prompt], 120, **settings, prompt_lookup_num_tokens=guess) == plain


def test_guesses_save_steps(model, monkeypatch):
    steps = []
    whole = Context.logits
    monkeypatch.setattr(Context, "logits", lambda self, last=1: steps.append(last) or whole(self, last))
    for settings in ({}, {"prompt_lookup_num_tokens": 4}):
        steps.append(None)
        continued(model, [[1, 2, 3]], 150, temperature=0, **settings)
    plain, guessed = (steps[1:151], steps[152:])
    assert len(plain) == 150 and len(guessed) < 130 and max(guessed) == 5


def test_log_probabilities_are_the_models_own(model):
    config = GenerationConfig(max_new_tokens=30, temperature=0.5, top_k=3)
    sequence = [4, 5]
    for step in decode(Context(model, [sequence.copy()], 30), config, [np.random.default_rng(0)], log_probs=True):
        logits = logits_of(model, sequence[window_start(len(sequence), 16) :])[-1]
        assert step.log_prob == pytest.approx(log_probability(logits, step.token), abs=1e-5)
        sequence.append(step.token)


def test_nothing_to_generate(model):
    assert continued(model, [[1]], 0) == [[]] and continued(model, [], 5) == []
