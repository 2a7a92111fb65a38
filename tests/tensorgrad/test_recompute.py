"""tg.checkpoint, tg.custom_vjp and tg.stop_gradient: what is computed again, by which rule, or not at all."""

import itertools
import tracemalloc

import numpy as np
import pytest

import tensorgrad as tg


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def close(given, wanted, rtol=1e-13):
    given, wanted = (np.asarray(x.data if isinstance(x, tg.Tensor) else x) for x in (given, wanted))
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max(initial=0))


X, Y = numbers(3), numbers(2, 3)


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
        tg.sum(wrap(lambda x: tg.tanh(model(x)) * hidden)(tg.tensor(Y)) ** 2).backward()
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
