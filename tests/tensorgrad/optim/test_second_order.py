"""Newton-CG, L-BFGS and Levenberg-Marquardt: where they end, in how many iterations, on what kinds of arguments."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, optim

SOLVERS = [optim.newton_cg, optim.lbfgs]


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


START = np.array([-1.2, 1.0])


def logistic(separable=False, seed=0):
    """Mean loss of a logistic regression with a little decay, and its exact gradient and Hessian."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((200, 20))
    y = (a @ rng.standard_normal(20) > 0 if separable else rng.random(200) < 0.5).astype(np.float64)

    def loss(p):
        return tg.binary_cross_entropy(tg.tensor(a) @ p["w"] + p["b"], tg.tensor(y)) + 5e-4 * (p["w"] ** 2).sum()

    def gradient(w, b):
        residual = (1 / (1 + np.exp(-(a @ w + b))) - y) / len(y)
        return np.append(a.T @ residual + 1e-3 * w, residual.sum())

    return loss, gradient, {"w": tg.tensor(np.zeros(20)), "b": tg.tensor(np.zeros(()))}


@pytest.mark.parametrize("separable", [False, True])
def test_newton_cg_on_a_convex_logistic_regression(separable):
    loss, gradient, start = logistic(separable)
    found = optim.newton_cg(loss, start, tol=1e-10)
    assert found.converged and found.iterations <= 15
    exact = np.linalg.norm(gradient(found.x["w"].data, found.x["b"].data))
    assert exact <= 1e-10 and found.grad_norm == pytest.approx(exact, abs=1e-14)


def test_newton_cg_on_rosenbrocks_function():
    found = optim.newton_cg(rosenbrock, tg.tensor(START), tol=1e-10)
    assert found.converged and found.iterations <= 40
    np.testing.assert_allclose(found.x.data, 1, atol=1e-9)
    assert found.x.dtype == np.float64


@pytest.mark.parametrize("solver", SOLVERS)
def test_both_solve_the_logistic_regression_and_rosenbrock(solver):
    loss, _, start = logistic()
    found = solver(loss, start, tol=1e-9)
    assert found.converged and found.value == pytest.approx(optim.newton_cg(loss, start, tol=1e-12).value, rel=1e-12)
    long = solver(rosenbrock, tg.tensor(np.tile(START, 5)), tol=1e-9)
    assert long.converged
    np.testing.assert_allclose(long.x.data, 1, atol=1e-8)


def test_lbfgs_takes_few_iterations():
    assert optim.lbfgs(rosenbrock, tg.tensor(START), tol=1e-10).iterations <= 60
    loss, _, start = logistic()
    assert optim.lbfgs(loss, start, tol=1e-10).iterations <= 40


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_quadratic_is_solved_as_linear_algebra_does(solver):
    rng = np.random.default_rng(0)
    m = rng.standard_normal((12, 12))
    h, b = m @ m.T + np.eye(12), rng.standard_normal(12)
    f = lambda x: 0.5 * (x * (tg.tensor(h) @ x)).sum() - (tg.tensor(b) * x).sum()
    found = solver(f, tg.tensor(np.zeros(12)), tol=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.x.data, np.linalg.solve(h, b), rtol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_negative_curvature_is_left_behind(solver):
    """Between two wells, next to a saddle where Newton's own step would lead to it."""
    f = lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2 + 0.1 * x[0] * x[1]
    found = solver(f, tg.tensor(np.array([1e-3, 1.0])), tol=1e-9)
    assert found.converged and tg.curvature.critical_point(f, found.x).kind == "minimum"


def test_newton_cg_leaves_a_maximum_along_the_edge():
    found = optim.newton_cg(lambda x: tg.cos(x).sum(), tg.tensor(np.array([0.1, -0.2])), tol=1e-9)
    np.testing.assert_allclose(np.abs(found.x.data) % (2 * np.pi), np.pi, rtol=1e-8)


def test_a_module_gives_parameters_by_name_and_is_not_changed():
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng)).astype(np.float64)
    x, y = rng.standard_normal((30, 2)), rng.standard_normal((30, 1))
    f = lambda m: tg.mse_loss(m(x), tg.tensor(y)) + 1e-2 * sum((p * p).sum() for p in m.parameters())
    before = net.state_dict()
    for solver in SOLVERS:
        found = solver(f, net, tol=1e-8, max_iterations=500)
        assert found.converged and list(found.x) == list(before)
        assert all(np.array_equal(net.state_dict()[k], v) for k, v in before.items())
        other = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).astype(np.float64)
        other.load_state_dict(found.x)
        gradient = tg.grad(f)(other)
        assert math.sqrt(sum(float((g.data**2).sum()) for g in gradient.values())) <= 1.1e-8


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_stays_float32_and_stops_where_rounding_says(solver):
    found = solver(rosenbrock, tg.tensor(START.astype(np.float32)), tol=1e-3)
    assert found.converged and found.x.dtype == np.float32
    np.testing.assert_allclose(found.x.data, 1, atol=5e-3)
    hopeless = solver(lambda x: ((x - 0.1) ** 2).sum() + 1, tg.tensor(START.astype(np.float32)), tol=1e-30)
    assert hopeless.iterations <= 100
    np.testing.assert_allclose(hopeless.x.data, 0.1, atol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_values_that_are_not_finite_are_stepped_back_from(solver):
    found = solver(lambda x: (x - tg.log(x)).sum(), tg.tensor(np.array([1e-3, 30.0])), tol=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.x.data, 1, rtol=1e-8)


@pytest.mark.parametrize("solver", [*SOLVERS, optim.levenberg_marquardt])
def test_limits_and_starts_at_the_end(solver):
    f = (lambda x: x - 1) if solver is optim.levenberg_marquardt else (lambda x: ((x - 1) ** 2).sum())
    there = solver(f, tg.tensor(np.ones(3)))
    assert there.converged and there.iterations == 0 and there.value == 0
    stopped = solver(f, tg.tensor(np.zeros(3)), max_iterations=0)
    assert not stopped.converged and stopped.x.data.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="tol must be"):
        solver(f, tg.tensor(np.zeros(3)), tol=math.nan)
    with pytest.raises(ValueError, match="max_iterations must be"):
        solver(f, tg.tensor(np.zeros(3)), max_iterations=-1)


