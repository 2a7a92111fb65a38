"""Fused kernels and what they are short for: cases E of the fault list (case numbers in the names)."""

import numpy as np
import pytest

import tensorgrad as tg

SIZES = (1, 7, 63, 64, 65, 1000)


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32).astype(np.float64)


def rows(op):
    return lambda n, m: (op, [numbers(n, m)])


def norm(op, weights):
    return lambda n, m: (op, [numbers(n, m), *[numbers(m, seed=i) for i in range(weights)]])


def losses(n, m):
    targets = np.where(np.arange(n) % 5 == 4, -100, np.arange(n) * 7 % m)
    return lambda x: tg.cross_entropy(x, targets, label_smoothing=0.1), [numbers(n, m)]


def heads(n, m):
    return lambda q, k, v: tg.attention(q, k, v, causal=n <= m), [
        numbers(1, 2, n, 3),
        numbers(1, 1, m, 3, seed=1),
        numbers(1, 1, m, 5, seed=2),
    ]


FUSED = {
    "softmax": rows(tg.softmax),
    "log_softmax": rows(tg.log_softmax),
    "gelu": rows(tg.gelu),
    "gelu tanh": rows(lambda x: tg.gelu(x, "tanh")),
    "silu": rows(tg.silu),
    "layer_norm": norm(tg.layer_norm, 2),
    "rms_norm": norm(tg.rms_norm, 1),
    "cross_entropy": losses,
    "embedding": lambda n, m: (lambda w: tg.embedding(np.arange(n) * 3 % m, w), [numbers(m, 5)]),
    "matmul": lambda n, m: (tg.matmul, [numbers(n, m), numbers(m, 9)]),
    "linear": lambda n, m: (tg.linear, [numbers(n, m), numbers(3, m), numbers(3)]),
    "linear residual": lambda n, m: (tg.linear, [numbers(n, m), numbers(3, m), numbers(3), numbers(n, 3)]),
    "feed_forward": lambda n, m: (tg.feed_forward, [numbers(n, m), numbers(9, m), numbers(m, 9), numbers(9), numbers(m)]),
    "attention": heads,
}
EVERY = pytest.mark.parametrize("name", FUSED)


def numbers_of(f, arrays, dtype):
    """The value and all gradients."""
    leaves = [tg.tensor(x, dtype=dtype, requires_grad=True) for x in arrays]
    y = f(*leaves)
    y.backward(numbers(*y.shape, seed=9))
    return [y.data, *[x.grad.data for x in leaves]]


def assert_close(given, wanted, rtol):
    for a, b in zip(given, wanted, strict=True):
        scale = np.abs(b).max(initial=1)  # of the terms that may cancel: upstream gradients are about 1
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@EVERY
@pytest.mark.parametrize("n, m", [(5, m) for m in SIZES] + [(n, 6) for n in SIZES[2:]] + [(0, 3)])
def test_case_126_127_kernels_equal_the_composed_float64_graph(name, n, m):
    f, arrays = FUSED[name](n, m)
    with tg.definitions():
        wanted = numbers_of(f, arrays, "float64")
    assert_close(numbers_of(f, arrays, "float64"), wanted, 1e-12)
    assert_close(numbers_of(f, arrays, "float32"), wanted, 1e-5)


@EVERY
def test_case_128_second_derivatives_pass_through_kernels(name):
    """Values that a kernel saved are never taken for constants."""
    f, arrays = FUSED[name](3, 4)
    tg.check.check_grads(f, tuple(arrays), order=2)
    tg.check.check_hvp(lambda *xs: tg.sum(tg.sin(f(*xs))), tuple(arrays))


@EVERY
def test_case_129_a_backward_kernel_leaves_what_was_saved(name):
    f, arrays = FUSED[name](65, 33)
    y = f(*[tg.tensor(x, requires_grad=True) for x in arrays])
    nodes = [t for t in tg.graph.order([y]) if t.op is not None]
    before = [[a.tobytes() for a in (t.data, *t.saved)] for t in nodes]
    y.backward(np.ones(y.shape), retain_graph=True)
    assert before == [[a.tobytes() for a in (t.data, *t.saved)] for t in nodes]


def test_case_134_tied_weights_get_the_sum_of_both_uses():
    weight, ids = numbers(5, 4), np.array([1, 3, 3])
    tied = tg.tensor(weight, requires_grad=True)
    tg.sum(tg.sin(tg.linear(tg.embedding(ids, tied), tied))).backward()
    table, output = tg.tensor(weight, requires_grad=True), tg.tensor(weight, requires_grad=True)
    tg.sum(tg.sin(tg.linear(tg.embedding(ids, table), output))).backward()
    np.testing.assert_allclose(tied.grad.data, table.grad.data + output.grad.data, rtol=1e-15)


def test_attention_hides_by_any_means_alike():
    """Causal, the same as a mask, the same as a bias of -inf: values and gradients."""
    arrays = [numbers(2, 2, 5, 3, seed=i) for i in range(3)]
    seen = np.tri(5, 5, dtype=bool)
    ways = [{"causal": True}, {"mask": seen}, {"bias": np.where(seen, 0, -np.inf)}, {"causal": True, "mask": seen[None]}]
    results = [numbers_of(lambda q, k, v, way=way: tg.attention(q, k, v, **way), arrays, "float64") for way in ways]
    for other in results[1:]:
        assert_close(other, results[0], 1e-14)


def test_attention_with_grouped_heads_repeats_keys():
    q, k, v = numbers(1, 4, 3, 2), numbers(1, 2, 3, 2, seed=1), numbers(1, 2, 3, 2, seed=2)
    grouped = numbers_of(tg.attention, [q, k, v], "float64")
    repeated = numbers_of(lambda q, k, v: tg.attention(q, tg.repeat(k, 2, 1), tg.repeat(v, 2, 1)), [q, k, v], "float64")
    assert_close(grouped, repeated, 1e-14)


def test_gelu_keeps_its_digits_in_the_tail():
    """Where 1 + erf would cancel: x Phi(x) at -10, from the asymptotic series of the normal tail, by kernel and definition."""
    x = np.array([-10.0])
    series = -np.exp(-50) / np.sqrt(2 * np.pi) * sum((-1) ** k * np.prod(np.arange(1.0, 2 * k, 2)) / 100.0**k for k in range(8))
    np.testing.assert_allclose(tg.gelu(x).data, [series], rtol=1e-9)
    with tg.definitions():
        np.testing.assert_allclose(tg.gelu(x).data, [series], rtol=1e-9)


def test_definitions_is_a_switch_that_turns_kernels_off(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a kernel was called")

    monkeypatch.setattr(tg.ops.fused._softmax.kernel, "forward", forbidden)
    with tg.definitions():
        assert tg.softmax(np.zeros(2)).tolist() == [0.5, 0.5]
    with pytest.raises(AssertionError, match="a kernel was called"):
        tg.softmax(np.zeros(2))
