"""Gradients of logits and of hidden units take their memory when nobody else can see it, and only then."""

import tracemalloc

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.ops import kinds

ROWS, WIDTH, CLASSES = 64, 8, 500
rng = np.random.default_rng(0)
IDS = rng.integers(0, CLASSES, ROWS)


@pytest.fixture
def weight():
    return tg.tensor(rng.normal(size=(CLASSES, WIDTH)).astype(np.float32), requires_grad=True)


@pytest.fixture
def asked(monkeypatch):
    """The answers that `spare` gives."""
    answers = []
    spare = kinds.spare
    monkeypatch.setattr(kinds, "spare", lambda *which: answers.append(spare(*which)) or answers[-1])
    return answers


x = tg.tensor(rng.normal(size=(4, ROWS // 4, WIDTH)).astype(np.float32))


def gradient(weight, loss, **how):
    weight.grad = None
    value = loss(weight)
    value.backward(**how)
    return weight.grad.numpy().copy()


def plain(weight):
    return tg.cross_entropy(tg.linear(x, weight), IDS.reshape(4, -1))


def numbers(weight):
    """The gradient of `plain`, by hand."""
    rows = x.numpy().reshape(-1, WIDTH).astype(np.float64)
    logits = rows @ weight.numpy().T.astype(np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    p[np.arange(ROWS), IDS] -= 1
    return p.T @ rows / ROWS


def raw(held):
    return held.data if isinstance(held, tg.Tensor) else held


def test_overwritten_when_only_the_graph_holds_them(weight, asked):
    np.testing.assert_allclose(gradient(weight, plain), numbers(weight), rtol=1e-4, atol=1e-6)
    assert asked == [True]


@pytest.mark.parametrize("hold", [
    lambda logits: logits, lambda logits: logits.data, lambda logits: logits.data[0, :1], lambda logits: logits.reshape(-1),
    lambda logits: logits.T,
])  # fmt: skip
def test_kept_when_somebody_holds_the_logits_or_a_view(weight, asked, hold):
    kept = []

    def loss(weight):
        logits = tg.linear(x, weight)
        kept.append(hold(logits))
        return tg.cross_entropy(logits, IDS.reshape(4, -1))

    value = np.array(raw(hold(tg.linear(x, weight))))
    np.testing.assert_allclose(gradient(weight, loss), numbers(weight), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(raw(kept[0]), value)
    assert asked == [False]


def test_kept_for_another_use_in_the_graph(weight, asked):
    def loss(weight):
        logits = tg.linear(x, weight)
        return 1e-3 * tg.mean(tg.square(tg.logsumexp(logits, -1))) + tg.cross_entropy(logits, IDS.reshape(4, -1))

    got = gradient(weight, loss)
    with tg.definitions():
        np.testing.assert_allclose(got, gradient(weight, loss), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("op", [tg.exp, tg.tanh, tg.sigmoid])
def test_kept_for_an_op_that_reads_its_result(weight, asked, op):
    loss = lambda weight: tg.cross_entropy(op(tg.linear(x, weight)).reshape(ROWS, -1), IDS)
    got = gradient(weight, loss)
    with tg.definitions():
        np.testing.assert_allclose(got, gradient(weight, loss), rtol=1e-4, atol=1e-6)
    assert asked == [False]


def test_kept_for_a_second_backward(weight, asked):
    value = plain(weight)
    value.backward(retain_graph=True)
    first = weight.grad.numpy().copy()
    weight.grad = None
    value.backward()
    np.testing.assert_array_equal(weight.grad.numpy(), first)
    assert asked == [False, True]


def test_double_backward_and_leaves(weight, asked):
    value = plain(weight)
    value.backward(create_graph=True)
    np.testing.assert_allclose(weight.grad.numpy(), numbers(weight), rtol=1e-4, atol=1e-6)
    logits = tg.tensor(rng.normal(size=(ROWS, CLASSES)).astype(np.float32), requires_grad=True)
    before = logits.numpy().copy()
    tg.cross_entropy(logits, IDS).backward()
    np.testing.assert_array_equal(logits.numpy(), before)
    assert not any(asked)


def test_the_backward_pass_makes_no_second_copy(weight):
    weight = tg.tensor(rng.normal(size=(20_000, WIDTH)).astype(np.float32), requires_grad=True)
    size = ROWS * 20_000 * 4
    gradient(weight, plain)
    tracemalloc.start()
    value = plain(weight)
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    value.backward()
    peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert held > size and peak < 0.6 * size  # packed parts of the products and the weight's own gradient, no logits


BACK = tg.tensor(rng.normal(size=(WIDTH, CLASSES)).astype(np.float32), requires_grad=True)


def network(weight, hold=lambda h, a: None):
    """Of a feed-forward network, where both wide arrays may be overwritten."""
    h = tg.linear(x, weight)
    a = tg.gelu(h)
    hold(h, a)
    return tg.sum(tg.square(tg.linear(a, BACK, residual=x)))


def test_hidden_units_are_overwritten_without_changing_a_bit(weight, asked, monkeypatch):
    got = gradient(weight, network)
    assert asked == [True, True]
    monkeypatch.setattr(kinds, "spare", lambda *which: False)
    np.testing.assert_array_equal(got, gradient(weight, network))
    with tg.definitions():
        np.testing.assert_allclose(got, gradient(weight, network), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "hold", [lambda h, a: h, lambda h, a: a, lambda h, a: h.data[0, :1], lambda h, a: a.T, lambda h, a: (h, a.data)]
)
def test_hidden_units_are_kept_when_somebody_holds_them_or_a_view(weight, asked, hold):
    parts = lambda held: held if isinstance(held, tuple) else (held,)
    wanted = gradient(weight, network)
    asked.clear()
    kept = []
    got = gradient(weight, lambda weight: network(weight, lambda h, a: kept.extend(parts(hold(h, a)))))
    h = tg.linear(x, weight)
    for held, value in zip(kept, parts(hold(h, tg.gelu(h))), strict=True):
        np.testing.assert_array_equal(raw(held), raw(value))
    np.testing.assert_array_equal(got, wanted)
    assert asked.count(False) == len(kept)


def test_hidden_units_that_are_used_again_are_kept(weight, monkeypatch):
    def loss(weight):
        h = tg.linear(x, weight)
        a = tg.gelu(h)
        y = tg.linear(a, BACK, residual=x)
        return tg.sum(tg.square(y)) + tg.sum(a * tg.sin(h))

    got = gradient(weight, loss)
    monkeypatch.setattr(kinds, "spare", lambda *which: False)
    np.testing.assert_array_equal(got, gradient(weight, loss))


@pytest.mark.parametrize("view", [
    lambda a: tg.broadcast_to(a[0], (64, 64)), lambda a: tg.broadcast_to(a, (1, 64, 64))[0],
    lambda a: tg.diagonal(a[:, None] + a[None]).T,
])  # fmt: skip
@pytest.mark.parametrize("op", [lambda h: h, tg.gelu])
def test_what_is_spread_or_read_only_is_kept(monkeypatch, view, op):
    square, other = (tg.tensor(rng.normal(size=(64, 64)).astype(np.float32), requires_grad=True) for _ in range(2))

    def loss(square):
        return tg.sum(tg.square(tg.linear(op(view(tg.linear(other, square))), other, residual=other)))

    got = gradient(square, loss)
    monkeypatch.setattr(kinds, "spare", lambda *which: False)
    np.testing.assert_array_equal(got, gradient(square, loss))


def test_the_backward_pass_of_a_network_makes_no_wide_array():
    weight = tg.tensor(rng.normal(size=(20_000, WIDTH)).astype(np.float32), requires_grad=True)
    back = tg.tensor(rng.normal(size=(WIDTH, 20_000)).astype(np.float32), requires_grad=True)
    loss = lambda: tg.sum(tg.square(tg.linear(tg.gelu(tg.linear(x, weight)), back, residual=x)))
    loss().backward()
    size = ROWS * 20_000 * 4
    weight.grad = back.grad = None
    tracemalloc.start()
    value = loss()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    value.backward()
    peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert held > 2 * size and peak < 0.9 * size  # packed parts of the products and the gradients of two weights
