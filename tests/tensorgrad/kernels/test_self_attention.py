import numpy as np
import pytest
from kernel_checks import (
    both,
    check_kernel,
    check_layouts,
    check_none,
    check_tangents,
    check_threads,
    normal,
    run,
    run_tangents,
    upstream,
)

from tensorgrad.kernels import attention, self_attention

SHAPES = [(1, 1, 1, 1), (2, 7, 3, 2), (1, 65, 2, 8), (2, 130, 1, 5)]  # batch, positions, heads, features of a head
EMPTY = [(0, 3, 2, 2), (2, 0, 2, 2), (2, 3, 2, 0)]


def definition(qkv, *, heads, causal=False, scale):
    b, t, width = qkv.shape
    q, k, v = np.moveaxis(qkv.reshape(b, t, 3, heads, -1), 2, 0)
    scores = np.einsum("bthd,bshd->bhts", q, k) * scale
    seen = np.tri(t) if causal else np.ones((t, t))
    e = np.exp(np.where(seen, scores - scores.real.max(-1, keepdims=True), -np.inf))
    return np.einsum("bhts,bshd->bthd", e / e.sum(-1, keepdims=True), v).reshape(b, t, width // 3)


def joined(shape):
    batch, length, heads, features = shape
    return normal(batch, length, 3 * heads * features)


def params(shape, causal=True):
    return {"heads": shape[2], "causal": causal, "scale": 0.4}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, causal):
    check_kernel(self_attention, definition, [joined(shape)], params(shape, causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangents(shape, causal):
    check_tangents(self_attention, definition, [joined(shape)], params(shape, causal))


def test_a_mask_a_bias_and_dropout():
    qkv, how = (
        normal(2, 70, 3, 4, 8),
        {"mask": np.tri(70, dtype=bool), "bias": normal(4, 1, 70), "p": 0.4, "seed": 9, "scale": 0.3},
    )
    parts = [qkv[:, :, i].swapaxes(1, 2) for i in range(3)]
    y, grads = run(self_attention, [qkv.reshape(2, 70, 96)], {"heads": 4, **how})
    np.testing.assert_array_equal(y.reshape(2, 70, 4, 8).swapaxes(1, 2), attention.forward(*parts, **how)[0])
    assert np.isfinite(grads[0]).all()


def test_what_stands_still():
    check_none(self_attention, [joined((2, 5, 2, 3))], params((2, 5, 2, 3)))


@both
@pytest.mark.parametrize("shape", EMPTY)
def test_empty_arrays(shape, dtype):
    qkv = joined(shape).astype(dtype)
    y, _ = run(self_attention, [qkv], params(shape))
    run_tangents(self_attention, [qkv], params(shape), upstream(y), [qkv])


def test_layouts_and_threads():
    check_layouts(self_attention, [joined((2, 5, 2, 3))], params((2, 5, 2, 3)))
    check_threads(self_attention, [joined((3, 70, 4, 8))], params((3, 70, 4, 8)))


@both
def test_same_bits_as_attention_of_the_parts(dtype):
    qkv = normal(2, 70, 3, 4, 8).astype(dtype)  # batch, position, which, head, feature
    parts = [qkv[:, :, i].swapaxes(1, 2) for i in range(3)]
    y, saved = self_attention.forward(qkv.reshape(2, 70, 96), heads=4, causal=True, scale=0.3)
    wanted, saved_by_parts = attention.forward(*parts, causal=True, scale=0.3)
    np.testing.assert_array_equal(y.reshape(2, 70, 4, 8).swapaxes(1, 2), wanted)
    g = upstream(y)
    (dqkv,) = self_attention.backward(g, y, saved, qkv.reshape(2, 70, 96), heads=4, causal=True, scale=0.3)
    g_heads = g.reshape(2, 70, 4, 8).swapaxes(1, 2)
    grads = attention.backward(g_heads, wanted, saved_by_parts, *parts, causal=True, scale=0.3)
    for i, grad in enumerate(grads):
        np.testing.assert_array_equal(dqkv.reshape(2, 70, 3, 4, 8)[:, :, i].swapaxes(1, 2), grad)
