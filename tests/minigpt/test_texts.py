"""Texts as padded batches: what a row holds, the order, and texts that are too long."""

import numpy as np
import pytest
from wordpiece import word_tokenizer

from minigpt.answering import answer
from minigpt.classifying import classify
from minigpt.embed import sentence_vectors
from minigpt.errors import MinigptError, UserError
from minigpt.filling import fill_mask
from minigpt.generation.text import generate_texts
from minigpt.generation.translate import translate
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier
from minigpt.models.t5 import T5, T5Config
from minigpt.tagging import tag
from minigpt.texts import batches, encode_texts

TEXTS = ["a b", "a", "a b c d e", ("a", "b c"), "e d c"]


def test_batches_hold_each_text_once_the_longest_first():
    tokenizer = word_tokenizer("abcde")
    encoded = encode_texts(tokenizer, TEXTS, 12)
    found = list(batches(encoded, 2))
    assert [list(rows) for rows, _ in found] == [[2, 3], [4, 0], [1]]
    assert [batch.ids.shape for _, batch in found] == [(2, 7), (2, 5), (1, 3)]
    for rows, batch in found:
        for row, ids, segments, mask in zip(rows, batch.ids, batch.segments, batch.mask, strict=True):
            np.testing.assert_array_equal(ids[mask], encoded[row].ids)
            np.testing.assert_array_equal(segments[mask], encoded[row].segments)
            assert not ids[~mask].any() and not segments[~mask].any() and not (mask[1:] > mask[:-1]).any()


def test_two_texts_are_two_segments():
    encoded = encode_texts(word_tokenizer("abcde"), [("a b", "c")], 12)
    assert list(encoded[0].segments) == [0, 0, 0, 0, 1, 1]


def test_no_texts_make_no_batches():
    assert list(batches([], 4)) == []


def test_texts_that_are_too_long_are_refused_or_cut():
    tokenizer = word_tokenizer("abcde")
    with pytest.raises(UserError, match="text 3 has 7 tokens, but the model reads 5 at most"):
        encode_texts(tokenizer, TEXTS, 5)
    encoded = encode_texts(tokenizer, TEXTS, 5, truncate=True)
    assert [len(tokens) for tokens in encoded] == [4, 3, 5, 5, 5]
    np.testing.assert_array_equal(encoded[2].ids[1:-1], tokenizer.encode("a b c"))


@pytest.mark.parametrize("template", [True, False])
def test_a_text_without_tokens_is_refused(template):
    """Special tokens around nothing are no text."""
    for nothing in ("", "  ", ("", " ")):
        with pytest.raises(UserError, match="text 2 is empty"):
            encode_texts(word_tokenizer("abc", template), ["a", nothing], 5)


@pytest.mark.parametrize(
    ("made", "use", "name"),
    [
        (SequenceClassifier, classify, "texts"),
        (TokenClassifier, tag, "texts"),
        (MaskedLM, fill_mask, "texts"),
        (BERT, sentence_vectors, "texts"),
        (AnswerExtractor, lambda *model_and_text: answer(*model_and_text[:2], "a", model_and_text[2]), "contexts"),
        (T5, translate, "texts"),
        (GPT, generate_texts, "prompts"),
    ],
)
def test_one_text_is_not_taken_for_its_letters(made, use, name):
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16}
    labels = {"labels": ("x", "y")} if made in (SequenceClassifier, TokenClassifier) else {}
    config = {T5: T5Config, GPT: GPTConfig}.get(made, BERTConfig)(10, **shape, **labels)
    with pytest.raises(UserError, match=f"{name} must be a list of texts, not one text, 'a b'"):
        use(made(config, np.random.default_rng(0)).eval(), word_tokenizer("abcde"), "a b")


@pytest.mark.parametrize(
    ("head", "use"),
    [
        (SequenceClassifier, lambda *model: classify(*model, ["a"])),
        (TokenClassifier, lambda *model: tag(*model, ["a"])),
        (MaskedLM, lambda *model: fill_mask(*model, ["[MASK]"])),
        (BERT, lambda *model: sentence_vectors(*model, ["a"])),
        (AnswerExtractor, lambda *model: answer(*model, "a", ["b"])),
    ],
)
def test_damaged_weights_are_said(head, use):
    """A nan is the largest number to argmax, and the smallest to a threshold."""
    model = head(
        BERTConfig(10, block_size=12, n_layer=1, n_head=2, n_embd=16, labels=("x", "y")), np.random.default_rng(0)
    ).eval()
    use(model, word_tokenizer("abcde"))
    for p in model.parameters():
        p.data = np.full_like(p.data, np.nan)
    with pytest.raises(MinigptError, match="outputs are not numbers; its weights may be damaged"):
        use(model, word_tokenizer("abcde"))
