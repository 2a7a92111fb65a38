"""Sinusoids and relative buckets: by hand, and as transformers has them."""

import math

import numpy as np
import pytest

from minigpt.models.positions import relative_buckets, sinusoids


def test_sinusoids_by_hand():
    found = sinusoids(np.array([0, 3]), 4)
    np.testing.assert_allclose(found, [[0, 0, 1, 1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]], atol=1e-15)
    to_the_end = sinusoids(np.array([3]), 4, to_the_end=True)
    np.testing.assert_allclose(to_the_end, [[math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]], atol=1e-15)


def test_buckets_by_hand():
    """Of 8 buckets for keys before the query, 4 are of one distance each, and 4 share the distances from 4 to 64."""
    place = np.array([100])
    found = relative_buckets(place, 100 - np.array([0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 99]), 8, 64, both_ways=False)
    assert found.tolist() == [[0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7]]
    assert relative_buckets(place, np.array([101, 105, 150]), 8, 64, both_ways=False).tolist() == [[0, 0, 0]]
    after = relative_buckets(place, np.array([99, 100, 101, 102, 110, 199]), 8, 64, both_ways=True)
    assert after.tolist() == [[1, 0, 5, 6, 6, 7]]


@pytest.mark.oracle
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20), (64, 1000), (16, 100)])
@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_transformers(buckets, farthest, both_ways):
    torch = pytest.importorskip("torch")
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    queries, keys = np.array([0, 700, 2000]), np.arange(2001)
    expected = modeling.T5Attention._relative_position_bucket(
        torch.from_numpy(keys[None] - queries[:, None]), both_ways, buckets, farthest
    )
    np.testing.assert_array_equal(relative_buckets(queries, keys, buckets, farthest, both_ways), expected.numpy())
