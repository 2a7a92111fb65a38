"""decode(encode(text)) == text for every kind, in our code and in the tokenizers library's reading of the file."""

import json

import numpy as np
import pytest
import tokenizers

from minigpt.errors import UserError
from minigpt.lossless import BYTE_LETTERS, Lossless, bpe_tokenizer, byte_tokenizer, char_tokenizer
from minigpt.tokenizer_file import load_tokenizer

TEXT = "First Citizen:\r\nWe'll  proceed,\tno  further\n\n<|endoftext|> é ß 中文 😀👍🏽 \u200d e\u0301 \0 \x7f end  " * 3
OTHER = "A naïve café; 日本語, don't! \ufeff \ufffd <|endoftext|><pad>[UNK] \n\r \u2028 🏳️‍🌈"


def made(kind):
    return {"char": char_tokenizer, "bytes": lambda _: byte_tokenizer(), "bpe": lambda t: bpe_tokenizer([t], 300)}[kind](TEXT)


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe"])
def test_round_trip_here_and_in_the_published_file(kind, tmp_path):
    ours = made(kind)
    assert ours.kind == kind
    path = tmp_path / "tokenizer.json"
    path.write_text(ours.backend.to_str(), encoding="utf-8")
    published, again = tokenizers.Tokenizer.from_file(str(path)), load_tokenizer(path)
    assert again.kind == kind and again.pieces == ours.pieces
    for text in ["", "e", TEXT] + ([OTHER] if kind != "char" else []):
        ids = ours.encode(text)
        assert ids.dtype == np.int64 and ids.ndim == 1
        assert ours.decode(ids) == text
        assert np.array_equal(ids, again.encode(text))
        assert ids.tolist() == published.encode(text).ids
        assert published.decode(ids.tolist()) == text


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe"])
def test_transformers_reads_the_folder(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = made(kind)
    (tmp_path / "tokenizer.json").write_text(ours.backend.to_str(), encoding="utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ids = theirs(TEXT)["input_ids"]
    assert ids == ours.encode(TEXT).tolist()
    assert theirs.decode(ids, clean_up_tokenization_spaces=False) == TEXT


def test_vocabularies():
    assert [piece.decode() for piece in char_tokenizer("banana\n").pieces] == ["\n", "a", "b", "n"]
    assert byte_tokenizer().pieces == [bytes([i]) for i in range(256)]
    learned = bpe_tokenizer(["low lower lowest " * 20], 260)
    assert learned.vocab_size == 260
    assert sorted(piece for piece in learned.pieces if len(piece) == 1) == [bytes([i]) for i in range(256)]
    assert bpe_tokenizer(["ab" * 3], 1000).vocab_size < 1000


def test_byte_letters_are_those_of_the_library():
    assert sorted(BYTE_LETTERS) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in "a \n\x7fé中\xad":
        letters = split.pre_tokenize_str(character)[0][0]
        assert letters == "".join(BYTE_LETTERS[byte] for byte in character.encode())


def test_learning_a_vocabulary_twice_gives_the_same():
    assert bpe_tokenizer([TEXT + OTHER], 400).backend.to_str() == bpe_tokenizer([TEXT + OTHER], 400).backend.to_str()


def test_an_unknown_character_is_named_wherever_it_stands():
    ours = char_tokenizer("ab", ["<|x|>"])
    assert ours.encode("a<|x|>b", control=True).tolist() == [0, 2, 1] == ours.encode_pair("a<|x|>b", control=True).ids.tolist()
    for read in (ours.encode, ours.encode_pair):
        with pytest.raises(UserError, match="the character 'c' at position 2 is not among the 2 characters"):
            read("abc<|x|>", control=True)


def test_a_control_token_in_a_published_file_is_never_read_from_text():
    """Case 232."""
    backend = tokenizers.Tokenizer.from_str(bpe_tokenizer([TEXT], 300).backend.to_str())
    backend.add_special_tokens(["<|endoftext|>"])
    ours = Lossless(backend)
    control = ours.vocab_size - 1
    assert ours.piece(control) == b"<|endoftext|>"
    ids = ours.encode("a<|endoftext|>b")
    assert control not in ids and ours.decode(ids) == "a<|endoftext|>b"


def test_unknown_character_is_named_with_its_place():
    """Case 231."""
    with pytest.raises(UserError, match="the character 'z' at position 2 is not among the 2 characters"):
        char_tokenizer("ab").encode("abz")


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe"])
def test_lone_surrogates_and_foreign_ids_are_refused(kind):
    """Case 230."""
    ours = made(kind)
    with pytest.raises(UserError, match=r"lone surrogate, '\\ud800', at position 1"):
        ours.encode("e\ud800")
    for token in (-1, ours.vocab_size):
        with pytest.raises(UserError, match=f"token {token} is not in the vocabulary"):
            ours.decode([token])


def test_bytes_that_are_no_text_decode_to_the_replacement_character():
    assert byte_tokenizer().decode([0xE4, 0xB8]) == "\ufffd"


def test_a_million_equal_letters():
    """Case 238."""
    text = "a" * 1_000_000
    tokenizer = bpe_tokenizer(["aaaa " * 100], 260)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bad_files(tmp_path):
    """Case 197."""
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match="cannot read"):
        load_tokenizer(path)
    description = json.loads(char_tokenizer("ab").backend.to_str())
    gap = json.dumps(description | {"model": description["model"] | {"vocab": {"a": 0, "b": 2}}})
    long = json.dumps(description | {"model": description["model"] | {"vocab": {"a": 0, "bc": 1}}})
    for content, message in [
        ("", "is not a tokenizer file"),
        ("[1]", "is not a tokenizer file"),
        ("\udcff", "is not a tokenizer file"),
        (gap, "do not run from 0 to 1"),
        (long, "token 1 is 'bc'"),
    ]:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match=message):
            load_tokenizer(path)
