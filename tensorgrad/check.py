"""Is this derivative right?  Every rule against central differences, its two modes against each other, and Taylor's remainders.

All checks compute in float64 and compare numbers: `check_grads` with (f(x + h) - f(x - h)) / 2h, `check_adjoint` with the
identity <g, J t> = <J^T g, t>, which needs no step, `taylor_test` with the rate at which Taylor's remainders shrink, and
`check_hvp` the two routes to H v.  A failure is a GradientError that says which op, argument and entry, and both numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .autodiff import linearize, variable, vjp
from .graph import Tensor, setting
from .graph import order as recorded
from .problem import MODES, GradientError, Problem, joined, place, problem_of, split

STEP = 6.06e-6  # the cube root of float64's rounding, where truncation and rounding of a central difference are alike


@dataclass(frozen=True)
class _Limits:
    """What counts as equal, and the size of Jacobian up to which every entry is looked at."""

    rtol: float = 1e-6
    atol: float = 1e-8
    entries: int = 400

    def differ(self, a: Any, b: Any) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return ~(np.abs(a - b) <= self.atol + self.rtol * np.maximum(np.abs(a), np.abs(b)))


@dataclass(frozen=True)
class _Line:
    """A direction to move in, or a combination of outputs to look at: a vector, its name, and how far to go along it."""

    name: str
    vector: np.ndarray
    step: float
    entry: int | None = None  # the one place where the vector is 1, if it is 0 elsewhere

    def of(self, v: np.ndarray) -> float:
        """<vector, v>, in which other entries, be they nan, play no part if only one is asked for."""
        return float(v[self.entry] if self.entry is not None else self.vector @ v)


def check_grads(
    f: Callable,
    args: Any,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    entries: int = 400,
    seed: int = 0,
) -> None:
    """Raise GradientError unless the derivatives of f(*args), of all orders up to `order`, are those of central differences.

    Each order is taken in every combination of `modes`, with respect to the arguments and to the tangents and cotangents of the
    orders below.  Step 6.06e-6 max(1, |x|); numbers a, n are equal if |a - n| <= atol + rtol max(|a|, |n|).  Jacobians of more
    than `entries` entries are sampled: two Gaussian projections and eight single entries each way.  With both modes, the
    adjoint identity holds to 1e-12.  Arguments may be nested; float32 becomes float64.  Raises ValueError if nothing floats.
    """
    if order < 1 or not modes or not set(modes) <= set(MODES):
        raise ValueError(f"check_grads: expected order >= 1 and modes among {tuple(MODES)}, got order {order}, modes {modes!r}")
    problem, limits = problem_of(f, args, "check_grads"), _Limits(rtol, atol, entries)
    try:
        _check(problem, order, modes, limits, np.random.default_rng(seed))
    except GradientError as error:
        raise GradientError(f"{error}\n{_culprit(problem, order, modes, limits, seed)}") from None


def _check(problem: Problem, order: int, modes: Sequence[str], limits: _Limits, rng: np.random.Generator) -> None:
    _compare(problem, modes, limits, rng)
    if len(modes) > 1:
        _adjoint(problem, rng)
    if order > 1:
        for mode in modes:
            _check(problem.derivative(mode, rng), order - 1, modes, limits, rng)


def _compare(problem: Problem, modes: Sequence[str], limits: _Limits, rng: np.random.Generator) -> None:
    full = problem.x.size * problem.y.size <= limits.entries
    ways = list(_lines(problem.xs, problem.names, full, rng))
    views = list(_lines(problem.ys, "output", full or problem.y.size <= 10, rng))
    pulled = [problem.pull(view.vector) for view in views] if "rev" in modes else []
    for way in ways:
        numeric = _central(problem, way)
        if "fwd" in modes:
            moved = problem.push(way.vector)
            wrong = limits.differ(moved, numeric)
            if wrong.any():
                view = _single(problem.ys, "output", int(np.argmax(wrong)))
                _fail(problem, "fwd", way, view, view.of(moved), view.of(numeric))
        for view, gradient in zip(views, pulled, strict=bool(pulled)):
            a, n = way.of(gradient), view.of(numeric)
            if limits.differ(a, n):
                _fail(problem, "rev", way, view, a, n)


def _lines(tensors: Sequence[Tensor], names: str | Sequence[str], full: bool, rng: np.random.Generator) -> Iterator[_Line]:
    """Every entry by itself; or eight of them, after two random directions of length 1."""
    values = joined(tensors)
    if not full:
        for i in range(2):
            yield _Line(f"random direction {i}", _unit(rng, values.size), STEP * max(1.0, float(np.abs(values).max())))
    for i in range(values.size) if full else np.sort(rng.choice(values.size, min(8, values.size), replace=False)):
        yield _single(tensors, names, int(i), STEP * max(1.0, abs(values[i])))


def _single(tensors: Sequence[Tensor], names: str | Sequence[str], i: int, step: float = STEP) -> _Line:
    v = np.zeros(sum(t.size for t in tensors))
    v[i] = 1.0
    return _Line(place(tensors, names, i), v, step, i)


def _central(problem: Problem, way: _Line) -> np.ndarray:
    with np.errstate(all="ignore"):
        move = way.step * way.vector
        return (problem.value(problem.x + move) - problem.value(problem.x - move)) / (2 * way.step)


def _fail(problem: Problem, mode: str, way: _Line, view: _Line, a: float, n: float) -> NoReturn:
    relative = abs(a - n) / max(abs(a), abs(n)) if np.isfinite(n) else math.nan
    raise GradientError(
        f"wrong derivative of {problem.name}, order {problem.order}, {problem.mode(mode)}\n"
        f"  of {view.name}\n  with respect to {way.name}\n"
        f"  returned {float(a)!r}, central difference {float(n)!r}, relative difference {relative:.1e}"
        f"{_kink(problem, way, view, a)}"
    )


def _kink(problem: Problem, way: _Line, view: _Line, a: float) -> str:
    """What one-sided differences say: a smooth function's disagree by h f'', those at a kink by as much for every h."""

    def slopes(h: float) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            left, right = ((problem.value(problem.x + s * way.vector) - problem.y) / s for s in (-h, h))
        return (view.of(left) + 0.0, view.of(right) + 0.0) if np.isfinite(left + right).all() else (math.nan, math.nan)

    left, right = slopes(way.step)
    near_left, near_right = slopes(way.step / 8)
    gap, near = right - left, near_right - near_left
    if not math.isfinite(gap):
        return f"\n  the function is not finite within {way.step:.1e} of this point: it lies at the edge of the domain"
    if abs(gap) <= 1e-4 * max(1.0, abs(left), abs(right)) or 6 * abs(near) < abs(gap) < 10 * abs(near):
        return ""
    if abs(near) > 4 * abs(gap):
        return f"\n  the function jumps here, by about {(left + right) * way.step:.3g}: it has no derivative at this point"
    between = "a value between them" if min(left, right) <= a <= max(left, right) else "a value outside of them"
    return (
        f"\n  the function has a kink here: its slope is {left:.6g} on one side and {right:.6g} on the other, and {between} was "
        "returned; check at another point"
    )


