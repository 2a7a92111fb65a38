"""The best span is the best of all; long texts are read in windows; no answer is an answer."""

import numpy as np
import pytest

from minigpt.answering import LONGEST, answer, best_span, choose, windows
from minigpt.errors import UserError
from minigpt.models.bert import BERTConfig
from minigpt.models.heads import AnswerExtractor
from minigpt.vocabularies import Vocabulary, learn

CONTEXT = " ".join(f"word{i}" for i in range(50))


@pytest.fixture(scope="module")
def tokenizer():
    return learn(Vocabulary("words", 200, "bert"), [f"where is it ? {CONTEXT}"] * 2, set(CONTEXT + "where is it ?"))


def test_the_best_of_all_spans():
    rng = np.random.default_rng(0)
    for _ in range(30):
        logits, inside, longest = rng.normal(size=(12, 2)), rng.random(12) < 0.7, int(rng.integers(1, 6))
        inside[5] = True
        spans = {
            (i, j): logits[i, 0] + logits[j, 1]
            for i in range(12)
            for j in range(i, min(12, i + longest))
            if inside[i] and inside[j]
        }
        first, last, score = best_span(logits, inside, longest)
        assert (first, last) == max(spans, key=spans.get) and score == pytest.approx(max(spans.values()))


def test_windows_cover_the_context_and_overlap(tokenizer):
    found = windows(tokenizer, "where is it", CONTEXT, 20)
    assert len(found) > 1 and all(len(window.tokens) <= 20 for window in found)
    covered = set()
    for window in found:
        for first in np.flatnonzero(window.tokens.texts == 1):
            begin, end = window.characters(first, first)
            assert CONTEXT[begin:end] == tokenizer.backend.id_to_token(int(window.tokens.ids[first]))
            covered.add(begin)
    assert covered == {CONTEXT.index(word) for word in CONTEXT.split()}
    assert len(windows(tokenizer, "where is it", CONTEXT, 512)) == 1


def test_the_tokens_of_some_characters(tokenizer):
    for window in windows(tokenizer, "where", CONTEXT, 20):
        begin = CONTEXT.index("word20")
        place = window.places(begin, begin + len("word20 word21"))
        text = CONTEXT[slice(*window.characters(*place))] if place else None
        assert text == ("word20 word21" if window.begin <= begin and window.characters(0, -2)[1] >= begin + 13 else None)


def test_no_answer_is_weighed_against_the_best(tokenizer):
    (window,) = windows(tokenizer, "where", "word1 word2 word3", 20)  # [CLS] where [SEP] word1 word2 word3 [SEP]
    logits = np.zeros((7, 2))
    logits[4, 0], logits[5, 1], logits[0] = 3.0, 2.0, [1.0, 1.5]
    found = choose([window], [logits], "word1 word2 word3")
    assert (found.text, found.score) == ("word2 word3", 2.5)
    assert choose([window], [logits], "word1 word2 word3", 1).text == "word2"


def model(tokenizer, size=16):
    config = BERTConfig(tokenizer.vocab_size, size, 1, 2, 8)
    return AnswerExtractor(config, np.random.default_rng(0)).eval()


def test_a_threshold_and_several_contexts(tokenizer):
    contexts = ["word1 word2", "word3 word4 word5", CONTEXT]
    extractor = model(tokenizer)
    place, found = answer(extractor, tokenizer, "where", contexts, threshold=-100)
    assert contexts[place][found.begin : found.end] == found.text and len(found.text.split()) <= LONGEST
    alone = [answer(extractor, tokenizer, "where", [context], threshold=-100)[1] for context in contexts]
    assert found.score == pytest.approx(max(a.score for a in alone), rel=1e-4)
    assert answer(extractor, tokenizer, "where", contexts, threshold=100) is None
    assert answer(extractor, tokenizer, "where", []) is None


@pytest.mark.parametrize(
    ("question", "context", "message"),
    [
        (" ", "a", "the question is empty"),
        ("a", " ", "the context is empty"),
        ("it " * 20, CONTEXT, "the question has 23 tokens, and with it the model can read only 16"),
    ],
)
def test_what_cannot_be_asked(question, context, message, tokenizer):
    with pytest.raises(UserError, match=message):
        answer(model(tokenizer), tokenizer, question, [context])
