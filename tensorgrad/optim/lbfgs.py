"""L-BFGS with a strong Wolfe line search (Nocedal and Wright 2006, algorithms 7.5, 3.5 and 3.6)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..flat import Flat, Vector
from .result import Result, check

ARMIJO, CURVATURE = 1e-4, 0.9  # how much of the promised decrease is asked for, and how much of the slope may be left


class _Trial(NamedTuple):
    """A point on the line: how far, the value, the slope, the gradient."""

    t: float
    value: float
    slope: float
    g: Vector


def lbfgs(f: Callable, x0: Any, tol: float = 1e-8, max_iterations: int = 200, history: int = 10) -> Result:
    """Minimise the scalar f from the tree x0, with the curvature of the last `history` steps (Liu and Nocedal 1989).

    Ends at the tolerance, at the limit, or where no step lowers f, because rounding hides it or f is not smooth.
    """
    check(tol, max_iterations)
    if not history >= 1:
        raise ValueError(f"history must be >= 1, got {history}")
    flat = Flat(f, x0)
    x = flat.start
    value, g = flat.value_and_gradient(x)
    pairs: deque[tuple[Vector, Vector]] = deque(maxlen=history)
    iterations = 0
    while np.linalg.norm(g) > tol and iterations < max_iterations:
        iterations += 1
        direction = -_inverse_hessian(pairs, g)
        first = 1.0 if pairs else min(1.0, 1 / float(np.linalg.norm(g)))
        trial = _search(flat, x, _Trial(0.0, value, float(g @ direction), g), direction, first)
        if trial is None:
            if not pairs:
                break
            pairs.clear()  # the memory may mislead: try steepest descent
            continue
        step, change = trial.t * direction, trial.g - g
        x, value, g = x + step, trial.value, trial.g
        if step @ change > flat.eps * np.linalg.norm(step) * np.linalg.norm(change):
            pairs.append((step, change))
    norm = float(np.linalg.norm(g))
    return Result(flat.parts(x), value, norm, iterations, norm <= tol)


def _inverse_hessian(pairs: deque[tuple[Vector, Vector]], g: Vector) -> Vector:
    """H g, H being the inverse Hessian that (step, change of gradient) pairs suggest: the two-loop recursion."""
    q, weights = g, []
    for s, y in reversed(pairs):
        weights.append((s @ q) / (s @ y))
        q = q - weights[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = q * ((s @ y) / (y @ y))
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        q = q + (weight - (y @ q) / (s @ y)) * s
    return q


def _search(flat: Flat, x: Vector, start: _Trial, direction: Vector, t: float) -> _Trial | None:
    """A step with enough decrease and little slope left, or None if 40 trials find none."""
    noise = 10 * flat.eps * abs(start.value)

    def trial(t: float) -> _Trial:
        value, g = flat.value_and_gradient(x + t * direction)
        return _Trial(t, value if math.isfinite(value) else math.inf, float(g @ direction), g)

    def too_high(p: _Trial) -> bool:
        return not p.value <= start.value + ARMIJO * p.t * start.slope + noise

    low, high = start, None  # low: the best so far with enough decrease; a good step is between low and high
    for _ in range(40):
        p = trial(t)
        if too_high(p) or (low is not start and p.value >= low.value + noise):
            high = p
        elif abs(p.slope) <= -CURVATURE * start.slope:
            return p
        else:
            if p.slope * ((high.t if high else math.inf) - low.t) >= 0:
                high = low
            low = p
        t = 2 * p.t if high is None else _between(low, high)
        if high is not None and abs(high.t - low.t) * np.max(np.abs(direction)) <= flat.eps * np.max(np.abs(x)):
            return low if low is not start else None
    return low if low is not start else None


def _between(a: _Trial, b: _Trial) -> float:
    """The minimum of the cubic through both values and slopes, kept away from the ends (N&W eq. 3.59)."""
    width = b.t - a.t
    t = math.nan
    if math.isfinite(b.value) and math.isfinite(b.slope):
        d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
        square = d1 * d1 - a.slope * b.slope
        if square >= 0:
            d2 = math.copysign(math.sqrt(square), width)
            denominator = b.slope - a.slope + 2 * d2
            t = b.t - width * (b.slope + d2 - d1) / denominator if denominator else math.nan
    inside = sorted((a.t + 0.1 * width, b.t - 0.1 * width))
    return t if inside[0] <= t <= inside[1] else a.t + 0.5 * width
