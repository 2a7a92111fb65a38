"""Texts to texts from Python and from the command line; a small T5 learns to spell backwards; every mistake is one sentence."""

import io
import json
import sys

import numpy as np
import pytest

import minigpt
from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig
from minigpt.generation.translate import source_ids, translate
from minigpt.lossless import char_tokenizer
from minigpt.models.bart import Bart, BartConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.t5 import T5, T5Config
from tensorgrad import optim

LETTERS = "abcdef"


@pytest.fixture(scope="module")
def backwards():
    """A T5 that learned to write short words backwards, and its tokenizer."""
    tokenizer = char_tokenizer(LETTERS + ">", ["<pad>", "</s>"])
    pad, end = tokenizer.specials["<pad>"], tokenizer.specials["</s>"]
    rng = np.random.default_rng(0)
    shape = {"n_layer": 1, "n_head": 4, "n_embd": 48, "n_inner": 96, "dropout": 0.0, "n_buckets": 16, "farthest": 16}
    model = T5(T5Config(tokenizer.vocab_size, **shape, start_token=pad, end_token=end, pad_token=pad), rng)
    optimizer = optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(320):
        lengths = rng.integers(1, 6, 48)
        words = ["".join(rng.choice(list(LETTERS), length)) for length in lengths]
        ids, targets = np.full((48, 6), pad), np.full((48, 6), -100)
        for row, word in enumerate(words):
            ids[row, : len(word) + 1] = source_ids(tokenizer, word, end)
            targets[row, : len(word) + 1] = source_ids(tokenizer, word[::-1], end)
        before = np.insert(np.where(targets == -100, pad, targets)[:, :-1], 0, pad, axis=1)
        loss = model.loss(ids, before, targets, np.arange(6) <= lengths[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def folder(backwards, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "backwards"
    minigpt.save(path, *backwards)
    return path


WORDS = ["abc", "f", "fedcb", "aab", "cafe"]


def test_it_has_learned_to_spell_backwards(backwards):
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list(LETTERS), length)) for length in rng.integers(1, 6, 60)]
    answers = translate(*backwards, words)
    right = sum(answer.text == word[::-1] for answer, word in zip(answers, words, strict=True))
    assert right >= 54
    assert [answer.prompt for answer in answers] == words
    assert all(
        answer.finish == "stop" and answer.tokens[-1] == backwards[0].config.end_token for answer in answers if answer.text
    )


def test_batches_and_order_change_nothing(backwards):
    texts = [answer.text for answer in translate(*backwards, WORDS)]
    for size in (1, 2, 5):
        assert [answer.text for answer in minigpt.translate(*backwards, WORDS[::-1], batch_size=size)] == texts[::-1]


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"temperature": 0, "num_beams": 4}])
def test_several_answers_to_each(backwards, settings):
    config = GenerationConfig(max_new_tokens=8, num_return_sequences=3, **settings)
    answers = translate(*backwards, WORDS, config, seed=5, log_probs=True)
    assert [answer.prompt for answer in answers] == [word for word in WORDS for _ in range(3)]
    assert [answer.tokens for answer in translate(*backwards, WORDS, config, seed=5, batch_size=1)] == [a.tokens for a in answers]
    for answer in answers:
        assert len(answer.log_probs) == len(answer.tokens) and max(answer.log_probs) <= 0
    if "num_beams" in settings:
        totals = [sum(answer.log_probs) / len(answer.tokens) for answer in answers]
        assert all(totals[i] >= totals[i + 1] for i in range(14) if i % 3 < 2)


def test_an_answer_begins_with_the_prefix(backwards):
    model, tokenizer = backwards
    answer = translate(model, tokenizer, ["abc"], GenerationConfig(max_new_tokens=4, temperature=0), prefix="c")[0]
    assert answer.text == "ba"


def test_processors_and_stop_strings_apply(backwards):
    settings = {"max_new_tokens": 8, "temperature": 0}
    without = translate(*backwards, ["abc"], GenerationConfig(**settings, bad_words=("c",)))[0]
    assert "c" not in without.text
    stopped = translate(*backwards, ["cafe"], GenerationConfig(**settings, stop_strings=("ac",)))[0]
    assert (stopped.text, stopped.finish) == ("ef", "stop")
    longer = translate(*backwards, ["abc"], GenerationConfig(**settings, min_new_tokens=7))[0]
    assert len(longer.tokens) >= 7


def test_positions_bound_the_answer_and_the_text():
    tokenizer = char_tokenizer(LETTERS, ["<pad>", "</s>"])
    tokens = {"start_token": 6, "end_token": 7, "pad_token": 6}
    assert list(tokenizer.specials.values()) == [6, 7]
    config = BartConfig(tokenizer.vocab_size, block_size=6, n_layer=1, n_head=2, n_embd=8, **tokens)
    model = Bart(config, np.random.default_rng(0)).eval()
    assert len(translate(model, tokenizer, ["abcde"], GenerationConfig(min_new_tokens=9, temperature=0))[0].tokens) == 5
    with pytest.raises(UserError, match="a text has 9 tokens, but the model reads 6 at most"):
        translate(model, tokenizer, ["abc", "abcdefab"])
    end = model.config.end_token
    assert source_ids(tokenizer, "abcdefab", end, 6, truncate=True).tolist() == [*tokenizer.encode("abcde"), end]
    cut = translate(model, tokenizer, ["abcdefab"], truncate=True)[0]
    assert cut.tokens == translate(model, tokenizer, ["abcde"])[0].tokens


