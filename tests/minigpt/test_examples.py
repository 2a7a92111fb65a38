"""Rows of unequal lengths as rectangles, every row once, similar lengths together."""

import numpy as np

from minigpt.examples import IGNORED, Example, batch, by_length, shuffled


def example(length, targets=None):
    ids = np.arange(1, length + 1)
    return Example(ids, ids if targets is None else targets, np.ones(length, int))


def test_padding():
    got = batch([example(2), example(3)], pad=9)
    assert got.ids.tolist() == [[1, 2, 9], [1, 2, 3]] and got.mask.tolist() == [[True, True, False], [True] * 3]
    assert got.targets.tolist() == [[1, 2, IGNORED], [1, 2, 3]] and got.segments.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_targets_that_are_numbers():
    assert batch([example(2, np.array(4)), example(1, np.array(5))]).targets.tolist() == [4, 5]
    assert batch([Example(np.arange(3), np.array(1))]).segments is None


def test_all_rows_once_the_longest_first():
    rows = [example(length) for length in (3, 5, 1, 4, 2)]
    found = list(by_length(rows, 2))
    assert [numbers.tolist() for numbers, _ in found] == [[1, 3], [0, 4], [2]]
    assert [len(part.ids[0]) for _, part in found] == [5, 3, 1]


def test_shuffled_batches_waste_little_and_leave_nothing_out():
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    found = shuffled(lengths.tolist(), 8, np.random.default_rng(1))
    assert sorted(np.concatenate(found).tolist()) == list(range(1003))
    assert {len(part) for part in found} == {8, 1003 % 8}
    padded = sum(lengths[part].max() * len(part) for part in found)
    assert padded < 1.1 * lengths.sum()
    again = shuffled(lengths.tolist(), 8, np.random.default_rng(1))
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
    other = shuffled(lengths.tolist(), 8, np.random.default_rng(2))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(found, other, strict=True))
