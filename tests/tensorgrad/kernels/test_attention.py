import math
import tracemalloc

import numpy as np
import pytest
from attention_cases import definition, inputs, some
from kernel_checks import (
    both,
    check_kernel,
    check_layouts,
    check_none,
    check_slope,
    check_tangents,
    check_threads,
    complex_step,
    normal,
    run,
    run_tangents,
    upstream,
)

from tensorgrad.kernels import attention

# batch, query heads, key heads, queries, keys, d, e
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 3, 3, 7, 7, 5, 6),
    (1, 2, 1, 63, 64, 7, 1),
    (1, 4, 2, 65, 65, 8, 8),
    (2, 2, 2, 64, 257, 3, 4),
    (1, 1, 1, 257, 65, 4, 3),
    (1, 2, 2, 1, 70, 8, 8),
    (1, 1, 1, 130, 64, 1, 65),
]
EMPTY = [(0, 2, 1, 3, 3, 2, 2), (1, 2, 1, 0, 3, 2, 2), (1, 2, 1, 3, 0, 2, 2), (1, 2, 1, 3, 3, 0, 2), (1, 2, 1, 3, 3, 2, 0)]


def params(shape, causal=True):
    return {"causal": causal, "scale": 1 / math.sqrt(max(shape[5], 1))}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, causal):
    check_kernel(attention, definition, inputs(*shape), params(shape, causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangents(shape, causal):
    check_tangents(attention, definition, inputs(*shape), params(shape, causal))


def hiding(b, h, g, t, s, d, e):
    """Masks of every way to broadcast, dropout, and all at once."""
    drop = {"p": 0.3, "seed": (5 << 40) + 7}
    masks = [some(b, h, t, s), some(t, s), some(b, 1, 1, s), some(b, 1, t, 1), some(b, h, s, t).swapaxes(2, 3)]
    return [*({"mask": mask} for mask in masks), drop, {"mask": masks[1], **drop}]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 2, 1, 7, 9, 3, 4), (1, 1, 1, 66, 520, 2, 1), (1, 4, 2, 130, 65, 4, 3)])
def test_masks_and_dropout(shape, causal):
    for how in hiding(*shape):
        check_kernel(attention, definition, inputs(*shape), params(shape, causal) | how)


@pytest.mark.parametrize("causal", [False, True])
def test_tangents_of_masks_and_dropout(causal):
    shape = (1, 4, 2, 66, 70, 3, 4)
    for how in hiding(*shape):
        check_tangents(attention, definition, inputs(*shape), params(shape, causal) | how)


@both
@pytest.mark.parametrize("form", [(2, 2, 66, 520), (1, 520), (66, 1), (2, 1, 1, 520), ()])
def test_a_constant_bias(form, dtype):
    shape = (2, 2, 1, 66, 520, 3, 4)
    bias = np.array(normal(*form, seed=5))
    if form[-1:] == (520,):
        bias[..., :1] = -np.inf
    how = params(shape) | {"mask": some(66, 520), "p": 0.2, "seed": 3}
    arrays = inputs(*shape)
    y, grads = run(attention, [x.astype(dtype) for x in arrays], how | {"bias": bias.astype(dtype)})
    wanted = definition(*arrays, **how, bias=bias)
    double = dtype == np.float64
    np.testing.assert_allclose(y, wanted, rtol=1e-12 if double else 1e-4, atol=1e-13 if double else 2e-6)
    if double:
        for i, grad in enumerate(grads):
            check_slope(definition, arrays, how | {"bias": bias}, i, upstream(y), grad, complex_step, 1e-12)


@both
def test_a_thousand_positions(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 1, 1, 1000, 1000, 128, 127)]
    y, grads = run(attention, arrays, {"causal": True, "scale": 0.1})
    wide = [x.astype(float) for x in arrays]
    tolerance = {"rtol": 1e-11, "atol": 1e-11} if dtype == np.float64 else {"rtol": 1e-4, "atol": 3e-6}
    np.testing.assert_allclose(y, definition(*wide, causal=True, scale=0.1), **tolerance)
    for i, grad in enumerate(grads):
        check_slope(definition, wide, {"causal": True, "scale": 0.1}, i, upstream(y), grad, complex_step,
                    1e-10 if dtype == np.float64 else 1e-4)  # fmt: skip


def test_scores_that_grow_along_the_keys():
    """Each tile of keys has larger scores than those before, by more than the exponential's range."""
    q, k, v = inputs(1, 1, 1, 3, 2000, 1, 2)
    q[...], k[0, 0, :, 0] = 1, np.arange(2000)
    check_kernel(attention, definition, [q, k, v], {"scale": 1.0}, steepness=2000.0)  # the size of the keys


