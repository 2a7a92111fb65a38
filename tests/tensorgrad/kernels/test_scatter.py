import numpy as np
import pytest
from kernel_checks import both, fortran, misaligned, normal, readonly, reversed_, same_on_threads, stretched

from tensorgrad.kernels.scatter import gather, scatter_add

SHAPES = [(1, 1, 1), (7, 63, 64), (65, 7, 257), (257, 65, 1), (5, 0, 3), (5, 4, 0)]  # table rows, positions, columns


def reference(g, ids, rows):
    dw = np.zeros((rows, g.shape[1]))
    np.add.at(dw, ids, g.astype(np.float64))
    return dw


@both
@pytest.mark.parametrize("rows, count, columns", SHAPES)
def test_equal_their_definitions(rows, count, columns, dtype):
    weight, g = normal(rows, columns).astype(dtype), normal(count, columns, seed=1).astype(dtype)
    ids = np.random.default_rng(0).integers(0, rows, count)
    y, dw = gather(weight, ids), scatter_add(g, ids, rows)
    assert y.dtype == dw.dtype == dtype
    np.testing.assert_array_equal(y, weight[ids])
    np.testing.assert_allclose(dw, reference(g, ids, rows), rtol=3 * np.finfo(dtype).eps, atol=1e-14)


@both
def test_an_empty_table(dtype):
    none = np.empty(0, np.int64)
    assert gather(np.ones((0, 3), dtype), none).shape == scatter_add(np.ones((0, 3), dtype), none, 0).shape == (0, 3)


@both
def test_ten_thousand_repeats_of_one_row(dtype):
    g = np.abs(normal(10000, 3)).astype(dtype)
    dw = scatter_add(g, np.full(10000, 2), 4)
    np.testing.assert_allclose(dw[2], g.sum(0, dtype=np.float64), rtol=1e-7)
    assert not dw[[0, 1, 3]].any()


@both
def test_threads(dtype):
    ids = np.random.default_rng(0).zipf(1.3, 3000) % 50
    g, weight = normal(3000, 33).astype(dtype), normal(50, 33).astype(dtype)
    same_on_threads(lambda: [gather(weight, ids), scatter_add(g, ids, 50)])


@both
@pytest.mark.parametrize("layout", [stretched, reversed_, fortran, misaligned, readonly])
def test_layouts(layout, dtype):
    ids, g, weight = np.array([2, 0, 2]), normal(3, 5).astype(dtype), normal(4, 5).astype(dtype)
    np.testing.assert_array_equal(gather(layout(weight), layout(ids)), weight[ids])
    np.testing.assert_array_equal(scatter_add(layout(g), layout(ids), 4), scatter_add(g, ids, 4))


@both
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_ids_of_any_integer_type(dtype, kind):
    ids, g = np.array([1, 0, 1]), normal(3, 2).astype(dtype)
    np.testing.assert_array_equal(scatter_add(g, ids.astype(kind), 2), scatter_add(g, ids, 2))


@both
def test_not_a_number_stays_in_its_row(dtype):
    g = np.ones((3, 2), dtype)
    g[0, 1] = np.nan
    dw = scatter_add(g, np.array([1, 1, 0]), 2)
    assert np.isnan(dw[1, 1]) and np.isfinite(dw[[0, 1, 0], [0, 0, 1]]).all()