@pytest.mark.parametrize("beams", [1, 3])
def test_no_text_has_padding_or_a_token_that_the_tokenizer_lacks(beams):
    """A Marian gives the pad token a logit of 0, which may well be the highest; a table of tokens may have spare rows."""
    tokenizer = char_tokenizer(LETTERS, ["<pad>", "</s>"])
    tokens = {"start_token": 6, "end_token": 7, "pad_token": 6}
    config = BartConfig(12, block_size=9, n_layer=1, n_head=2, n_embd=8, **tokens)
    model = Bart(config, np.random.default_rng(0)).eval()
    model.output_bias.data = np.array([0] * 6 + [9.0, 0, 9, 9, 9, 9], np.float32)
    answer = translate(model, tokenizer, ["abc"], GenerationConfig(temperature=0, num_beams=beams))[0]
    assert answer.tokens and set(answer.tokens) <= {0, 1, 2, 3, 4, 5, 7}


def test_what_is_refused(backwards):
    model, tokenizer = backwards
    with pytest.raises(UserError, match="a text to read is empty"):
        translate(model, tokenizer, ["abc", " "])
    with pytest.raises(UserError, match="a GPT does not translate: an encoder-decoder is needed"):
        translate(GPT(GPTConfig(tokenizer.vocab_size)), tokenizer, ["abc"])
    assert translate(model, tokenizer, []) == []


def test_the_command_reads_arguments_a_file_and_standard_input(command, folder, tmp_path, monkeypatch):
    code, out, err = command("translate", folder, *WORDS)
    assert (code, err) == (0, "") and len(out.splitlines()) == 5 and out.splitlines()[0] == "cba"
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    assert command("translate", folder, "--file", path)[1] == out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert command("translate", folder)[1] == out


def test_the_command_writes_json(command, folder):
    code, out, _ = command("translate", folder, "abc", "f", "--json", "--num-beams", 3, "--num-return-sequences", 2)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [record["prompt"] for record in records] == ["abc", "abc", "f", "f"]
    assert records[0]["text"] == "cba" and records[0]["finish"] == "stop" and len(records[0]["log_probs"]) == 4


def test_the_command_scores_a_table(command, folder, tmp_path):
    """A source with several targets counts once, and each is right."""
    path = tmp_path / "pairs.tsv"
    path.write_text("word\tback\nabc\txxx\nabc\tcba\nf\tf\nbad\taab\n")
    arguments = ("translate", folder, "--score", path, "--source-column", "word", "--target-column", "back")
    code, out, _ = command(*arguments, "--json")
    found = json.loads(out)
    assert code == 0 and found["texts"] == 3
    assert found["exact_match"] == pytest.approx(2 / 3) and found["text_error_rate"] == pytest.approx(1 / 3)
    assert command(*arguments)[1].splitlines()[1] == "exact match         0.6667"
    code, _, err = command("translate", folder, "--score", path)
    assert code == 2 and "has no column 'source'" in err and "--source-column" in err
    assert "do not go with --score" in command("translate", folder, "abc", "--score", path)[2]


def test_texts_that_are_cut_are_counted(command, tmp_path):
    """A source that a table has twice is read, and counted, once."""
    tokenizer = char_tokenizer(LETTERS, ["<pad>", "</s>"])
    tokens = {"start_token": 6, "end_token": 7, "pad_token": 6}
    config = BartConfig(tokenizer.vocab_size, block_size=6, n_layer=1, n_head=2, n_embd=8, **tokens)
    minigpt.save(tmp_path / "bart", Bart(config, np.random.default_rng(0)), tokenizer)
    said = "minigpt: 1 of 2 texts were cut to 6 tokens\n"
    code, out, err = command("translate", tmp_path / "bart", "abcde", "abcdef", "--truncate", "--json")
    assert (code, len(out.splitlines()), err) == (0, 2, said)
    assert command("translate", tmp_path / "bart", "abcde", "--truncate", "--json")[2] == ""
    path = tmp_path / "pairs.tsv"
    path.write_text("source\ttarget\nabcdef\ta\nabc\tb\nabcdef\tc\n")
    code, _, err = command("translate", tmp_path / "bart", "--score", path, "--truncate")
    assert (code, err) == (0, said)
    assert "a text has 7 tokens" in command("translate", tmp_path / "bart", "--score", path)[2]


def test_mistakes_on_the_command_line_are_one_sentence(command, folder, trained):
    for arguments, words in (
        ((trained, "abc"), "does not translate"),
        ((folder, " "), "is empty"),
        ((folder, "abc", "--num-beams", "0"), "num_beams must be in [1, 1000]"),
        ((folder, "abc", "--batch-size", "0"), "--batch-size must be at least 1"),
        ((folder, "abc", "--file", "x"), "not both"),
        ((folder, "xyz"), "x"),
    ):
        code, out, err = command("translate", *arguments)
        assert (code, out) == (2, "") and err.startswith("minigpt: ") and err.count("\n") == 1 and words in err, err