def test_least_squares_recovers_an_exponential_decay():
    t = np.linspace(0, 4, 40)
    noise = 1e-3 * np.random.default_rng(0).standard_normal(40)
    data = 2.5 * np.exp(-1.3 * t) + 0.5 + noise
    model = lambda p: p["a"] * tg.exp(-p["rate"] * tg.tensor(t)) + p["c"]
    start = {"a": tg.tensor(np.array(1.0)), "rate": tg.tensor(np.array(0.2)), "c": tg.tensor(np.array(0.0))}
    found = optim.levenberg_marquardt(lambda p: model(p) - tg.tensor(data), start, tol=1e-10)
    assert found.converged and found.iterations <= 20
    a, rate, c = (found.x[k].item() for k in ("a", "rate", "c"))
    assert [a, rate, c] == pytest.approx([2.5, 1.3, 0.5], abs=5e-3)
    e = np.exp(-rate * t)
    jacobian, r = np.stack([e, -a * t * e, np.ones(40)], 1), a * e + c - data
    np.testing.assert_allclose(jacobian.T @ r, 0, atol=1e-10)
    assert found.value == pytest.approx(0.5 * r @ r)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_least_squares_of_several_residuals_in_any_unit(unit):
    r = lambda p: (1 - p[0] / unit, [10 * (p[1] - (p[0] / unit) ** 2)])
    found = optim.levenberg_marquardt(r, (tg.tensor(np.array(-1.2 * unit)), tg.tensor(np.array(1.0))), tol=1e-8 / unit)
    assert found.iterations <= 40
    assert [found.x[0].item() / unit, found.x[1].item()] == pytest.approx([1, 1])


def test_least_squares_with_fewer_residuals_than_unknowns():
    found = optim.levenberg_marquardt(lambda x: x.sum() - 3, tg.tensor(np.array([1.0, 0.0, 0.0])))
    assert found.converged
    np.testing.assert_allclose(found.x.data, np.array([1.0, 0.0, 0.0]) + 2 / 3, rtol=1e-6)  # the nearest solution


def test_bad_settings_are_refused():
    x = tg.tensor(np.zeros(2))
    with pytest.raises(ValueError, match="radius must be"):
        optim.newton_cg(rosenbrock, x, radius=math.nan)
    with pytest.raises(ValueError, match="history must be"):
        optim.lbfgs(rosenbrock, x, history=0)
    with pytest.raises(TypeError, match="one floating-point number"):
        optim.newton_cg(lambda x: x, x)
