"""Reading, splitting and cutting text; every unusable file is named with the reason."""

import numpy as np
import pytest

from minigpt.config import TrainConfig
from minigpt.data import load_corpus, random_batch, windows
from minigpt.errors import UserError
from minigpt.manual import Manual, embedded_text


def corpus(tmp_path, text, **settings):
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode("utf-8"))
    return load_corpus(TrainConfig(data=str(file), **settings))


def test_embedded_text_is_long_plain_and_always_the_same():
    text = embedded_text()
    assert len(text) > 300_000
    assert text.isascii() and text == embedded_text()
    assert Manual().digest == Manual().digest


def test_split_is_nine_tenths_and_contiguous(tmp_path):
    text = "".join(chr(97 + i % 26) for i in range(1000))
    got = corpus(tmp_path, text, block_size=8)
    assert got.tokenizer.decode(got.train) == text[:900]
    assert got.tokenizer.decode(got.validation) == text[900:]
    assert got.validation_characters == 100
    assert got.train.dtype == np.uint8


def test_large_vocabulary_is_not_wrapped(tmp_path):
    """Case 233."""
    text = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x12000)])) * 2
    got = corpus(tmp_path, text)
    assert got.tokenizer.vocab_size > 65536 and got.train.dtype == np.uint32
    assert got.tokenizer.decode(got.train) == text[: len(text) * 9 // 10]


def test_bpe_is_learned_from_the_training_part_alone(tmp_path):
    text = "abcd " * 180 + "zyxw " * 20
    got = corpus(tmp_path, text, tokenizer="bpe", vocab_size=300, block_size=8)
    assert any(b"abcd" in piece for piece in got.tokenizer.pieces)
    assert not any(b"zy" in piece for piece in got.tokenizer.pieces)


def test_too_short_says_both_numbers_and_one_more_token_is_enough(tmp_path):
    """Case 226."""
    with pytest.raises(UserError, match="first 90% has 36 tokens, and block_size 36 needs at least 37 there"):
        corpus(tmp_path, "a" * 40, block_size=36)
    assert len(corpus(tmp_path, "a" * 40, block_size=35).train) == 36
    with pytest.raises(UserError, match="last 10% has 2 tokens"):
        corpus(tmp_path, "a" * 20, block_size=1)
    with pytest.raises(UserError, match="last 10% has 3 tokens, and block_size 3 needs at least 4 there"):
        corpus(tmp_path, "a" * 30, block_size=3, model="bert", tokenizer="char")


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), (" \n\t\n", "nothing but white space"), ("\ufeff", "is empty")]
)
def test_texts_of_nothing(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        corpus(tmp_path, content)
    assert str(tmp_path / "text.txt") in str(caught.value)


def test_json_lines_are_read_under_the_field_that_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"body": "aaaaaaaaaa"}\n{"body": "' + "b" * 30 + '"}\n')
    got = load_corpus(TrainConfig(data=str(file), field="body", block_size=4))
    assert got.tokenizer.decode(got.train) == "a" * 10 + "<|endoftext|>" + "b" * 26


def test_windows_and_targets():
    ids, targets = windows(np.arange(10, dtype=np.uint16), np.array([0, 6]), 3)
    assert ids.tolist() == [[0, 1, 2], [6, 7, 8]] and targets.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert ids.dtype == np.int64


def test_random_batches_reach_every_place_and_follow_the_generator():
    tokens = np.arange(8, dtype=np.uint16)
    seen = {int(x) for seed in range(50) for x in random_batch(tokens, 4, 5, np.random.default_rng(seed))[0][:, 0]}
    assert seen == {0, 1, 2}
    first, second = (random_batch(tokens, 4, 5, np.random.default_rng(7))[0] for _ in range(2))
    assert np.array_equal(first, second)
