"""Tokenizers learned from a text: which tokens, always the same, and the same ids in transformers."""

import json

import numpy as np
import pytest

from minigpt import sources
from minigpt.errors import UserError
from minigpt.sources import open_source
from minigpt.tokenizer_file import load_tokenizer, tokenizer_files
from minigpt.tokens import tokenize
from minigpt.vocabularies import LOSSLESS, LOSSY, SENTINELS, Vocabulary, learn

TEXT = "".join(f"{n} Green Bottles, hanging on the wall; one naïve bottle's falling!\n" for n in range(300, 0, -1))
KINDS = LOSSLESS + LOSSY


def learned(kind, model="bert", size=400, text=TEXT, **options):
    return learn(Vocabulary(kind, size, model, **options), iter([text[:5000], text[5000:]]), set(text))


@pytest.mark.parametrize("model", ["gpt", "bert", "t5"])
@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_same_and_no_larger_than_asked(kind, model):
    first, again = learned(kind, model), learned(kind, model)
    assert first.kind == kind and first.backend.to_str() == again.backend.to_str()
    assert first.vocab_size <= 400
    ids = first.encode("9 Green Bottles hanging")
    if kind in LOSSLESS:
        assert first.decode(ids) == "9 Green Bottles hanging"
    assert first.special("unk") not in ids or kind == "words"


@pytest.mark.parametrize("kind", KINDS)
def test_specials_and_templates(kind):
    bert, t5 = learned(kind, "bert"), learned(kind, "t5")
    names = {name: bert.special(name) for name in ("cls", "sep", "mask", "pad", "unk")}
    assert len(set(names.values())) == 5 and None not in names.values()
    assert bert.end_of_text == names["sep"]
    a, b = bert.encode("Green"), bert.encode("wall")
    pair = bert.encode_pair("Green", "wall")
    assert pair.ids.tolist() == [names["cls"], *a, names["sep"], *b, names["sep"]]
    assert pair.segments.tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert pair.texts.tolist() == [-1, *[0] * len(a), -1, *[1] * len(b), -1]
    assert t5.encode_pair("Green").ids.tolist() == [*t5.encode("Green"), t5.special("eos")]
    assert len(t5.sentinels) == 100 and t5.sentinels[0] > t5.sentinels[99]
    for ours in (bert, t5):
        assert all(ours.piece(token) == b"" for token in ours.specials.values())
        for word, token in ours.specials.items():
            assert kind == "char" or token == ours.special("unk") or token not in ours.encode(f"a {word} b {word}{word}")


def test_offsets_point_into_the_text():
    ours = learned("wordpiece", lowercase=True)
    text = "Green naïve bottles"
    pair = ours.encode_pair(text)
    joined = "".join(text[begin:end] for begin, end in pair.offsets[pair.texts == 0])
    assert joined == text.replace(" ", "")


def test_small_letters_only():
    for kind in LOSSY:
        small, as_is = learned(kind, lowercase=True), learned(kind)
        assert np.array_equal(small.encode("GREEN bottle"), small.encode("green BOTTLE"))
        assert not np.array_equal(as_is.encode("Green bottle"), as_is.encode("green bottle"))
        assert small.decode(small.encode("Green Bottles")) == "green bottles"
    assert learned("wordpiece", lowercase=True).decode(learned("wordpiece", lowercase=True).encode("naïve")) == "naive"


def test_words_are_the_commonest():
    ours = learned("words", size=15, text="the the the cat cat sat on a mat; " * 3)
    assert ours.words[:8] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", ";"]
    assert ours.encode("the dog").tolist() == [5, ours.special("unk")]


def test_too_small_a_vocabulary_is_one_sentence():
    for kind in ("wordpiece", "unigram"):
        with pytest.raises(UserError, match="vocab"):
            learned(kind, size=20)


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_a_stream_gives_the_ids_of_the_whole(tmp_path, monkeypatch, kind, piece):
    monkeypatch.setattr(sources, "PIECE", piece)
    (tmp_path / "text.txt").write_text(TEXT)
    got = tokenize(open_source(str(tmp_path / "text.txt")), Vocabulary(kind, 400, "bert"))
    cut = len(TEXT) * 9 // 10
    assert np.array_equal(got.ids[: got.cut], got.tokenizer.encode(TEXT[:cut]))
    assert np.array_equal(got.ids[got.cut :], got.tokenizer.encode(TEXT[cut:]))


@pytest.mark.parametrize(("kind", "model"), [("wordpiece", "bert"), ("unigram", "t5")])
def test_documents_end_with_the_models_own_token(tmp_path, kind, model):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in [TEXT[:9000], "one bottle", TEXT[9000:]]))
    got = tokenize(open_source(str(file)), Vocabulary(kind, 400, model))
    assert (got.ids == got.tokenizer.special("sep" if model == "bert" else "eos")).sum() == 2


@pytest.mark.oracle
@pytest.mark.parametrize("model", ["bert", "t5"])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_gives_the_same(tmp_path, kind, model):
    transformers = pytest.importorskip("transformers")
    ours = learned(kind, model, lowercase=kind in LOSSY)
    for name, content in tokenizer_files(ours, 64):
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    read = load_tokenizer(tmp_path / "tokenizer.json")
    text, other = "Green Bottles, 17 naïve walls", "hanging on"
    for a, b in ((text, None), (text, other)):
        assert ours.encode_pair(a, b).ids.tolist() == theirs(a, b)["input_ids"] == read.encode_pair(a, b).ids.tolist()
    assert theirs.model_max_length == 64 and theirs.pad_token_id == ours.special("pad")
    if model == "bert":
        assert theirs.mask_token_id == ours.special("mask") and theirs.cls_token_id == ours.special("cls")
    else:
        assert theirs.eos_token_id == ours.special("eos")
        assert theirs.convert_tokens_to_ids(list(SENTINELS)) == ours.sentinels[::-1]
