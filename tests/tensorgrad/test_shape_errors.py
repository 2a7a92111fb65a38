"""What is said when shapes do not fit: the op, the shapes, the axis; never NumPy's own words without them (case 83)."""

import numpy as np
import pytest

import tensorgrad as tg


def ones(*shape):
    return tg.tensor(np.ones(shape))


SAID = {
    "add: shapes (2, 3) and (4,) do not broadcast (axis -1: 3 and 4)": lambda: ones(2, 3) + ones(4),
    "multiply: shapes (2, 3) and (4,) do not broadcast (axis -1: 3 and 4)": lambda: np.multiply(np.ones((2, 3)), ones(4)),
    "pow: shapes (2, 1) and (3, 1) do not broadcast (axis -2: 2 and 3)": lambda: ones(2, 1) ** ones(3, 1),
    "less: shapes (2, 3) and (4,) do not broadcast (axis -1: 3 and 4)": lambda: ones(2, 3) < ones(4),
    "hypot: shapes (2,) and (3,) do not broadcast (axis -1: 2 and 3)": lambda: tg.hypot(ones(2), ones(3)),
    "where: shapes (2, 3), (2, 3) and (4,) do not broadcast (axis -1: 3, 3 and 4)": lambda: tg.where(
        ones(2, 3) > 0, ones(2, 3), ones(4)
    ),
    "clip: shapes (2, 3) and (4,) do not broadcast (axis -1: 3 and 4)": lambda: tg.clip(ones(2, 3), ones(4)),
    "matmul: shapes (2, 3, 4) and (5, 4, 2) do not broadcast (axis -3: 2 and 5)": lambda: ones(2, 3, 4) @ ones(5, 4, 2),
    "matmul: shapes (2, 3) and (4, 2) do not fit: the inner lengths are 3 and 4": lambda: ones(2, 3) @ ones(4, 2),
    "tensordot: axes [1] of shape (2, 3) and axes [0] of shape (2, 3) differ in length": lambda: tg.tensordot(
        ones(2, 3), ones(2, 3), 1
    ),
    "reshape: a tensor of shape (2, 3), 6 entries, does not fit in shape (4, 2)": lambda: ones(2, 3).reshape(4, 2),
    "broadcast_to: a tensor of shape (3,) does not broadcast to (2, 4)": lambda: tg.broadcast_to(ones(3), (2, 4)),
    "concat: shapes (2, 3), (2, 4) differ in more than axis 0": lambda: tg.concat([ones(2, 3), ones(2, 4)]),
    "stack: shapes (2,), (3,) differ": lambda: tg.stack([ones(2), ones(3)]),
    "squeeze: axis 0 of shape (2, 3) is longer than 1": lambda: tg.squeeze(ones(2, 3), 0),
    "split: axis 0 of shape (5,) does not divide into 2 equal parts": lambda: tg.split(ones(5), 2),
    "roll: shift (1, 2, 3) and axis (0, 1) differ in length": lambda: tg.roll(ones(2, 3), (1, 2, 3), (0, 1)),
    "tile: repetitions must be >= 0, got -1": lambda: tg.tile(ones(2), -1),
    "repeat: repeats must be >= 0, one for each entry of axis 0 of shape (2, 3), got [1, 2, 3]": lambda: tg.repeat(
        ones(2, 3), [1, 2, 3], 0
    ),
    "pad: pad_width must be (before, after) >= 0 for each axis of shape (2, 3), got -1": lambda: tg.pad(ones(2, 3), -1),
    "take_along_axis: shapes (2, 1) and (4, 1) do not broadcast (axis -2: 2 and 4), in x of shape (2, 3)": (
        lambda: tg.take_along_axis(ones(2, 3), np.zeros((4, 1), int))
    ),
    "index_update: values of shape (4,) do not fit x[key] of shape (3,)": lambda: tg.index_update(ones(2, 3), 0, ones(4)),
    "scatter_add: an index of shape (2, 5) goes beyond x of shape (2, 3) but along axis 0": lambda: tg.scatter_add(
        ones(2, 3), 0, np.zeros((2, 5), int), ones(2, 5)
    ),
    "searchsorted: x1 must have one dimension, got shape (2, 2)": lambda: tg.searchsorted(ones(2, 2), ones(2)),
    "topk: k is 5, axis 0 of shape (3,) has 3 entries": lambda: tg.topk(ones(3), 5),
    "embedding: the table must be (V, C), got shape (3,)": lambda: tg.embedding([0], ones(3)),
    "linear: x of shape (2, 3) does not fit a weight of shape (4, 5), (outputs, inputs)": lambda: tg.linear(
        ones(2, 3), ones(4, 5)
    ),
    "linear: a bias of shape (5,) does not fit a weight of shape (4, 3), (outputs, inputs)": lambda: tg.linear(
        ones(2, 3), ones(4, 3), ones(5)
    ),
    "attention: a mask of shape (5, 5) does not broadcast to the scores (B, H, T, S), (1, 2, 3, 3)": lambda: tg.attention(
        *[ones(1, 2, 3, 4)] * 3, mask=np.ones((5, 5), bool)
    ),
    "conv2d: bias must have shape (1,), one entry a channel, got (3,)": lambda: tg.conv2d(
        ones(1, 1, 3, 3), ones(1, 1, 2, 2), ones(3)
    ),
    "batch_norm: weight must have shape (3,), one entry a channel, got (4,)": lambda: tg.batch_norm(
        ones(2, 3), None, None, ones(4), training=True
    ),
    "batch_norm: running_mean must have shape (3,)": lambda: tg.batch_norm(ones(2, 3), ones(4), ones(4)),
    "gradient has shape (3,), the output has shape (2,)": lambda: tg.tensor([1.0, 2.0], requires_grad=True).backward(ones(3)),
}


@pytest.mark.parametrize(("message", "call"), SAID.items(), ids=SAID)
def test_values_that_do_not_fit(message, call):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(message)


KEYS = {
    "getitem: index 5 is out of bounds for axis 0 with size 2 (shape (2, 3))": 5,
    "getitem: too many indices for array: array is 2-dimensional, but 3 were indexed (shape (2, 3))": (0, 0, 0),
    "getitem: boolean index did not match indexed array along axis 0": np.ones((3, 2), bool),
    "getitem: shape mismatch: indexing arrays could not be broadcast together with shapes (2,) (3,)": ([0, 1], [0, 1, 2]),
}


@pytest.mark.parametrize(("message", "key"), KEYS.items(), ids=KEYS)
def test_keys_that_do_not_fit(message, key):
    with pytest.raises(IndexError) as caught:
        ones(2, 3)[key]
    assert str(caught.value).startswith(message)
