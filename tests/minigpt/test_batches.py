"""Every window once an epoch, and positions that can be taken up again."""

import json

import numpy as np
import pytest

from minigpt.batches import EpochWindows, RandomWindows
from minigpt.errors import UserError


def epochs(n=103, batch=4, block=5, seed=0):
    return EpochWindows(np.arange(n), batch, block, np.random.default_rng(seed))


def test_an_epoch_reads_every_window_once_in_another_order_each_time():
    """Case 169."""
    made, seen = epochs(batch=1), {}
    for _ in range(160):
        [ids], [targets] = made.next()
        assert np.array_equal(targets, ids + 1)
        seen.setdefault(made.epoch, []).append(int(ids[0]))
    whole = [seen[epoch] for epoch in range(max(seen))]
    for starts in whole:
        assert set(np.diff(sorted(starts))) == {5} and min(starts) < 5 and max(starts) + 5 + 5 >= 102
    assert len({tuple(starts) for starts in whole}) == len(whole) >= 7
    assert len({min(starts) for starts in whole}) > 1  # beginning at other tokens


def test_a_batch_reaches_into_the_next_epoch():
    single, several = epochs(batch=1), epochs(batch=4)
    one = [int(single.next()[0][0, 0]) for _ in range(60)]
    assert [int(start) for _ in range(15) for start in several.next()[0][:, 0]] == one


@pytest.mark.parametrize("kind", [RandomWindows, EpochWindows])
def test_a_position_can_be_taken_up_again(kind):
    tokens = np.random.default_rng(3).integers(0, 9, 60)
    first, second = (kind(tokens, 3, 7, np.random.default_rng(1)) for _ in range(2))
    for _ in range(5):
        first.next()
    second.restore(json.loads(json.dumps(first.state())))
    for _ in range(9):
        assert all(np.array_equal(a, b) for a, b in zip(first.next(), second.next(), strict=True))


def test_the_shortest_text_has_a_window():
    made = epochs(n=6)
    assert np.array_equal(made.next()[0], np.tile(np.arange(5), (4, 1))) and made.epoch == 3


@pytest.mark.parametrize(
    "state", [None, {}, {"epoch": 1}, {"epoch": -1, "read": 0}, {"epoch": 0.5, "read": 0}, {"epoch": True, "read": 0}]
)
def test_malformed_positions(state):
    with pytest.raises(UserError, match="the position in the epochs is malformed"):
        epochs().restore(state)