@both
def test_memory_grows_with_the_length_alone(dtype):
    def peak(length):
        arrays = [x.astype(dtype) for x in inputs(1, 1, 1, length, length, 4, 4)]
        mask = some(1, length)
        tracemalloc.start()
        y, saved = attention.forward(*arrays, causal=True, scale=1.0, mask=mask, p=0.1, seed=1)
        attention.backward(y, y, saved, *arrays, causal=True, scale=1.0, mask=mask, p=0.1, seed=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(128)
    assert peak(2048) < 3 * peak(1024)


def test_what_stands_still():
    check_none(attention, inputs(1, 2, 1, 5, 9, 3, 4), {"causal": True, "scale": 0.5})


@both
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", EMPTY)
def test_empty_arrays(shape, causal, dtype):
    arrays = [x.astype(dtype) for x in inputs(*shape)]
    y, grads = run(attention, arrays, params(shape, causal))
    np.testing.assert_allclose(y, definition(*arrays, **params(shape, causal)), rtol=1e-6)
    ty, tangents = run_tangents(attention, arrays, params(shape, causal), upstream(y), arrays)
    assert all(np.isfinite(x).all() for x in (*grads, ty, *tangents))


def test_layouts_and_threads():
    check_layouts(attention, inputs(1, 2, 1, 5, 9, 3, 4), {"causal": True, "scale": 0.5})
    check_threads(attention, inputs(3, 4, 2, 70, 90, 8, 8), {"causal": True, "scale": 0.5})
    check_threads(attention, inputs(1, 2, 1, 200, 600, 8, 8), {"causal": True, "scale": 0.5, "mask": some(200, 600), "p": 0.5})


@both
def test_views_of_one_projection_and_merged_heads(dtype):
    qkv = normal(2, 9, 3, 4, 8).astype(dtype)  # batch, position, which, head, feature
    views = [qkv[:, :, i].swapaxes(1, 2) for i in range(3)]
    y, saved = attention.forward(*views, causal=True, scale=0.3)
    copies = [np.ascontiguousarray(x) for x in views]
    np.testing.assert_array_equal(y, attention.forward(*copies, causal=True, scale=0.3)[0])
    assert y.swapaxes(1, 2).flags.c_contiguous
    g = upstream(y)
    for a, b in zip(attention.backward(g, y, saved, *views, causal=True, scale=0.3),
                    attention.backward(g, y, saved, *copies, causal=True, scale=0.3), strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


@both
def test_a_query_that_sees_nothing_is_zero_and_poisons_nothing(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 1, 1, 70, 3, 4, 4)]
    arrays[0][0, 0, :67] = np.nan
    y, (dq, dk, dv) = run(attention, arrays, {"causal": True, "scale": 1.0})
    assert not y[0, 0, :67].any() and y[0, 0, 67:].all()
    assert not dq[0, 0, :67].any() and np.isfinite(dq).all()
    ty, (tq, tk, tv) = run_tangents(attention, arrays, {"causal": True, "scale": 1.0}, upstream(y), arrays)
    assert not ty[0, 0, :67].any() and not tq[0, 0, :67].any() and np.isfinite(tk).all() and np.isfinite(tv).all()
    rest = [arrays[0][:, :, 67:], *arrays[1:]]
    y_rest, saved = attention.forward(*rest, causal=True, scale=1.0)
    g = upstream(y)[:, :, 67:]
    for whole, part in zip((dk, dv), attention.backward(g, y_rest, saved, *rest, causal=True, scale=1.0)[1:], strict=True):
        np.testing.assert_allclose(whole, part, rtol=1e-5, atol=1e-6)


@both
def test_a_query_whose_keys_are_all_hidden(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 2, 1, 66, 700, 4, 4)]
    mask = some(66, 700)
    mask[[3, 65]] = False
    y, grads = run(attention, arrays, {"scale": 1.0, "mask": mask, "p": 0.1, "seed": 8})
    assert not y[:, :, [0, 3, 65]].any() and not grads[0][:, :, [0, 3, 65]].any() and y[:, :, 1].all()
    assert all(np.isfinite(x).all() for x in grads)


@both
def test_scores_of_minus_infinity_and_of_a_thousand(dtype):
    q, k, v = (x.astype(dtype) for x in inputs(1, 1, 1, 3, 3, 1, 2))
    q[...], k[...] = 1, np.array([1e3, 1e3, 999]).reshape(3, 1)
    q[0, 0, 0] = -np.inf
    y, _ = attention.forward(q, k, v, scale=1.0)
    assert not y[0, 0, 0].any()
    e = np.array([1, 1, np.exp(-1)])
    np.testing.assert_allclose(y[0, 0, 1], e / e.sum() @ v[0, 0], rtol=3e-6)


@both
def test_a_negative_scale(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 2, 2, 5, 6, 3, 3)]
    np.testing.assert_allclose(attention.forward(*arrays, scale=-20.0)[0], definition(*arrays, scale=-20.0), rtol=3e-4, atol=1e-6)


@both
def test_not_a_number_stays_in_its_row(dtype):
    arrays = [x.astype(dtype) for x in inputs(1, 1, 1, 5, 5, 3, 3)]
    arrays[0][0, 0, 2, 1] = np.nan
    y, _ = attention.forward(*arrays, causal=True, scale=1.0)
    assert np.isnan(y[0, 0, 2]).all() and np.isfinite(y[0, 0, [0, 1, 3, 4]]).all()
