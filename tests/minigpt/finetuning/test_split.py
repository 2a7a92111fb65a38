"""The two parts are disjoint, complete, of the size asked for, and the same for the same seed."""

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.finetuning.split import split, split_classes


@pytest.mark.parametrize(("rows", "share", "held"), [(10, 0.2, 2), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1), (1001, 0.1, 100)])
def test_every_row_is_on_one_side(rows, share, held):
    kept, out = split(rows, share, np.random.default_rng(0))
    assert len(out) == held and sorted([*kept, *out]) == list(range(rows))
    again = split(rows, share, np.random.default_rng(0))
    assert (again[0] == kept).all() and (again[1] == out).all()


def test_seeds_differ():
    assert (split(1000, 0.5, np.random.default_rng(0))[0] != split(1000, 0.5, np.random.default_rng(1))[0]).any()


def test_each_class_has_its_share():
    labels = ["a"] * 100 + ["b"] * 10 + ["c"] * 2
    np.random.default_rng(5).shuffle(labels)
    kept, out = split_classes(labels, 0.2, np.random.default_rng(0))
    assert sorted([*kept, *out]) == list(range(112))
    assert [sum(labels[i] == name for i in out) for name in "abc"] == [20, 2, 1]


def test_too_few_rows():
    with pytest.raises(UserError, match="1 rows cannot be divided"):
        split(1, 0.5, np.random.default_rng(0))
    with pytest.raises(UserError, match="the class 'b' has one row only"):
        split_classes(["a", "a", "b"], 0.5, np.random.default_rng(0))