def _culprit(problem: Problem, order: int, modes: Sequence[str], limits: _Limits, seed: int) -> str:
    """Which of the ops that the function is made of fails when it is checked by itself."""
    with setting(recording=True):
        nodes = [t for t in recorded(problem.f(*[variable(x) for x in problem.xs])) if t.op is not None and t.op.name != "alias"]
    for number, t in enumerate(nodes):
        alone = _alone(t)
        if alone is not None:
            try:
                _check(alone, order, modes, limits, np.random.default_rng(seed))
            except GradientError as error:
                where = f"  this is op {number + 1} of {len(nodes)} that were recorded"
                return where if len(nodes) == 1 else f"{where}; by itself:\n{error}"
    return f"  each of the {len(nodes)} ops is right by itself: look for a value taken out of the graph by .data or stop_gradient"


def _alone(t: Tensor) -> Problem | None:
    """The op that made `t` as a problem of its own, or None if it cannot be repeated."""
    op, params, constants = t.op, t.params, list(t.inputs)
    assert op is not None
    moving = [i for i, x in enumerate(constants) if x.dtype == np.float64]

    def call(*xs: Tensor) -> list[Tensor]:
        inputs = list(constants)
        for i, x in zip(moving, xs, strict=True):
            inputs[i] = x
        return [op(*inputs, **params)]

    xs = [Tensor(constants[i]._array) for i in moving]
    try:
        problem = Problem(call, op.name, xs, [f"input {i}" for i in moving])
    except ValueError:
        return None
    return problem if problem.ys[0].shape == t.shape and np.array_equal(problem.y, t._array.reshape(-1)) else None


def check_adjoint(f: Callable, args: Any, *, seed: int = 0) -> None:
    """Raise GradientError unless <g, J t> by forward mode is <J^T g, t> by reverse mode, to 1e-12, for random g and t."""
    _adjoint(problem_of(f, args, "check_adjoint"), np.random.default_rng(seed))


def _adjoint(problem: Problem, rng: np.random.Generator) -> None:
    g, t = rng.standard_normal(problem.y.size), rng.standard_normal(problem.x.size)
    forward, reverse = g * problem.push(t), problem.pull(g) * t
    a, b = forward.sum(), reverse.sum()
    if not abs(a - b) <= 1e-12 * max(1.0, np.abs(forward).sum() + np.abs(reverse).sum()):
        raise GradientError(
            f"the two modes disagree about {problem.name}, order {problem.order}: <g, J t> is {float(a)!r} by "
            f"{problem.mode('fwd')}, <J^T g, t> is {float(b)!r} by {problem.mode('rev')}"
        )


