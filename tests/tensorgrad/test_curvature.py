"""Curvature against the exact Hessian, on tensors, containers and modules."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import curvature, nn
from tensorgrad.flat import Flat


def quadratic(spectrum, seed=0):
    """f(x) = x H x / 2 and H, whose eigenvalues are given and whose eigenvectors are random."""
    spectrum = np.asarray(spectrum, np.float64)
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum),) * 2))
    h = (q * spectrum) @ q.T
    return (lambda x: 0.5 * (x * (tg.tensor(h) @ x)).sum()), h


def network(seed=0, dtype=np.float64):
    """The loss of a small network with a tied weight, and the network."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(3, 3, rng=rng), nn.Tanh(), nn.Linear(3, 3, rng=rng), nn.Linear(3, 1, rng=rng))
    net[2].weight = net[0].weight
    net.astype(dtype)
    x, y = tg.tensor(rng.standard_normal((6, 3)).astype(dtype)), tg.tensor(rng.standard_normal((6, 1)).astype(dtype))
    return (lambda m: tg.mse_loss(m(x), y)), net


def exact_hessian(f, x):
    """By jacobians of gradients, put together by hand."""
    blocks = tg.hessian(f)(x)
    leaves = tg.grad(f)(x)
    if isinstance(leaves, tg.Tensor):
        return blocks.data.reshape(leaves.size, leaves.size)
    rows = [[blocks[i][j].data.reshape(leaves[i].size, leaves[j].size) for j in leaves] for i in leaves]
    return np.block(rows)


SPECTRA = {
    "random": np.random.default_rng(1).standard_normal(30),
    "repeated": [5, 5, 5, *[0] * 40, -1, -1, 2],
    "zero": np.zeros(5),
    "identity": np.ones(7),
    "wide": np.logspace(-6, 3, 60),
    "one": [3.0],
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [1, 3])
def test_ends_of_the_spectrum_with_their_multiplicities(name, k):
    f, h = quadratic(SPECTRA[name])
    exact, n = np.sort(np.linalg.eigvalsh(h)), len(h)
    x, rng = tg.tensor(np.zeros(n)), np.random.default_rng(2)
    for which, expected in (
        ("largest", exact[-k:]),
        ("smallest", exact[:k]),
        ("both", exact if 2 * k >= n else np.r_[exact[:k], exact[-k:]]),
    ):
        found = curvature.eigenvalues(f, x, k, which, rng=rng)
        np.testing.assert_allclose(found, expected, atol=1e-8 * max(np.abs(exact).max(), 1e-6))


def test_the_spectrum_of_a_module_and_of_a_container():
    f, net = network()
    h = exact_hessian(f, net)
    exact = np.sort(np.linalg.eigvalsh(h))
    assert len(exact) == 3 * 3 + 3 + 3 + 3 + 1
    np.testing.assert_allclose(curvature.eigenvalues(f, net, 2, rng=np.random.default_rng(0)), exact[[0, 1, -2, -1]], atol=1e-7)
    tree = {"a": tg.tensor(np.array([1.0, 2.0])), "b": [tg.tensor(np.array(0.5))]}
    g = lambda t: (t["a"] ** 3).sum() * t["b"][0] ** 2
    a, b = tree["a"].data, 0.5
    exact = np.zeros((3, 3))
    exact[:2, :2] = np.diag(6 * a) * b**2
    exact[:2, 2] = exact[2, :2] = 3 * a**2 * 2 * b
    exact[2, 2] = 2 * (a**3).sum()
    np.testing.assert_allclose(curvature.eigenvalues(g, tree, 5), np.linalg.eigvalsh(exact), rtol=1e-10)


def test_float32_is_as_exact_as_its_products():
    f, net = network(dtype=np.float32)
    reference, double = network()
    exact = np.linalg.eigvalsh(exact_hessian(reference, double))
    np.testing.assert_allclose(curvature.eigenvalues(f, net, 1), exact[[0, -1]], atol=2e-5 * np.abs(exact).max())


def test_too_few_products_are_an_error():
    f, _ = quadratic(np.linspace(0, 1, 80))
    with pytest.raises(RuntimeError, match="raise max_products"):
        curvature.eigenvalues(f, tg.tensor(np.zeros(80)), max_products=10)


