"""Reading, splitting and cutting text; every unusable file is named with the reason."""

import numpy as np
import pytest

from minigpt.config import TrainConfig
from minigpt.data import embedded_text, load_corpus, random_batch, read_text, windows
from minigpt.errors import UserError


def corpus(tmp_path, text, **settings):
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode("utf-8"))
    return load_corpus(TrainConfig(data=str(file), **settings))


def test_embedded_text_is_long_plain_and_always_the_same():
    text = embedded_text()
    assert len(text) > 300_000
    assert text.isascii() and text == embedded_text()


def test_split_is_nine_tenths_and_contiguous(tmp_path):
    text = "".join(chr(97 + i % 26) for i in range(1000))
    got = corpus(tmp_path, text, block_size=8)
    assert got.tokenizer.decode(got.train) == text[:900]
    assert got.tokenizer.decode(got.validation) == text[900:]
    assert got.validation_characters == 100
    assert got.train.dtype == np.uint16


def test_large_vocabulary_is_not_wrapped(tmp_path):
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
    with pytest.raises(UserError, match="first 90% has 36 tokens, and block_size 36 needs at least 37 there"):
        corpus(tmp_path, "a" * 40, block_size=36)
    assert len(corpus(tmp_path, "a" * 40, block_size=35).train) == 36
    with pytest.raises(UserError, match="last 10% has 2 tokens"):
        corpus(tmp_path, "a" * 20, block_size=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "nothing but white space"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"good \xff bad", "byte 0xff at offset 5"),
        ("text".encode("utf-16"), "looks like UTF-16"),
        (b"cut \xe4\xb8", "offset 4"),
        (b"\xed\xa0\x80", "offset 0"),
    ],
)
def test_unusable_files(tmp_path, content, message):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_text(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the data file .*none"):
        read_text(tmp_path / "none")
    with pytest.raises(UserError, match="has no files to read"):
        read_text(tmp_path)


def test_line_ends_and_nul_stay_and_the_mark_goes(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\0c\rd")
    assert read_text(file) == ("a\r\nb\0c\rd", str(file))


def test_folder_in_the_order_of_paths_without_hidden_files(tmp_path):
    for name, text in {"b.txt": "B", "a/z.txt": "Z", ".hidden": "H", ".git/x": "X"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_text(tmp_path)[0] == "Z\nB"


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
