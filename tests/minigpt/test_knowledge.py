"""Passages are the paragraphs of a folder, found by words and by meaning, and nothing is found where nothing is."""

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.knowledge import LONGEST, Knowledge, Passage, read_passages


def test_paragraphs_with_their_lines(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("\n\nfirst\nstill first\n \n\nsecond  \n")
    (tmp_path / "sub" / "b.txt").write_bytes(b"only\r\n\r\nlast")
    (tmp_path / ".hidden").write_text("no")
    assert read_passages(tmp_path) == [
        Passage("a.txt", 3, "first\nstill first"),
        Passage("a.txt", 7, "second"),
        Passage("sub/b.txt", 1, "only"),
        Passage("sub/b.txt", 3, "last"),
    ]


def test_long_paragraphs_are_cut_between_sentences(tmp_path):
    sentences = [f"This is sentence number {i}, and it is about nothing." for i in range(60)]
    (tmp_path / "a.txt").write_text("\n".join(sentences))
    found = read_passages(tmp_path)
    assert len(found) > 1 and " ".join(passage.text for passage in found).split() == " ".join(sentences).split()
    assert all(len(passage.text) <= LONGEST + 1 and passage.text.endswith(".") for passage in found)
    assert [passage.line for passage in found] == [
        sentences.index(passage.text.split(". ")[0].rstrip(".") + ".") + 1 for passage in found
    ]


def test_what_is_found_and_what_is_not():
    texts = ["the cat sat on the mat", "a dog barked at the moon", "the sun is a star", "rivers run to the sea"]
    knowledge = Knowledge([Passage(f"{i}.txt", 1, text) for i, text in enumerate(texts)])
    found = knowledge.about("Where was the dog?", 3)
    assert found[0].passage.file == "1.txt" and found[0].bm25 > 0 and found[0].cosine is None
    assert knowledge.about("zebras of Mongolia", 3) == []
    assert len(knowledge.about("the cat dog sun", 2)) == 2


def test_meaning_finds_what_shares_no_word(monkeypatch):
    vectors = {"big": [1.0, 0.0], "large": [0.9, 0.4359], "other": [0.0, 1.0]}

    def look_up(model, tokenizer, texts, truncate=False):
        return np.array([vectors[text] for text in texts])

    monkeypatch.setattr("minigpt.knowledge.sentence_vectors", look_up)
    passages = [Passage("a", 1, "other"), Passage("b", 1, "large")]
    assert Knowledge(passages).about("big", 2) == []
    (found,) = Knowledge(passages, (None, None)).about("big", 2)
    assert found.passage.text == "large" and found.cosine == pytest.approx(0.9)


def test_a_line_without_a_text_is_said_without_a_flag_that_answer_lacks(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "first"}\n')
    with pytest.raises(UserError, match=r"a.jsonl, line 1 has no text under 'text' \(it has keys 'body'\)$"):
        read_passages(tmp_path)


def test_folders_without_texts(tmp_path):
    with pytest.raises(UserError, match="none is not a folder of texts"):
        read_passages("none")
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(UserError, match="have no text"):
        read_passages(tmp_path)
