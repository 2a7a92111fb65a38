"""Texts given to a command, by lines and by arguments."""

import io
import sys
from types import SimpleNamespace

import pytest

from minigpt.commands.inputs import given_texts, read_lines
from minigpt.errors import UserError


@pytest.mark.parametrize(("raw", "lines"), [(b"a\nb\n", ["a", "b"]), (b"a\r\nb", ["a", "b"]), (b"\xef\xbb\xbfa\n", ["a"])])
def test_a_text_a_line(tmp_path, raw, lines):
    (tmp_path / "texts").write_bytes(raw)
    assert given_texts({"texts": [], "file": str(tmp_path / "texts")}) == lines


def test_an_empty_line_is_said_rather_than_left_out(tmp_path):
    """With it left out, the answers below would stand beside other texts."""
    file = tmp_path / "texts"
    file.write_bytes(b"a\n \nb\n")
    with pytest.raises(UserError, match=r"line 2 of .*texts is empty"):
        given_texts({"texts": [], "file": str(file)})
    assert read_lines(str(file), "prompts") == ["a", "b"]


@pytest.mark.parametrize("raw", [b"", b"\n \n"])
def test_nothing_to_read(monkeypatch, raw):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    with pytest.raises(UserError, match="there are no texts in -"):
        given_texts({"texts": [], "file": None})


def test_texts_come_one_way():
    with pytest.raises(UserError, match="not both"):
        given_texts({"texts": ["a"], "file": "b"})
