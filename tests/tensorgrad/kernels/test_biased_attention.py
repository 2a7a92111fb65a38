import numpy as np
import pytest
from attention_cases import definition, inputs, some
from kernel_checks import both, check_kernel, check_layouts, check_threads, normal, run

from tensorgrad.kernels import biased_attention

SHAPE = (2, 4, 2, 66, 520, 3, 4)  # batch, query heads, key heads, queries, keys, d, e
FORMS = [(2, 4, 66, 520), (4, 66, 520), (1, 4, 1, 520), (2, 1, 66, 1), (520,), (4, 1, 1), (1,), ()]


def biased(q, k, v, bias, **how):
    return definition(q, k, v, bias=bias, **how)


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_definition(form):
    how = {"causal": True, "scale": 0.5, "mask": some(66, 520), "p": 0.2, "seed": 11}
    arrays = [*inputs(*SHAPE), np.array(normal(*form, seed=7))]
    # where the last axis is summed, terms cancel to nothing
    check_kernel(biased_attention, biased, arrays, how, steepness=1.0 if form[-1:] == (520,) else 30.0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1, 1, 1), (1, 2, 2, 65, 64, 2, 3), (2, 2, 1, 7, 63, 5, 1)])
def test_alone(shape):
    b, h, _, t, s, _, _ = shape
    check_kernel(biased_attention, biased, [*inputs(*shape), normal(b, h, t, s, seed=7)], {"scale": 0.5}, steepness=1.0)


@both
@pytest.mark.parametrize("shape", [(0, 2, 1, 3, 3, 2, 2), (1, 2, 1, 0, 3, 2, 2), (1, 2, 1, 3, 0, 2, 2), (1, 2, 1, 3, 3, 0, 0)])
def test_empty_arrays(shape, dtype):
    b, h, _, t, s, _, _ = shape
    for form in ((b, h, t, s), (h, 1, 1), (1, s)):
        arrays = [x.astype(dtype) for x in (*inputs(*shape), normal(*form))]
        assert all(np.isfinite(x).all() for x in run(biased_attention, arrays, {"causal": True, "scale": 1.0})[1])


def test_layouts_and_threads():
    shape = (1, 2, 1, 5, 9, 3, 4)
    check_layouts(biased_attention, [*inputs(*shape), normal(1, 2, 5, 9)], {"scale": 0.5})
    check_threads(biased_attention, [*inputs(2, 4, 2, 70, 90, 8, 8), normal(4, 1, 90)], {"causal": True, "scale": 0.5})


@both
def test_a_bias_of_minus_infinity_hides_and_has_no_gradient(dtype):
    arrays = [x.astype(dtype) for x in (*inputs(1, 2, 1, 5, 9, 3, 4), normal(5, 9))]
    arrays[3][some(5, 9)] = -np.inf
    y, grads = run(biased_attention, arrays, {"scale": 0.5})
    np.testing.assert_allclose(y, biased(*[x.astype(float) for x in arrays], scale=0.5), rtol=2e-5, atol=1e-6)
    assert all(np.isfinite(x).all() for x in grads) and not grads[3][some(5, 9)].any()