def taylor_test(f: Callable, args: Any, order: int = 2, *, seed: int = 0) -> tuple[float, ...]:
    """The rates at which f's Taylor remainders shrink with the step h: at least 2 with the gradient, 3 with the Hessian.

    |f(x + h d) - f(x) - h f'd| = O(h^2) and |f(x + h d) - f(x) - h f'd - h^2/2 d'H d| = O(h^3) for a random direction d, f'
    by reverse mode and H d by forward over reverse; inf for a remainder that is lost in rounding.  Several outputs are
    combined with random weights.  Raises GradientError for a rate more than 0.1 too small.
    """
    if order not in (1, 2):
        raise ValueError(f"taylor_test: order must be 1 or 2, got {order}")
    problem, rng = problem_of(f, args, "taylor_test"), np.random.default_rng(seed)
    g, d = rng.standard_normal(problem.y.size), _unit(rng, problem.x.size)
    terms = [problem.pull(g) @ d, _forward_over_reverse(problem, g, d) @ d / 2][:order]
    steps = max(1.0, float(np.abs(problem.x).max(initial=0))) * 0.02 * 4.0 ** -np.arange(6)
    remainders = np.array([g @ (problem.value(problem.x + h * d) - problem.y) for h in steps])
    floor = 1e-13 * max(1.0, float(np.abs(g * problem.y).sum()))
    rates = []
    for power, (term, what) in enumerate(zip(terms, ("gradient", "Hessian"), strict=False), 1):
        remainders = remainders - term * steps**power
        rates.append(_rate(np.abs(remainders), floor))
        if not rates[-1] >= power + 0.9:
            raise GradientError(
                f"wrong {what} of {problem.name}: with it, Taylor's remainder shrinks like h^{rates[-1]:.2f}, expected "
                f"h^{power + 1}, along a random direction (or the function is not smooth within {steps[0]:.0e} of this point)"
            )
    return tuple(rates)


def _unit(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random direction: a vector of length 1."""
    v = rng.standard_normal(size)
    return v / max(math.sqrt(v @ v), 1e-300)


def _rate(remainders: np.ndarray, floor: float) -> float:
    """The exponent between the two smallest steps, each 1/4 of the last, whose remainders are clear of rounding, or inf."""
    clear = [float(r) for r in remainders if not r <= floor]
    return math.log(clear[-2] / clear[-1], 4) if len(clear) > 1 else math.inf


def check_hvp(f: Callable, args: Any, *, seed: int = 0) -> None:
    """Raise GradientError unless Hessian-vector products of the scalar f(*args) are right, along random directions u and v.

    H v by forward over reverse is that by reverse over reverse to 1e-10 and the central difference of gradients to 1e-6,
    relative to its length, and u'H v = v'H u to 1e-10.
    """
    problem, rng = problem_of(f, args, "check_hvp"), np.random.default_rng(seed)
    if problem.y.size != 1:
        raise ValueError(f"check_hvp: {problem.name} returned {problem.y.size} numbers, expected one")
    u, v = _unit(rng, problem.x.size), _unit(rng, problem.x.size)
    one, h = np.ones(1), STEP * max(1.0, float(np.abs(problem.x).max(initial=0)))
    gradient = _gradient(problem, one)
    product = _forward_over_reverse(problem, one, v)
    again = joined(vjp(gradient, *problem.xs)[1](split(v, problem.xs)))
    numeric = np.subtract(*[joined(gradient(*split(problem.x + s * v, problem.xs))) for s in (h, -h)]) / (2 * h)
    other = _forward_over_reverse(problem, one, u)
    for what, a, b, limit in (
        ("H v by forward over reverse and by reverse over reverse", product, again, 1e-10),
        ("H v and the central difference of gradients", product, numeric, 1e-6),
        ("u'H v and v'H u", np.array([u @ product]), np.array([v @ other]), 1e-10),
    ):
        scale = max(float(np.linalg.norm(product)), float(np.linalg.norm(other)), 1e-8)
        if not np.linalg.norm(a - b) <= limit * scale:
            i = int(np.argmax(np.abs(a - b)))
            raise GradientError(f"{what} of {problem.name} differ: {float(a[i])!r} and {float(b[i])!r}, where they differ most")


def _gradient(problem: Problem, g: np.ndarray) -> Callable[..., list[Tensor]]:
    return lambda *xs: list(vjp(problem.f, *xs)[1](split(g, problem.ys)))


def _forward_over_reverse(problem: Problem, g: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The derivative along d of the gradient of <g, y>."""
    return joined(linearize(_gradient(problem, g), *problem.xs)[1](*split(d, problem.xs)))
