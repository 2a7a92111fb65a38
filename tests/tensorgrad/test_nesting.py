"""Transforms inside transforms: every combination of modes agrees, and each differentiates with respect to its own variable."""

import itertools

import numpy as np
import pytest

import tensorgrad as tg

ONE = tg.tensor(1.0, dtype="float64")
X = np.random.default_rng(0).standard_normal(3)


def close(given, wanted, rtol=1e-13):
    given = np.asarray(given.data)
    assert given.shape == np.shape(wanted)
    np.testing.assert_allclose(given, wanted, rtol=rtol)


DERIVATIVES = {  # a function of one number -> its derivative, by every transform there is
    "grad": tg.grad,
    "value_and_grad": lambda f: lambda x: tg.value_and_grad(f)(x)[1],
    "vjp": lambda f: lambda x: tg.vjp(f, x)[1](ONE)[0],
    "jvp": lambda f: lambda x: tg.jvp(f, (x,), (ONE,))[1],
    "linearize": lambda f: lambda x: tg.linearize(f, x)[1](ONE),
    "jacrev": tg.jacrev,
    "jacfwd": tg.jacfwd,
    "jacobian": tg.jacobian,
}
PAIRS = pytest.mark.parametrize("outer, inner", list(itertools.product(DERIVATIVES, DERIVATIVES)))


@PAIRS
def test_every_nesting_gives_the_second_derivative(outer, inner):
    f = lambda x: tg.exp(tg.sin(x)) * x**3
    x = 0.7
    s, c = np.sin(x), np.cos(x)
    wanted = np.exp(s) * ((c * c - s) * x**3 + 6 * c * x**2 + 6 * x)
    close(DERIVATIVES[outer](DERIVATIVES[inner](f))(tg.tensor(x, dtype="float64")), wanted)


@pytest.mark.parametrize("modes", list(itertools.product(["grad", "jvp"], repeat=3)))
def test_every_nesting_gives_the_third_derivative(modes):
    f = lambda x: tg.softplus(x)
    for mode in modes:
        f = DERIVATIVES[mode](f)
    p = 1 / (1 + np.exp(-0.3))
    close(f(tg.tensor(0.3, dtype="float64")), p * (1 - p) * (1 - 2 * p))


@PAIRS
def test_case_290_perturbations_are_not_confused(outer, inner):
    d, e = DERIVATIVES[outer], DERIVATIVES[inner]
    x = tg.tensor(3.0, dtype="float64")
    assert d(lambda x: x * e(lambda y: x + y)(x))(x).item() == 1
    assert d(lambda x: x * e(lambda y: x * y * y)(x))(x).item() == 54
    assert d(lambda x: x * e(lambda y: x)(tg.tensor(1.0, dtype="float64")))(x).item() == 0
    assert d(lambda x: e(lambda y: x * y)(tg.tensor(1.0, dtype="float64")))(x).item() == 1


@pytest.mark.parametrize("inner", DERIVATIVES)
def test_case_290_inside_a_backward_pass(inner):
    x = tg.tensor(3.0, dtype="float64", requires_grad=True)
    (x * DERIVATIVES[inner](lambda y: x * y * y)(x)).backward()
    assert x.grad.item() == 54


@pytest.mark.parametrize("transform", DERIVATIVES)
def test_case_291_only_the_arguments_path_counts(transform):
    d = DERIVATIVES[transform]
    x = tg.tensor(3.0, dtype="float64", requires_grad=True)
    assert d(lambda y: x * y)(x).item() == 3
    assert d(lambda y: x * x)(x).item() == 0
    assert x.grad is None


def test_case_291_the_same_tensor_twice():
    x = tg.tensor(3.0, dtype="float64")
    f = lambda a, b: a * a * b
    assert tg.grad(f)(x, x).item() == 18
    assert tg.grad(f, 1)(x, x).item() == 9
    assert [g.item() for g in tg.grad(f, (0, 1))(x, x)] == [18, 9]
    assert [g.item() for g in tg.vjp(f, x, x)[1](ONE)] == [18, 9]
    assert tg.jvp(f, (x, x), (ONE, 0.0 * ONE))[1].item() == 18
    assert [g.item() for g in tg.grad(lambda pair: f(*pair))([x, x])] == [18, 9]
    second = tg.hessian(f, (0, 1))(x, x)
    assert [[h.item() for h in row] for row in second] == [[6, 6], [6, 0]]


def test_three_levels_of_closures():
    """d/dx x d/dy (y x d/dz (x y z^2) at z = y) at y = x:  x d/dy (2 x^2 y^3) at y = x  is  6 x^5."""
    x = tg.tensor(2.0, dtype="float64")
    for a, b, c in itertools.product(("grad", "jvp"), repeat=3):
        d, e, f = DERIVATIVES[a], DERIVATIVES[b], DERIVATIVES[c]
        value = d(lambda x: x * e(lambda y: y * x * f(lambda z: x * y * z * z)(y))(x))(x)
        assert value.item() == 30 * 2.0**4


def test_outer_leaves_are_reached_through_inner_derivatives():
    """A meta-gradient: the loss after one step of descent, differentiated with respect to the rate."""
    rate = tg.tensor(0.1, dtype="float64", requires_grad=True)
    loss = lambda w: tg.sum(w**4)
    w = tg.tensor(X)
    loss(w - rate * tg.grad(loss)(w)).backward()
    close(rate.grad, np.sum(4 * (X - 0.4 * X**3) ** 3 * -4 * X**3))


def test_gradients_of_gradients_by_backward():
    x = tg.tensor(X, requires_grad=True)
    tg.sum(x**3).backward(create_graph=True)
    gradient, x.grad = x.grad, None
    tg.sum(gradient**2).backward()
    close(x.grad, 2 * (3 * X**2) * 6 * X)


def test_transforms_under_no_grad():
    with tg.no_grad():
        close(tg.grad(lambda x: tg.sum(x**2))(X), 2 * X)
        close(tg.jvp(tg.sin, (X,), (np.ones(3),))[1], np.cos(X))
        close(tg.hessian(lambda x: tg.sum(x**3))(X), np.diag(6 * X))
    x = tg.tensor(X, requires_grad=True)
    outer = tg.grad(lambda x: tg.sum(tg.no_grad()(tg.sin)(x) * x))
    close(outer(x), np.sin(X))


def test_results_are_plain_unless_something_outside_needs_them():
    out, pull = tg.vjp(tg.sin, X)
    assert not out.requires_grad and not pull(np.ones(3))[0].requires_grad
    w = tg.tensor(2.0, dtype="float64", requires_grad=True)
    out, pull = tg.vjp(lambda x: tg.sum(w * x * x), X)
    (gradient,) = pull(ONE)
    tg.sum(gradient).backward()
    close(w.grad, np.sum(2 * X))


def test_cotangents_and_tangents_may_be_differentiated_by():
    f = lambda x: tg.sin(x)
    close(tg.grad(lambda g: tg.sum(tg.vjp(f, X)[1](g)[0] ** 2))(np.ones(3)), 2 * np.cos(X) ** 2)
    close(tg.grad(lambda t: tg.sum(tg.jvp(f, (X,), (t,))[1] ** 2))(np.ones(3)), 2 * np.cos(X) ** 2)
