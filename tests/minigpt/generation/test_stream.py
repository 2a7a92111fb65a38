"""What is shown is never half a character nor a part of a stop string, however the tokens fall."""

import numpy as np
import pytest

from minigpt.generation.stream import Writer
from minigpt.lossless import bpe_tokenizer, byte_tokenizer

TEXT = "Où est-il ? né 😀👍🏽! 中文 done. "


def pieces(raw, stops=(), ignored=0, tokenizer=None):
    """The pieces shown until the writer stops, and the rest at the end."""
    writer = Writer(tokenizer or byte_tokenizer(), stops, ignored)
    shown = []
    for token in raw:
        shown.append(writer.add(token))
        if writer.stopped:
            break
    shown.append(writer.end())
    assert "".join(shown) == writer.text
    return [piece for piece in shown if piece]


def test_a_stream_never_splits_a_character():
    raw = "né 😀!".encode() + "😀".encode()[:2]
    assert pieces(raw) == ["n", "é", " ", "😀", "!", "\ufffd"]


def test_every_cut_of_a_text_shows_whole_characters():
    """Case 253."""
    raw = TEXT.encode()
    for end in range(len(raw) + 1):
        shown = "".join(pieces(raw[:end]))
        assert shown == raw[:end].decode(errors="replace")
        assert shown.count("\ufffd") <= 1


def test_a_stop_string_is_cut_exactly_and_never_shown():
    """Case 252."""
    assert pieces(b"abcSTOPdef", ["STOP"]) == ["a", "b", "c"]
    assert pieces(b"abcSTdef", ["STOP"]) == ["a", "b", "c", "STd", "e", "f"]
    assert "".join(pieces(b"abcST", ["STOP"])) == "abcST"
    assert "".join(pieces(b"aaab", ["aab"])) == "a"
    assert pieces(b"STOP", ["STOP"]) == []
    assert "".join(pieces("x中文".encode(), ["文"])) == "x中"


def test_stop_strings_over_tokens_of_several_characters():
    """Case 252."""
    tokenizer = bpe_tokenizer(["the end of the end " * 20], 280)
    text = "the end of the story"
    for stop in ("nd of", "d", "e", " ", "story", "the end of the story"):
        shown = "".join(pieces(tokenizer.encode(text), [stop], tokenizer=tokenizer))
        assert shown == text[: text.index(stop)]


def test_the_stop_string_that_is_complete_first_counts():
    assert "".join(pieces(b"abcdef", ["cdef", "de"])) == "abc"
    assert "".join(pieces(b"abcdef", ["def", "abcde"])) == ""


def test_no_stop_before_the_least_length():
    assert "".join(pieces(b"a.b.c.d", ["."], ignored=1)) == "a"
    assert "".join(pieces(b"a.b.c.d", ["."], ignored=2)) == "a.b"
    assert "".join(pieces(b"a.b.c.d", ["."], ignored=3)) == "a.b"
    assert "".join(pieces(b"a.b.c.d", ["."], ignored=9)) == "a.b.c.d"


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_and_stops(seed):
    rng = np.random.default_rng(seed)
    alphabet = np.frombuffer("ab😀\xe9".encode(), np.uint8)
    raw = bytes(rng.choice(alphabet, 60))
    stops = ["ab", "ba", "aab", "😀a"]
    whole = raw.decode(errors="replace")
    ends = [(place + len(stop), place) for stop in stops if (place := whole.find(stop)) >= 0]
    assert "".join(pieces(raw, stops)) == (whole[: min(ends)[1]] if ends else whole)
