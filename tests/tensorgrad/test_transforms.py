"""Functional transforms: shapes of arguments and results, every nesting of modes, and what belongs to whom."""

import itertools
import tracemalloc
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


# Arguments and results


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


# Nesting: each transform differentiates with respect to its own variable


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
        value = d(lambda x: x * e(lambda y: y * x * f(lambda z: x * y * z * z)(y))(x))(x)  # noqa: B023
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


# Recomputation


def block(x, w):
    for _ in range(3):
        x = tg.tanh(x @ w)
    return x


def test_checkpoint_changes_no_number():
    x, w = numbers(4, 5), numbers(5, 5)
    loss = lambda f: lambda x, w: tg.sum(f(x, w) ** 2)
    plain, again = loss(block), loss(tg.checkpoint(block))
    for transform in (lambda f: tg.value_and_grad(f, (0, 1)), lambda f: tg.hessian(f, 1), lambda f: tg.jacfwd(f, (0, 1))):
        for a, b in zip(tg.tree.flatten(transform(again)(x, w))[0], tg.tree.flatten(transform(plain)(x, w))[0], strict=True):
            close(a, b)
    tg.check.check_grads(tg.checkpoint(block), (x[:2], w), order=2)


def test_checkpoint_recomputes_once_a_backward_pass():
    calls = []

    def f(x):
        calls.append(1)
        return tg.sin(x) * x

    x = tg.tensor(X, requires_grad=True)
    y = tg.sum(tg.checkpoint(f)(x))
    assert len(calls) == 1
    y.backward()
    assert len(calls) == 2
    close(x.grad, np.cos(X) * X + np.sin(X))
    with tg.no_grad():
        assert not tg.checkpoint(f)(x).requires_grad
    assert len(calls) == 3


def test_checkpoint_reaches_parameters_and_outer_variables():
    model = tg.nn.Linear(3, 3).astype("float64")
    scale = tg.tensor(1.5, dtype="float64", requires_grad=True)
    results = []
    for wrap in (lambda f: f, tg.checkpoint):
        model.zero_grad()
        scale.grad = None
        hidden = scale * 2
        tg.sum(wrap(lambda x: tg.tanh(model(x)) * hidden)(tg.tensor(Y)) ** 2).backward()  # noqa: B023
        results.append([*[p.grad.data for p in model.parameters()], scale.grad.data])
    for a, b in zip(*results, strict=True):
        close(a, b)
    f = lambda outer: tg.sum(tg.checkpoint(lambda x: tg.sin(x * outer))(tg.tensor(X)))
    close(tg.grad(f)(np.float64(0.5)), np.sum(np.cos(X / 2) * X))
    close(tg.hessian(f)(np.float64(0.5)), np.sum(-np.sin(X / 2) * X * X))


def test_checkpoint_of_a_module_and_nested_results():
    model = tg.nn.Linear(3, 2).astype("float64")
    f = tg.checkpoint(lambda m, x, *, power: {"y": m(x) ** power, "n": (tg.sum(x), 7)})
    loss = lambda m, x: (lambda out: tg.sum(out["y"]) * out["n"][0])(f(m, x, power=2))
    plain = lambda m, x: tg.sum(m(x) ** 2) * tg.sum(x)
    for a, b in zip(
        tg.tree.flatten(tg.grad(loss, (0, 1))(model, Y))[0], tg.tree.flatten(tg.grad(plain, (0, 1))(model, Y))[0], strict=True
    ):
        close(a, b)
    assert f(model, Y, power=1)["n"][1] == 7


def test_checkpoints_in_checkpoints():
    f = tg.checkpoint(lambda x: tg.checkpoint(tg.sin)(x) * tg.checkpoint(tg.exp)(x))
    close(tg.grad(lambda x: tg.sum(f(x)))(X), np.exp(X) * (np.sin(X) + np.cos(X)))
    close(tg.hessian(lambda x: tg.sum(f(x)))(X), np.diag(2 * np.exp(X) * np.cos(X)))


def test_case_121_recomputation_draws_the_same_dropout_mask():
    def train(wrap):
        rng, drop = np.random.default_rng(0), tg.nn.Dropout(0.5, rng=np.random.default_rng(1))
        w = tg.tensor(numbers(6, 6), requires_grad=True)
        losses = []
        for _ in range(3):
            layer = wrap(lambda x: drop(tg.tanh(tg.dropout(x, 0.3, rng=rng) @ w)))
            loss = tg.sum(layer(layer(tg.tensor(np.ones((4, 6))))) ** 2)
            loss.backward()
            losses.append(loss.item())
            w.data = w.data - 0.1 * w.grad.data
            w.grad = None
        return losses, w.data

    plain, again = train(lambda f: f), train(tg.checkpoint)
    assert plain[0] == again[0]
    np.testing.assert_array_equal(plain[1], again[1])


