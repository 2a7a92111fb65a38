"""Prompts in, text out."""

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig
from minigpt.generation.text import generate_text, generate_texts, start_ids
from minigpt.lossless import byte_tokenizer, char_tokenizer

LETTERS = char_tokenizer("abcdefghij\n")
GREEDY = GenerationConfig(max_new_tokens=30, temperature=0)


def streamed(model, prompt, **settings):
    config = GenerationConfig(**{"max_new_tokens": 30} | settings)
    return "".join(generate_text(model, LETTERS, prompt, config, np.random.default_rng([7, 0])))


def test_prompts(model):
    """Case 242."""
    assert start_ids(model, LETTERS, "").tolist() == LETTERS.encode("\n").tolist()
    assert start_ids(model, char_tokenizer("abcdefghijk"), "").tolist() == [0]
    assert len(start_ids(model, LETTERS, "a" * 16)) == 16
    with pytest.raises(UserError, match="the prompt has 17 tokens, but the model's context is 16"):
        start_ids(model, LETTERS, "a" * 17)
    assert LETTERS.decode(start_ids(model, LETTERS, "b" + "a" * 16, truncate=True)) == "a" * 16
    with pytest.raises(UserError, match="the character 'z' at position 1"):
        generate_text(model, LETTERS, "az")
    with pytest.raises(UserError, match="the character 'z' at position 1"):
        generate_texts(model, LETTERS, ["a", "az"])


def test_a_text_is_the_same_alone_streamed_and_in_a_batch(model):
    """Case 172."""
    config = GenerationConfig(max_new_tokens=30, num_return_sequences=2)
    prompts = ["abcabc", "j", "", "abcdefghijabcdef"]
    together = generate_texts(model, LETTERS, prompts, config, seed=7)
    assert [answer.prompt for answer in together] == [prompt for prompt in prompts for _ in range(2)]
    for i, prompt in enumerate(prompts):
        alone = generate_texts(model, LETTERS, [prompt], config, seed=7)
        assert [answer.text for answer in together[2 * i : 2 * i + 2]] == [answer.text for answer in alone]
        assert alone[0].text != alone[1].text
        assert alone[0].text == streamed(model, prompt)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}])
def test_stop_strings(model, settings):
    config = {"temperature": 0} | settings
    whole = streamed(model, "ab", **config)
    stop = whole[9:11]
    answer = generate_texts(model, LETTERS, ["ab"], GenerationConfig(max_new_tokens=30, stop_strings=(stop,), **config))[0]
    assert stop not in answer.text and answer.finish == "stop"
    if not settings:
        assert answer.text == whole[: whole.index(stop)]
        late = streamed(model, "ab", **config, stop_strings=(stop,), min_new_tokens=30)
        assert late == whole


def test_bad_words_and_biases(model):
    whole = streamed(model, "ab", temperature=0)
    word = whole[3:5]
    assert word in whole and word not in streamed(model, "ab", temperature=0, bad_words=(word,))
    assert streamed(model, "ab", temperature=0, sequence_bias=(("c", 1e4),)) == "c" * 30
    assert streamed(model, "ab", sequence_bias=(("c", -1e4),)).count("c") == 0


def test_no_pair_occurs_twice(model):
    text = "ab" + streamed(model, "ab", no_repeat_ngram_size=2)
    pairs = [text[i : i + 2] for i in range(len(text) - 1)]
    assert len(set(pairs)) == len(pairs)


def test_the_end_of_text_token_ends_a_text_and_is_not_shown(varied_models):
    model, letters = varied_models(vocab_size=12), char_tokenizer("abcdefghij\n", ["<|endoftext|>"])
    end = letters.end_of_text
    config = GenerationConfig(max_new_tokens=200, num_return_sequences=8)
    for answer in generate_texts(model, letters, ["ab"], config):
        assert answer.tokens.index(end) == len(answer.tokens) - 1 and answer.finish == "stop"
        assert answer.text == letters.decode(answer.tokens[:-1])
    least = GenerationConfig(max_new_tokens=200, min_new_tokens=100, num_return_sequences=4)
    assert min(len(answer.tokens) for answer in generate_texts(model, letters, ["ab"], least)) > 100
    beams = GenerationConfig(max_new_tokens=50, temperature=0, num_beams=3)
    assert generate_texts(model, letters, ["ab"], beams)[0].tokens.count(end) <= 1


def test_an_answer_knows_its_tokens_and_times(model):
    answer = generate_texts(model, LETTERS, ["ab"], GREEDY, log_probs=True)[0]
    assert LETTERS.decode(answer.tokens) == answer.text == streamed(model, "ab", temperature=0)
    assert len(answer.log_probs) == 30 and max(answer.log_probs) <= 0 and answer.finish == "length"
    assert 0 < answer.first_token_seconds <= answer.seconds
    assert generate_texts(model, LETTERS, ["ab"], GREEDY)[0].log_probs == []


def test_half_a_character_at_the_end_is_a_replacement_character(varied_models):
    """Case 253."""
    model = varied_models(vocab_size=256)
    config = GenerationConfig(max_new_tokens=3, sequence_bias=tuple((c, 1e4) for c in "é"), temperature=0)
    texts = [answer.text for answer in generate_texts(model, byte_tokenizer(), ["a", "b", "c"], config)]
    assert all(len(text) <= 3 for text in texts)
