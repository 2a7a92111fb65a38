"""Each change of layout: what is written is read, its shape is known beforehand, and the layout is the published one."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigpt.exchange.changes import INTERLEAVED, ROW, SAME, TRANSPOSED, after_rows

CONFIG = SimpleNamespace(n_head=2)
CASES = {
    "same": (SAME, [(4, 3)]),
    "transposed": (TRANSPOSED, [(4, 3)]),
    "a bias transposed": (TRANSPOSED, [(4,)]),
    "a row": (ROW, [(5,)]),
    "interleaved": (INTERLEAVED, [(6, 3)] * 3),
    "interleaved biases": (INTERLEAVED, [(6,)] * 3),
    "after rows": (after_rows(2), [(4, 3)]),
}


@pytest.mark.parametrize(("change", "shapes"), CASES.values(), ids=CASES)
def test_written_is_read(change, shapes):
    arrays = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes)]
    stored = change.write(arrays, CONFIG)
    assert stored.shape == change.shape(shapes, CONFIG)
    again = change.read(stored, shapes, CONFIG)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))


def test_interleaved_is_by_head():
    """Query, key and value of head 0, then those of head 1; 2 features each."""
    q, k, v = (np.array([f"{name}{head}{i}" for head in "01" for i in "ab"]) for name in "qkv")
    stored = INTERLEAVED.write([q, k, v], CONFIG)
    assert " ".join(stored) == "q0a q0b k0a k0b v0a v0b q1a q1b k1a k1b v1a v1b"


def test_rows_that_nothing_looks_up_are_zeros():
    assert after_rows(2).write([np.array([[7.0]])], CONFIG).tolist() == [[0], [0], [7]]
    assert after_rows(2).write([np.array([[7.0]], np.float32)], CONFIG).dtype == np.float32
