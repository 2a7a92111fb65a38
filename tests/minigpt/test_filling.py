"""Guesses for masks against all logits of the model, and what cannot be guessed."""

import json

import numpy as np
import pytest
from wordpiece import word_tokenizer

from minigpt.errors import UserError
from minigpt.exchange.pretrained import save_pretrained
from minigpt.filling import fill_mask
from minigpt.lossless import char_tokenizer
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import MaskedLM

WORDS = ["cat", "dog", "sat", "ran", "mat", "##s"]
CONFIG = BERTConfig(vocab_size=14, block_size=9, n_layer=2, n_head=2, n_embd=16)  # 3 more tokens than the tokenizer
TEXTS = ["cat [MASK]", "[MASK] sat [MASK] mat dog", "dogs ran [MASK]"]


def model():
    made = MaskedLM(CONFIG, np.random.default_rng(0)).eval()
    for p in made.parameters():
        p.data = p.data + np.random.default_rng(1).normal(0, 0.5, p.shape).astype(np.float32)
    return made


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_guesses_are_the_likeliest_tokens_at_each_mask(batch_size):
    bert, tokenizer = model(), word_tokenizer(WORDS)
    found = fill_mask(bert, tokenizer, TEXTS, 3, batch_size=batch_size)
    for text, masks in zip(TEXTS, found, strict=True):
        ids = tokenizer.encode_pair(text, control=True).ids
        assert len(masks) == text.count("[MASK]")
        for place, guesses in zip(np.flatnonzero(ids == 4), masks, strict=True):
            e = np.exp(bert(ids[None]).data[0, place].astype(float))
            best = np.argsort(-e[:11])[:3]
            assert [guess.token for guess in guesses] == best.tolist()
            assert [guess.word for guess in guesses] == [tokenizer.words[i] for i in best]
            np.testing.assert_allclose([guess.probability for guess in guesses], (e / e.sum())[best], rtol=1e-5)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["cat [MASK]", "cat"], r"text 2 has no \[MASK\]: write it"),
        (["cat " * 20 + "[MASK]"], "text 1 has 23 tokens, but the model reads 9 at most"),
    ],
)
def test_texts_without_a_mask_or_too_long_are_refused(texts, words):
    with pytest.raises(UserError, match=words):
        fill_mask(model(), word_tokenizer(WORDS), texts)


def test_a_mask_that_was_cut_off_is_missed():
    with pytest.raises(UserError, match=r"text 1 has no \[MASK\] among its first 9 tokens"):
        fill_mask(model(), word_tokenizer(WORDS), ["cat " * 20 + "[MASK]"], truncate=True)


def test_what_fills_no_masks_is_refused():
    with pytest.raises(UserError, match="a BERT fills no masks"):
        fill_mask(BERT(CONFIG), word_tokenizer(WORDS), TEXTS)
    with pytest.raises(UserError, match="the tokenizer has no token for a mask"):
        fill_mask(model(), char_tokenizer("abc"), ["abc"])


def test_the_command(command, tmp_path):
    save_pretrained(model(), tmp_path, word_tokenizer(WORDS))
    expected = fill_mask(model(), word_tokenizer(WORDS), TEXTS, 2)
    code, out, err = command("fill-mask", tmp_path, *TEXTS, "--count", 2, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "") and [record["text"] for record in records] == TEXTS
    assert [[g["token"] for g in mask] for record in records for mask in record["masks"]] == [
        [g.token for g in mask] for text in expected for mask in text
    ]
    _, out, _ = command("fill-mask", tmp_path, TEXTS[1], "--count", 1)
    first, second = (mask[0] for mask in expected[1])
    assert out == f"{TEXTS[1]}\n  {first.probability:.4f}  {first.word}\n  --\n  {second.probability:.4f}  {second.word}\n"
    code, _, err = command("fill-mask", tmp_path, "[MASK] " + "cat " * 20, "--truncate")
    assert code == 0 and err == "minigpt: 1 of 1 texts were cut to 9 tokens\n"


@pytest.mark.parametrize("arguments", [["cat"], ["[MASK]", "--count", "0"], ["--file", "none"], ["[MASK]", "--file", "x"]])
def test_mistakes_are_one_sentence(command, tmp_path, arguments):
    save_pretrained(model(), tmp_path, word_tokenizer(WORDS))
    code, out, err = command("fill-mask", tmp_path, *arguments)
    assert code == 2 and out == "" and err.startswith("minigpt: ") and err.count("\n") == 1