def test_density_integrates_low_polynomials_exactly_over_many_probes():
    spectrum = np.r_[np.zeros(20), np.linspace(1, 2, 15), 9.0]
    f, h = quadratic(spectrum)
    x, n = tg.tensor(np.zeros(len(h))), len(spectrum)
    density = curvature.spectral_density(f, x, probes=400, steps=6, rng=np.random.default_rng(0))
    assert density.weights.sum() == pytest.approx(1)
    assert np.all(np.diff(density.values) >= 0) and density.weights.min() >= 0
    for power in (1, 2, 3):
        exact = np.mean(spectrum**power)
        error = np.sqrt(2 * np.mean(spectrum ** (2 * power)) / n / 400)
        assert abs(density.weights @ density.values**power - exact) < 4 * error
    grid = np.linspace(-2, 12, 2000)
    smooth = density.smooth(grid, 0.1)
    assert np.trapezoid(smooth, grid) == pytest.approx(1, abs=1e-6)
    near_zero = np.trapezoid(smooth[grid < 0.5], grid[grid < 0.5])
    assert near_zero == pytest.approx(20 / 36, abs=0.05)


def test_density_with_all_steps_is_the_spectrum():
    f, _ = quadratic([1.0, 2.0, 4.0, 4.0])
    density = curvature.spectral_density(f, tg.tensor(np.zeros(4)), probes=3, steps=10, rng=np.random.default_rng(0))
    masses = density.values[density.weights > 1e-12]
    assert np.all(np.min(np.abs(masses[:, None] - np.array([1.0, 2.0, 4.0])), axis=1) < 1e-9)


def test_trace_and_diagonal_are_within_their_errors():
    f, net = network()
    h, rng = exact_hessian(f, net), np.random.default_rng(0)
    estimate = curvature.trace(f, net, samples=15, rng=rng)
    assert 0 < estimate.error < 10 and abs(estimate.value - np.trace(h)) < 5 * estimate.error
    found = curvature.diagonal(f, net, samples=15, rng=rng)
    assert list(found.value) == [name for name, _ in net.named_parameters()]
    diagonal, errors = (np.concatenate([t.data.reshape(-1) for t in part.values()]) for part in (found.value, found.error))
    assert np.mean(np.abs(diagonal - np.diag(h)) <= 3 * errors + 1e-12) > 0.8
    spread = np.sqrt(((h - np.diag(np.diag(h))) ** 2).sum(1) / 15)  # what the errors should be
    assert 0.5 < np.mean(errors) / np.mean(spread) < 2


def test_trace_and_diagonal_are_exact_when_samples_suffice():
    f, net = network()
    h = exact_hessian(f, net)
    estimate = curvature.trace(f, net, samples=100)
    assert estimate.value == pytest.approx(np.trace(h), rel=1e-12) and estimate.error == 0
    found = curvature.diagonal(f, net, samples=100)
    np.testing.assert_allclose(np.concatenate([t.data.reshape(-1) for t in found.value.values()]), np.diag(h), atol=1e-14)
    assert not any(t.data.any() for t in found.error.values())


POINTS = {
    "minimum": (lambda x: (x[0] - 1) ** 2 + 3 * (x[1] ** 2), [1.0, 0.0]),
    "maximum": (lambda x: tg.cos(x[0]) - x[1] ** 2, [0.0, 0.0]),
    "saddle": (lambda x: x[0] ** 2 - 1e-3 * x[1] ** 2, [0.0, 0.0]),
    "degenerate": (lambda x: x[0] ** 2 + x[1] ** 4, [0.0, 0.0]),
    "not critical": (lambda x: x[0] ** 2 + x[1], [0.0, 0.0]),
}


@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_kind_of_a_point_whatever_the_unit(kind, scale):
    f, x = POINTS[kind]
    x = tg.tensor(np.array(x))
    found = curvature.critical_point(lambda x: scale * f(x), x, rng=np.random.default_rng(0))
    assert found.kind == kind
    exact = scale * tg.hessian(f)(x).data
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(exact), atol=1e-9 * scale)
    assert found.grad_norm == pytest.approx(scale * float(np.linalg.norm(tg.grad(f)(x).data)))


def test_a_constant_is_degenerate_and_a_plane_is_not_critical():
    x = tg.tensor(np.ones(3))
    assert curvature.critical_point(lambda x: (0 * x).sum(), x).kind == "degenerate"
    assert curvature.critical_point(lambda x: x.sum(), x).kind == "not critical"


