"""BM25 is its formula, written out word by word; ranks are what one would expect."""

import math

import numpy as np
import pytest

from minigpt.bm25 import BM25, words

TEXTS = ["the cat sat on the mat", "the dog", "a cat and a dog and a cat", ""]


def by_hand(question, k1, b):
    documents = [words(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in words(question):
            f, n = document.count(word), sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean)) if f else 0.0
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.5, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("question", ["cat", "The DOG?", "cat cat mat", "cow", ""])
def test_the_formula(question, k1, b):
    assert BM25(TEXTS, k1, b).scores(question) == pytest.approx(by_hand(question, k1, b))


def test_rare_words_weigh_more_and_common_ones_are_not_negative():
    index = BM25(["a b", "a c", "a d"])
    assert index.scores("a b").argmax() == 0 and (index.scores("a") > 0).all()


def test_coverage_is_by_weight():
    index = BM25(TEXTS)
    covered = index.coverage("the the cat zebra")
    weight = {word: math.log(1 + (4 - n + 0.5) / (n + 0.5)) for word, n in (("the", 2), ("cat", 2), ("zebra", 0))}
    assert covered[0] == pytest.approx((weight["the"] + weight["cat"]) / sum(weight.values()))
    assert covered[3] == 0 and index.coverage("cat")[2] == 1 and not index.coverage("").any()


def test_words():
    assert words("Don't panic, ÉCOLE 42!") == ["don", "t", "panic", "école", "42"]


def test_no_texts():
    assert np.array_equal(BM25([]).scores("x"), np.zeros(0))
