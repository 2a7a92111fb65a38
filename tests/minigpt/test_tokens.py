"""A token file holds what encoding the whole text at once gives, is made once, and is checked before it is used."""

import itertools
import json
import os

import numpy as np
import pytest

from minigpt import sources, tokens
from minigpt.errors import UserError
from minigpt.lock import locked
from minigpt.sources import END, open_source
from minigpt.tokens import encodable, id_type, tokenize
from minigpt.vocabularies import Vocabulary

WORDS = "the low lower lowest é\n\n  two  spaces, it's 3.14 \t tab\r\nnew <|endoftext|> end" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(tmp_path, text, name="text.txt"):
    (tmp_path / name).write_bytes(text.encode())
    return open_source(str(tmp_path / name))


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe"])
@pytest.mark.parametrize("piece", [7, 64, 1000, 1 << 20])
def test_a_stream_gives_the_ids_of_the_whole(tmp_path, cache, monkeypatch, kind, piece):
    monkeypatch.setattr(sources, "PIECE", piece)
    got = tokenize(source(tmp_path, WORDS), Vocabulary(kind, 300))
    cut = len(WORDS) * 9 // 10
    train, validation = (got.tokenizer.encode(part) for part in (WORDS[:cut], WORDS[cut:]))
    assert np.array_equal(got.ids[: got.cut], train) and np.array_equal(got.ids[got.cut :], validation)
    assert got.validation_characters == len(WORDS) - cut
    assert got.tokenizer.end_of_text is None  # one document has no end within


def test_no_token_reaches_across_pieces():
    text = "one  two\n three" * 50
    for size in (1, 2, 3, 10, 99):
        stream = list(encodable(iter([text[i : i + size] for i in range(0, len(text), size)]), 333))
        assert "".join(t for part, t in stream if part == 0) == text[:333]
        assert "".join(t for part, t in stream if part == 1) == text[333:]
        for (_, before), (part, after) in itertools.pairwise(stream):
            assert (part == 1 and before == text[:333][-len(before) :]) or (not before[-1].isspace() and after[0] in " \n")


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe"])
def test_documents_are_separated_by_a_token_that_no_text_contains(tmp_path, cache, kind):
    """Case 232."""
    texts = ["first <|endoftext|> document. " * 4, "", "the second é\n" * 4]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    got = tokenize(open_source(str(file)), Vocabulary(kind, 280))
    end = got.tokenizer.end_of_text
    assert end == got.tokenizer.vocab_size - 1
    parts = [got.tokenizer.decode(part[part != end]) for part in np.split(got.ids, np.flatnonzero(got.ids == end))]
    assert parts == texts


def test_the_smallest_type_that_holds_every_id():
    """Case 233."""
    assert [id_type(n) for n in (1, 2, 256, 257, 65536, 65537)] == ["uint8", "uint8", "uint8", "uint16", "uint16", "uint32"]


def test_made_once_and_found_again_by_content(tmp_path, cache, monkeypatch):
    first = tokenize(source(tmp_path, WORDS), Vocabulary("char", 0))
    monkeypatch.setattr(tokens, "_write", None)  # must not be needed
    again = tokenize(source(tmp_path, WORDS, "other name.txt"), Vocabulary("char", 0))
    assert np.array_equal(first.ids, again.ids) and len(list(cache.iterdir())) == 1
    with pytest.raises(TypeError):
        tokenize(source(tmp_path, WORDS + "!"), Vocabulary("char", 0))


def test_another_process_may_have_made_it_first(tmp_path, cache, monkeypatch):
    write = tokens._write

    def overtaken(*args):
        write(*args)
        with monkeypatch.context() as patch:
            patch.setattr(tokens, "_write", write)
            tokenize(source(tmp_path, WORDS), Vocabulary("char", 0))

    monkeypatch.setattr(tokens, "_write", overtaken)
    assert len(tokenize(source(tmp_path, WORDS), Vocabulary("char", 0)).ids) == len(WORDS)
    assert [path.name[0] != "." for path in cache.iterdir()] == [True]


def test_what_a_dead_process_left_is_removed(tmp_path, cache):
    """Case 203: but not what a living one works in, or has just begun."""
    dead, held, young, other = (cache / name for name in (f".{'0' * 32}.a", f".{'1' * 32}.b", f".{'2' * 32}.c", ".mine"))
    for folder in (dead, held, young, other):
        folder.mkdir(parents=True)
        (folder / "ids").write_bytes(bytes(100))
        if folder != young:
            os.utime(folder, (0, 0))
    with locked(held):
        os.utime(held, (0, 0))
        tokenize(source(tmp_path, WORDS), Vocabulary("char", 0))
    assert not dead.exists() and all((folder / "ids").exists() for folder in (held, young, other))


def test_a_failure_leaves_nothing_behind(tmp_path, cache):
    with pytest.raises(UserError, match="offset 240"):
        (tmp_path / "text.txt").write_bytes(b"good text " * 24 + b"\xff")
        tokenize(open_source(str(tmp_path / "text.txt")), Vocabulary("char", 0))
    assert list(cache.iterdir()) == []


def _cut(folder):
    with open(folder / "ids", "r+b") as file:
        file.truncate(100)


def _out_of_vocabulary(folder):
    with open(folder / "ids", "r+b") as file:
        file.write(b"\xff")


def _another_type(folder):
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(about | {"dtype": "uint16", "counts": [n // 2 for n in about["counts"]]}))


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _out_of_vocabulary,
        _another_type,
        lambda folder: (folder / "ids").unlink(),
        lambda folder: (folder / "ids").write_bytes(b""),
        lambda folder: (folder / "about.json").write_text("{}"),
        lambda folder: (folder / "about.json").write_text("not json"),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
    ],
)
def test_a_damaged_token_file_is_made_again_before_any_kernel_sees_it(tmp_path, cache, damage):
    """Case 234."""
    before = tokenize(source(tmp_path, WORDS), Vocabulary("char", 0)).ids.copy()
    [folder] = cache.iterdir()
    damage(folder)
    assert np.array_equal(tokenize(source(tmp_path, WORDS), Vocabulary("char", 0)).ids, before)
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="MINIGPT_CACHE"):
        tokenize(source(tmp_path, WORDS), Vocabulary("char", 0))


def test_end_is_kept_with_its_part():
    assert list(encodable(iter(["abcd", END, "efgh"]), 6)) == [(0, "abcd"), (0, END), (0, "ef"), (1, "gh")]
