"""Models without memory for their weights: what they look like, how they are filled, and that the mode ends."""

import tracemalloc

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn


def net(rng, width=3):
    return nn.Sequential(nn.Embedding(5, width, padding_idx=1, rng=rng), nn.Linear(width, 4, rng=rng), nn.LayerNorm(4))


def test_a_model_of_any_size_takes_no_memory():
    tracemalloc.start()
    with nn.unfilled() as rng:
        model = nn.Linear(10**6, 10**9, rng=rng).astype("float64")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.weight.shape == (10**9, 10**6) and model.weight.dtype == np.float64 and peak < 1e6


def test_it_has_the_names_shapes_and_types_of_a_filled_one_and_is_zero():
    filled = net(np.random.default_rng(0))
    with nn.unfilled() as rng:
        blank = net(rng)
    names = {name: (p.shape, p.dtype) for name, p in filled.named_parameters()}
    assert {name: (p.shape, p.dtype) for name, p in blank.named_parameters()} == names
    assert not any(p.data.any() for p in blank.parameters())
    with pytest.raises(ValueError, match="read-only"):
        blank[1].weight._array[0] = 1


def test_filled_later_it_is_the_other():
    filled = net(np.random.default_rng(0))
    with nn.unfilled() as rng:
        blank = net(rng)
        blank[1].bias.data = np.ones(4)  # an initial value, which is not kept
    assert not blank[1].bias.data.any()
    blank.load_state_dict(filled.state_dict())
    ids = np.array([[0, 1, 4]])
    assert np.array_equal(blank(ids).numpy(), filled(ids).numpy())
    (blank(ids) ** 3).sum().backward()
    tg.optim.SGD(blank.parameters(), lr=0.1).step()
    assert not np.array_equal(blank[1].bias.data, filled[1].bias.data)


def test_the_mode_ends_with_its_block_whatever_happens():
    with pytest.raises(KeyError), nn.unfilled():
        raise KeyError
    assert nn.Linear(2, 2).weight.data.any() and nn.LayerNorm(2).weight.data.all()
    layer = nn.Linear(2, 2)
    layer.weight.data = np.ones((2, 2))
    assert layer.weight.data.all()