def test_checkpoint_lowers_the_peak_of_memory():
    def peak(wrap):
        x = tg.tensor(np.ones((100, 1000)), requires_grad=True)
        tracemalloc.start()
        y = x
        for _ in range(6):
            y = wrap(lambda y: tg.sin(tg.cos(tg.sin(tg.cos(y)))))(y)
        tg.sum(y).backward()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most / x.data.nbytes, x.grad.data

    (plain, wanted), (again, given) = peak(lambda f: f), peak(tg.checkpoint)
    assert plain > 24  # every intermediate result is kept
    assert again < 16  # six results, and one block at a time
    np.testing.assert_array_equal(given, wanted)


# Rules of one's own


@tg.custom_vjp
def clipped(x, *, limit=1.0):
    """The identity, whose cotangent is clipped."""
    return x * 1.0


clipped.defvjp(lambda x, *, limit=1.0: (x * 1.0, None), lambda _, g: tg.clip(g, -1.0, 1.0))


def logistic_loss():
    @tg.custom_vjp
    def loss(x, y):
        return tg.log(1 + tg.exp(x)) * y

    loss.defvjp(
        lambda x, y: (tg.log(1 + tg.exp(x)) * y, (tg.sigmoid(x), tg.softplus(x), y)), lambda r, g: (g * r[0] * r[2], g * r[1])
    )
    return loss


def test_custom_rule_replaces_the_derivative():
    x = tg.tensor(X, requires_grad=True)
    tg.sum(clipped(x) * 5).backward()
    close(x.grad, np.ones(3))
    close(tg.grad(lambda x: tg.sum(clipped(x, limit=2.0) * 5))(X), np.ones(3))


def test_custom_rule_serves_both_modes_and_every_order():
    loss = logistic_loss()
    tg.check.check_grads(loss, (X, X + 2), order=3)
    plain = lambda x, y: tg.softplus(x) * y
    for transform in (tg.jacrev, tg.jacfwd):
        close(transform(loss)(X, X), transform(plain)(X, X).data)
    total = lambda f: lambda x: tg.sum(f(x, x + 2))
    for outer, inner in itertools.product((tg.jacrev, tg.jacfwd), repeat=2):
        close(outer(inner(total(loss)))(X), tg.hessian(total(plain))(X).data)


def test_custom_rule_may_pass_nothing_on():
    f = tg.custom_vjp(lambda x, y: x * y)
    f.defvjp(lambda x, y: (x * y, y), lambda y, g: (g * y, None))
    close(tg.grad(lambda x: tg.sum(f(x, x)))(X), X)
    close(tg.jvp(lambda x: f(x, x), (X,), (np.ones(3),))[1], X)


def test_custom_rule_of_wrong_shapes_is_named():
    f = tg.custom_vjp(tg.sum)
    f.defvjp(lambda x: (tg.sum(x), None), lambda _, g: g)
    with pytest.raises(ValueError, match=r"sum: bwd returned shapes \[\(\)\], the inputs have \[\(3,\)\]"):
        tg.grad(f)(X)


def test_custom_rule_runs_its_function_once():
    calls = []
    f = tg.custom_vjp(lambda x: tg.sin(x))
    f.defvjp(lambda x: (calls.append(1), (tg.sin(x), x))[1], lambda x, g: g * tg.cos(x))
    x = tg.tensor(X, requires_grad=True)
    tg.sum(f(x)).backward()
    assert len(calls) == 1
    close(x.grad, np.cos(X))


def test_stop_gradient_is_constant_for_every_mode_and_order():
    f = lambda x: tg.sum(tg.stop_gradient(x) ** 2 * x)
    close(tg.grad(f)(X), X**2)
    close(tg.jvp(f, (X,), (np.ones(3),))[1], np.sum(X**2))
    close(tg.hessian(f)(X), np.zeros((3, 3)))
    close(tg.grad(lambda x: tg.sum(x.detach() * x))(X), X)
    x = tg.tensor(X, requires_grad=True)
    assert not tg.stop_gradient(x).requires_grad and not x.detach().requires_grad
