"""Figures of a classification by hand, and as scikit-learn has them; the picture shows every count."""

import re

import numpy as np
import pytest

from minigpt.classification import accuracy, confusion, macro_f1, picture

TRUTH, PREDICTED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])


def test_by_hand():
    matrix = confusion(TRUTH, PREDICTED, 3)
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert accuracy(matrix) == 0.5
    assert macro_f1(matrix) == pytest.approx((4 / 7 + 2 / 4 + 0) / 3)


def test_a_class_that_is_nowhere_does_not_count():
    assert macro_f1(confusion(TRUTH, PREDICTED, 5)) == macro_f1(confusion(TRUTH, PREDICTED, 3))


def test_all_right():
    matrix = confusion(TRUTH, TRUTH, 3)
    assert accuracy(matrix) == macro_f1(matrix) == 1.0


@pytest.mark.oracle
def test_as_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in (2, 3, 7):
        truth, predicted = rng.integers(0, classes, (2, 200))
        matrix = confusion(truth, predicted, classes)
        assert matrix.tolist() == metrics.confusion_matrix(truth, predicted).tolist()
        assert accuracy(matrix) == pytest.approx(metrics.accuracy_score(truth, predicted))
        assert macro_f1(matrix) == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))


def test_the_picture():
    matrix = confusion(TRUTH, PREDICTED, 3)
    svg = picture(matrix, ["good", "bad", "x" * 40], "reviews")
    assert svg == picture(matrix, ["good", "bad", "x" * 40], "reviews")
    for text in ("reviews", "good", "bad", "x" * 15 + "…", "predicted", "true", "67%"):
        assert f"<!-- {text} -->" in svg, re.findall("<!-- .* -->", svg)


def test_many_classes_are_drawn_as_the_largest():
    matrix = np.diag(np.arange(100))
    svg = picture(matrix, [f"class{i}" for i in range(100)], "many")
    assert "class99" in svg and "class70" in svg and "class69" not in svg
