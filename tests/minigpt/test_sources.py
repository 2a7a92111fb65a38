"""Text read as a stream is the text, whatever it comes from; what cannot be read is named with the reason."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from minigpt import sources
from minigpt.errors import UserError
from minigpt.sources import END, open_source


def documents(source):
    found = [""]
    for piece in source.pieces():
        if piece is END:
            found.append("")
        else:
            found[-1] += piece
    return found


def lines(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_a_file_is_one_document_and_keeps_line_ends_and_nul_but_not_its_mark(tmp_path):
    """Case 228."""
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\0c\rd")
    source = open_source(str(file))
    assert documents(source) == ["a\r\nb\0c\rd"] and source.one_document and source.name == str(file)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_characters_cut_by_a_piece_are_put_together(tmp_path, monkeypatch, size):
    monkeypatch.setattr(sources, "PIECE", size)
    text = "é€\U0001f600 z" * 3
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert documents(open_source(str(tmp_path / "a.txt"))) == [text]


def test_a_folder_is_its_files_in_the_order_of_their_paths_without_hidden_ones(tmp_path):
    for name, text in {"b.txt": "B", "a/z.txt": "Z", ".hidden": "H", ".git/x": "X"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert documents(open_source(str(tmp_path))) == ["Z", "B"]


def test_json_lines_are_documents_and_blank_lines_are_none(tmp_path):
    file = lines(tmp_path / "a.jsonl", {"text": "one\n", "n": 1}, {"text": "zwei é"})
    file.write_text(file.read_text() + "\n\n" + json.dumps({"text": ""}) + "\n")
    assert documents(open_source(str(file))) == ["one\n", "zwei é", ""]
    assert documents(open_source(str(lines(tmp_path / "b.ndjson", {"body": "b"})), "body")) == ["b"]


def test_gzip_is_unpacked(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("text é".encode()))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "t"}\n'))
    assert documents(open_source(str(tmp_path))) == ["text é", "t"]


def test_standard_input_can_be_read_twice(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("from a pipe é".encode())))
    source = open_source("-")
    assert documents(source) == documents(source) == ["from a pipe é"]


def test_the_digest_follows_the_content_and_how_it_is_read_alone(tmp_path):
    a, b = (lines(tmp_path / name, {"text": "x", "title": "y"}) for name in ("a.jsonl", "b.jsonl"))
    plain = tmp_path / "c.txt"
    plain.write_bytes(a.read_bytes())
    assert open_source(str(a)).digest == open_source(str(b)).digest
    digests = {open_source(str(a)).digest, open_source(str(a), "title").digest, open_source(str(plain)).digest}
    plain.write_bytes(a.read_bytes() + b"\n")
    assert len(digests | {open_source(str(plain)).digest}) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good \xff bad", "byte 0xff at offset 5"),
        ("text".encode("utf-16"), "looks like UTF-16"),
        (b"cut \xe4\xb8", "offset 4"),
        (b"\xed\xa0\x80", "offset 0"),
        (b"abcdefgh\xff", "offset 8"),
    ],
)
@pytest.mark.parametrize("size", [2, 3, 100])
def test_what_is_not_utf8(tmp_path, monkeypatch, content, message, size):
    """Case 228."""
    monkeypatch.setattr(sources, "PIECE", size)
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        documents(open_source(str(file)))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', r"line 2 has no text under 'text' \(it has keys 'text'\)"),
        ("a.jsonl", b'{"txt": "x"}\n', r"it has keys 'txt'\); name the key with --field"),
        ("a.jsonl", b"[1]\n", "it has a list"),
        ("a.jsonl", b'{"text": \n', "line 1 is not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.txt.gz", b"plain", "cannot read the data file"),
        ("a.txt.gz", gzip.compress(b"text" * 1000)[:-20], "cannot read the data file"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        documents(open_source(str(tmp_path / name)))


def test_a_folder_with_something_forbidden_in_it(tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "secret").write_text("text")
    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(UserError, match=r"cannot read the folder .*: Permission denied: .*secret"):
        open_source(str(tmp_path))


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the data file .*none"):
        documents(open_source(str(tmp_path / "none")))
    with pytest.raises(UserError, match="has no files to read"):
        open_source(str(tmp_path))
