"""Cached generation equals the full forward, also past the context; drawing a token follows its definition."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.errors import MinigptError, UserError
from minigpt.generate import Sampling, choose, generate, generate_text, start_ids, window_start
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizer import byte_tokenizer, char_tokenizer

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def model():
    """Weights large enough that what it writes varies."""
    rng = np.random.default_rng(0)
    made = GPT(GPTConfig(vocab_size=11, block_size=16, n_layer=2, n_head=2, n_embd=16), rng)
    sizes = {"wte.weight": 0.3, "wpe.weight": 1.0}
    state = made.state_dict().items()
    made.load_state_dict({k: rng.normal(0, sizes.get(k, 0.5), v.shape) if v.ndim == 2 else v for k, v in state})
    made.eval()
    return made


def logits_of(model, ids):
    with tg.no_grad():
        return model(np.array([ids])).numpy()[0]


def test_cached_logits_equal_the_full_forward(model):
    ids = np.random.default_rng(1).integers(0, 11, 16)
    full = logits_of(model, ids)
    for first in (1, 5, 16):
        cache = model.new_cache()
        with tg.no_grad():
            parts = [model(ids[None, :first], cache=cache).numpy()[0]]
            parts += [model(ids[None, i : i + 1], cache=cache).numpy()[0] for i in range(first, 16)]
        assert np.abs(np.concatenate(parts) - full).max() < 1e-5 * np.abs(full).max()


def test_two_hundred_greedy_tokens_equal_uncached_ones(model):
    sequence = [1, 2, 3]
    for token in generate(model, sequence, 200, GREEDY):
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


def test_the_seed_decides(model):
    def draw(seed):
        return list(generate(model, [1], 40, Sampling(), np.random.default_rng(seed)))

    assert draw(1) == draw(1) != draw(2)


def frequencies(logits, sampling, draws=4000):
    rng = np.random.default_rng(0)
    chosen = [choose(np.array(logits, np.float32), sampling, rng) for _ in range(draws)]
    return np.bincount(chosen, minlength=len(logits)) / draws


def test_drawing_follows_the_softmax():
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert frequencies(logits, Sampling()) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    squares = np.array([1, 4, 9, 16]) / 30
    assert frequencies(logits, Sampling(temperature=0.5)) == pytest.approx(squares, abs=0.03)
    assert frequencies(logits, Sampling(temperature=1e6)) == pytest.approx([0.25] * 4, abs=0.03)
    for greedy in (0, 1e-6, 1e-320):
        assert frequencies(logits, Sampling(temperature=greedy), 20)[3] == 1


def test_top_k_keeps_ties_and_top_p_keeps_the_nucleus():
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert frequencies(logits, Sampling(top_k=2)) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.03)
    assert frequencies(logits, Sampling(top_k=100)) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    assert frequencies([0, 1, 1, 0], Sampling(top_k=1)) == pytest.approx([0, 0.5, 0.5, 0], abs=0.03)
    assert frequencies(logits, Sampling(top_p=0.5)) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.03)
    assert frequencies(logits, Sampling(top_p=0.39))[3] == 1
    assert frequencies(logits, Sampling(top_p=1e-9))[3] == 1
    assert frequencies(logits, Sampling(top_p=0.71))[0] == 0 < frequencies(logits, Sampling(top_p=0.71))[1]


def test_masked_tokens_are_never_drawn():
    assert frequencies([-math.inf, 0, -math.inf], Sampling(), 200)[1] == 1


@pytest.mark.parametrize("logits", [[0, math.nan], [0, math.inf], [-math.inf, -math.inf]])
def test_damaged_logits(logits):
    with pytest.raises(MinigptError, match="not numbers"):
        choose(np.array(logits), Sampling(), np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": math.nan},
        {"temperature": -1},
        {"temperature": math.inf},
        {"temperature": "1"},
        {"top_k": -2},
        {"top_k": 2.5},
        {"top_k": "5"},
        {"top_p": 0},
        {"top_p": 1.0001},
        {"top_p": math.nan},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(UserError, match=f"^{next(iter(settings))} must be"):
        Sampling(**settings)


def test_prompts(model):
    letters = char_tokenizer("abcdefghij\n")
    assert start_ids(model, letters, "").tolist() == letters.encode("\n").tolist()
    assert start_ids(model, char_tokenizer("abcdefghijk"), "").tolist() == [0]
    assert len(start_ids(model, letters, "a" * 16)) == 16
    with pytest.raises(UserError, match="the prompt has 17 tokens, but the model's context is 16"):
        start_ids(model, letters, "a" * 17)
    assert letters.decode(start_ids(model, letters, "b" + "a" * 16, truncate=True)) == "a" * 16
    with pytest.raises(UserError, match="the character 'z' at position 1"):
        generate_text(model, letters, "az")


def test_a_stream_never_splits_a_character(monkeypatch, model):
    raw = "né 😀!".encode() + "😀".encode()[:2]
    monkeypatch.setattr("minigpt.generate.generate", lambda *_: iter(raw))
    pieces = list(generate_text(model, byte_tokenizer(), ""))
    assert pieces == ["n", "é", " ", "😀", "!", "\ufffd"]
