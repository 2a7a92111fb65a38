"""Functional transforms: nested arguments and results, Jacobians, Hessians and products with them, and mistakes."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.graph import Op

ONE = tg.tensor(1.0, dtype="float64")


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def close(given, wanted, rtol=1e-13):
    given, wanted = (np.asarray(x.data if isinstance(x, tg.Tensor) else x) for x in (given, wanted))
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max(initial=0))


X, Y = numbers(3), numbers(2, 3)


def test_grad_and_value_and_grad():
    f = lambda x, y: tg.sum(tg.sin(x) * y)
    x, y = tg.tensor(X), tg.tensor(Y)
    close(tg.grad(f)(x, y), np.cos(X) * Y.sum(0))
    close(tg.grad(f, 1)(x, y), np.broadcast_to(np.sin(X), (2, 3)))
    value, (gx, gy) = tg.value_and_grad(f, (0, 1))(x, y)
    close(value, np.sum(np.sin(X) * Y))
    close(gx, np.cos(X) * Y.sum(0))
    close(gy, np.broadcast_to(np.sin(X), (2, 3)))
    (gy,) = tg.grad(f, [-1])(x, y)
    close(gy, np.broadcast_to(np.sin(X), (2, 3)))
    assert x.grad is None and not value.requires_grad and not gx.requires_grad


def test_aux_values_come_along():
    f = lambda x: (tg.sum(x * x), {"half": x / 2, "name": "square"})
    gradient, aux = tg.grad(f, has_aux=True)(X)
    close(gradient, 2 * X)
    close(aux["half"], X / 2)
    assert aux["name"] == "square" and not aux["half"].requires_grad
    (value, aux), gradient = tg.value_and_grad(f, has_aux=True)(X)
    close(value, np.sum(X * X))
    close(gradient, 2 * X)


def test_arguments_may_be_arrays_numbers_and_keywords():
    close(tg.grad(lambda x: x**3)(2.0), 12.0)
    close(tg.grad(lambda x, n, scale: tg.sum(x**n) * scale)(X, 2, scale=3.0), 6 * X)
    close(tg.grad(lambda x, ids: tg.sum(x[ids]))(X, np.array([0, 0, 2])), [2, 0, 1])


class Pair(NamedTuple):
    a: object
    b: object


def test_nested_arguments_give_gradients_of_their_structure():
    tree = {"w": [tg.tensor(X), (tg.tensor(Y), None)], "p": Pair(tg.tensor(2.0, dtype="float64"), "text"), "n": 3}
    f = lambda t: tg.sum(t["w"][0] * t["w"][1][0]) * t["p"].a ** t["n"]
    gradient = tg.grad(f)(tree)
    assert list(gradient) == ["w", "p", "n"] and gradient["w"][1][1] is None and gradient["n"] == 3
    assert isinstance(gradient["p"], Pair) and gradient["p"].b == "text"
    close(gradient["w"][0], 8 * Y.sum(0))
    close(gradient["w"][1][0], np.broadcast_to(8 * X, (2, 3)))
    close(gradient["p"].a, 12 * np.sum(X * Y))
    tangent = {"w": [np.ones(3), (np.zeros((2, 3)), None)], "p": Pair(0.0, "text"), "n": 3}
    close(tg.jvp(f, (tree,), (tangent,))[1], 8 * Y.sum())


def test_nested_results():
    f = lambda x: {"s": tg.sin(x), "parts": (x * 2, [tg.sum(x)])}
    out, pull = tg.vjp(f, X)
    close(out["parts"][1][0], X.sum())
    (gx,) = pull({"s": np.ones(3), "parts": (np.zeros(3), [3.0])})
    close(gx, np.cos(X) + 3)
    _, moved = tg.jvp(f, (X,), (np.ones(3),))
    close(moved["s"], np.cos(X))
    close(moved["parts"][1][0], 3.0)
    jacobian = tg.jacrev(f)(X)
    close(jacobian["s"], np.diag(np.cos(X)))
    close(jacobian["parts"][1][0], np.ones(3))


def test_modules_are_arguments_by_parameter_name():
    model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Linear(4, 1)).astype("float64")
    loss = lambda m, x: tg.sum(tg.tanh(m(x)))
    gradient = tg.grad(loss)(model, Y)
    assert list(gradient) == [name for name, _ in model.named_parameters()]
    assert all(p.grad is None for p in model.parameters())
    tg.sum(tg.tanh(model(Y))).backward()
    for name, p in model.named_parameters():
        close(gradient[name], p.grad)
    v = {name: numbers(*p.shape) for name, p in model.named_parameters()}
    product = tg.hvp(lambda m: loss(m, Y), model, v)
    again = tg.grad(lambda m: sum(tg.sum(g * v[n]) for n, g in tg.grad(loss)(m, Y).items()))(model)
    for name in v:
        close(product[name], again[name], 1e-12)
    gm, gx = tg.grad(loss, (0, 1))(model, Y)
    assert gx.shape == (2, 3) and set(gm) == set(v)


def test_tied_parameters_have_one_gradient():
    class Tied(tg.nn.Module):
        def __init__(self):
            self.first = tg.nn.Parameter(X)
            self.second = self.first

        def forward(self):
            return tg.sum(self.first * self.second)

    gradient = tg.grad(lambda m: m())(Tied())
    assert list(gradient) == ["first"]
    close(gradient["first"], 2 * X)


def test_vjp_and_linearize_record_once_and_apply_often():
    calls = []

    def f(x, y):
        calls.append(1)
        return tg.sin(x) * y

    _, pull = tg.vjp(f, X, Y)
    for seed in range(3):
        g = numbers(2, 3, seed=seed)
        gx, gy = pull(g)
        close(gx, np.cos(X) * (g * Y).sum(0))
        close(gy, np.sin(X) * g)
    _, push = tg.linearize(f, X, Y)
    for seed in range(3):
        t = numbers(3, seed=seed)
        close(push(t, np.zeros((2, 3))), np.cos(X) * t * Y)
    assert len(calls) == 2


def test_jacobians():
    f = lambda x, y: tg.sin(y) * x + tg.sum(x)
    wanted_x = np.sin(Y)[:, :, None] * np.eye(3) + 1
    wanted_y = (np.cos(Y) * X)[:, :, None, None] * np.eye(6).reshape(2, 3, 2, 3)
    for transform in (tg.jacrev, tg.jacfwd, tg.jacobian):
        close(transform(f)(X, Y), wanted_x)
        jx, jy = transform(f, (0, 1))(X, Y)
        close(jx, wanted_x)
        close(jy, wanted_y)


def test_jacobians_of_constants_and_of_nothing():
    for transform in (tg.jacrev, tg.jacfwd, tg.jacobian):
        close(transform(lambda x: tg.tensor(Y))(X), np.zeros((2, 3, 3)))
        assert transform(lambda x: x[:0])(tg.tensor(X)).shape == (0, 3)
        assert transform(lambda x: tg.sum(x))(np.zeros(0)).shape == (0,)


class Counted(Op):
    """The identity, which counts its rules."""

    name = "counted"

    def __init__(self):
        self.pulled = self.pushed = 0

    def forward(self, x):
        return x.copy()

    def vjp(self, out, g, wanted):
        self.pulled += 1
        return [g]

    def jvp(self, out, tangents):
        self.pushed += 1
        return tangents[0]


@pytest.mark.parametrize("f, pulled, pushed", [(lambda x: x[:2], 2, 0), (lambda x: tg.concat([x, x]), 0, 5), (lambda x: x, 5, 0)])
def test_jacobian_takes_the_cheaper_mode(f, pulled, pushed):
    op = Counted()
    tg.jacobian(lambda x: f(op(x)))(numbers(5))
    assert (op.pulled, op.pushed) == (pulled, pushed)


def test_hessian_and_hvp():
    a = numbers(3, 3)
    f = lambda x: tg.sum(tg.sin(x @ a) * x) + tg.prod(x)
    hessian = tg.hessian(f)(X)
    close(hessian, hessian.data.T)
    numeric = [(tg.grad(f)(X + h).data - tg.grad(f)(X - h).data) / 2e-5 for h in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(hessian.data, numeric, rtol=1e-8, atol=1e-8)
    v = numbers(3, seed=1)
    close(tg.hvp(f, X, v), hessian.data @ v)
    close(tg.hvp(f, (X,), (v,))[0], hessian.data @ v)
    for outer, inner in itertools.product((tg.jacrev, tg.jacfwd), repeat=2):
        close(outer(inner(f))(X), hessian.data)


def test_hessian_of_several_arguments():
    f = lambda x, y: tg.sum(x * x * y)
    hessian = tg.hessian(f, (0, 1))(X, Y)
    close(hessian[0][0], np.diag(2 * Y.sum(0)))
    close(hessian[0][1], 2 * X[:, None, None] * np.eye(3)[:, None, :] * np.ones((3, 2, 1)))
    close(hessian[1][0], 2 * X[None, :, None] * np.eye(3)[None] * np.ones((2, 1, 1)))
    close(hessian[1][1], np.zeros((2, 3, 2, 3)))
    product = tg.hvp(f, (X, Y), (np.ones(3), np.zeros((2, 3))))
    close(product[0], 2 * Y.sum(0))
    close(product[1], np.broadcast_to(2 * X, (2, 3)))


def test_gauss_newton_products():
    w, x, targets, v = numbers(4, 3), numbers(5, 3), np.array([0, 3, 1, 2, 2]), numbers(4, 3, seed=1)
    model = lambda w: tg.tanh(x @ w.T)
    loss = lambda logits: tg.cross_entropy(logits, targets)
    j = tg.jacobian(model)(w).data.reshape(20, 12)
    h = tg.hessian(loss)(model(tg.tensor(w))).data.reshape(20, 20)
    ggn = j.T @ h @ j
    close(tg.ggnvp(model, loss, w, v), (ggn @ v.reshape(-1)).reshape(4, 3))
    assert np.linalg.eigvalsh(ggn).min() > -1e-15
    linear = lambda w: x @ w.T
    close(tg.ggnvp(linear, loss, w, v), tg.hvp(lambda w: loss(linear(w)), w, v))


@pytest.mark.parametrize(
    "call, error, said",
    [
        (lambda: tg.grad(tg.sin)(X), TypeError, r"returns one floating-point number, got shape \(3,\), float64"),
        (lambda: tg.grad(lambda x: 3.0)(X), TypeError, "got float"),
        (lambda: tg.grad(tg.argmax)(X), TypeError, "int64"),
        (lambda: tg.grad(tg.sum, 1)(X), ValueError, "argnums has 1, but the function was called with 1 positional"),
        (lambda: tg.grad(tg.sum)(tg.tensor([1, 2])), TypeError, "argument 0 holds a tensor of int64"),
        (lambda: tg.vjp(tg.sin, X)[1](np.ones(2)), ValueError, r"cotangent has shape \(2,\), expected \(3,\)"),
        (lambda: tg.jvp(tg.sin, (X,), (np.ones((1, 3)),)), ValueError, r"tangent has shape \(1, 3\), expected \(3,\)"),
        (lambda: tg.jvp(tg.add, (X, X), (X,)), ValueError, "tangent has 1 tensors, expected 2"),
        (lambda: tg.custom_vjp(tg.sin)(X), TypeError, "sin has no rule yet"),
    ],
)
def test_mistakes_are_named(call, error, said):
    with pytest.raises(error, match=said):
        call()