def test_the_classic_saddle_of_a_linear_network():
    """w2 w1 x at 0: every path through it is flat, but the Hessian has both signs (Baldi and Hornik 1989)."""
    x = np.random.default_rng(0).standard_normal((20, 2))
    y = tg.tensor(x @ np.array([[1.0], [-2.0]]))
    f = lambda p: tg.mse_loss(tg.tensor(x) @ p["w1"] @ p["w2"], y)
    zero = {"w1": tg.zeros((2, 2), dtype=np.float64), "w2": tg.zeros((2, 1), dtype=np.float64)}
    assert curvature.critical_point(f, zero).kind == "saddle"


def test_sensitivity_of_a_linear_map_is_its_matrix():
    a = np.random.default_rng(0).standard_normal((4, 3))
    found = curvature.sensitivity(lambda x: tg.tensor(a) @ x, tg.tensor(np.zeros(3)))
    np.testing.assert_allclose(found.inputs.data, np.linalg.norm(a, axis=0))
    np.testing.assert_allclose(found.outputs.data, np.linalg.norm(a, axis=1))
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(a, compute_uv=False))


def test_sensitivity_of_trees_in_and_out():
    p = {"a": tg.tensor(np.array([[1.0, 2.0]])), "b": tg.tensor(np.array(3.0))}
    found = curvature.sensitivity(lambda p: {"y": p["a"] * p["b"], "z": (p["b"] ** 2, p["a"].sum())}, p)
    np.testing.assert_allclose(found.inputs["a"].data, [[math.hypot(3, 1)] * 2])
    np.testing.assert_allclose(found.inputs["b"].data, np.sqrt(1 + 4 + 36))
    np.testing.assert_allclose(found.outputs["y"].data, [[math.hypot(3, 1), math.hypot(3, 2)]])
    np.testing.assert_allclose([t.data for t in found.outputs["z"]], [6, math.sqrt(2)])
    matrix = np.array([[3, 0, 1], [0, 3, 2], [0, 0, 6], [1, 1, 0]])
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(matrix, compute_uv=False))


def test_the_same_generator_gives_the_same_numbers():
    f, net = network()
    for function in (curvature.trace, curvature.spectral_density, curvature.eigenvalues):
        kwargs = {"samples": 3} if function is curvature.trace else {}
        a, b = (function(f, net, rng=np.random.default_rng(5), **kwargs) for _ in range(2))
        np.testing.assert_equal(vars(a) if hasattr(a, "__dict__") else a, vars(b) if hasattr(b, "__dict__") else b)


def test_the_view_as_one_vector_is_the_function():
    f, net = network()
    flat = Flat(f, net)
    rng = np.random.default_rng(0)
    x, v = flat.start + 0.1 * rng.standard_normal(flat.size), rng.standard_normal(flat.size)
    value, g = flat.value_and_gradient(x)
    assert value == flat.value(x)
    step = 1e-6
    assert g @ v == pytest.approx((flat.value(x + step * v) - flat.value(x - step * v)) / (2 * step), rel=1e-7)
    gradient, hessian = flat.gradient_and_hessian(x)
    np.testing.assert_array_equal(gradient, g)
    differences = (flat.value_and_gradient(x + step * v)[1] - flat.value_and_gradient(x - step * v)[1]) / (2 * step)
    np.testing.assert_allclose(hessian(v), differences, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(flat.jacobian(x), g[None])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x: curvature.eigenvalues(f, x, 0), ValueError, "k >= 1"),
        (lambda f, x: curvature.eigenvalues(f, x, which="middle"), ValueError, "which must be"),
        (lambda f, x: curvature.trace(f, x, samples=1), ValueError, "samples must be >= 2"),
        (lambda f, x: curvature.spectral_density(f, x, steps=0), ValueError, "must be >= 1"),
        (lambda f, x: curvature.critical_point(f, x, tol=math.nan), ValueError, "tol must be"),
        (lambda f, x: curvature.eigenvalues(f, {}), TypeError, "floating-point"),
        (lambda f, x: curvature.eigenvalues(f, tg.tensor([1, 2])), TypeError, "floating-point"),
        (lambda f, x: curvature.eigenvalues(lambda x: x, x), TypeError, "one floating-point number"),
        (lambda f, x: curvature.eigenvalues(lambda x: (x * np.nan).sum() * x.sum(), x), ValueError, "not finite"),
    ],
)
def test_faults_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda x: (x * x).sum(), tg.tensor(np.ones(3)))
