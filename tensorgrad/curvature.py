"""Curvature for people: the spectrum of a Hessian without the Hessian, the kind of a critical point, sensitivities.

Functions take a scalar f of one tree x (a Tensor, nested containers, a Module) and multiply by its Hessian H at x.
Cost is counted in products H v, each a few gradients; `lanczos.py` has the iteration.  Randomness is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .flat import Flat, Vector
from .graph import setting
from .lanczos import Lanczos, ends

Rng = np.random.Generator | None
Kind = Literal["minimum", "maximum", "saddle", "degenerate", "not critical"]


def eigenvalues(
    f: Callable,
    x: Any,
    k: int = 1,
    which: Literal["both", "largest", "smallest"] = "both",
    tol: float = 1e-8,
    max_products: int = 1000,
    rng: Rng = None,
) -> np.ndarray:
    """The k largest, the k smallest, or k of both eigenvalues of H, ascending; all if there are no more.

    Repeated ones are repeated; errors are below `tol` times the largest |eigenvalue|, or the rounding of H v.
    Raises RuntimeError if `max_products` are not enough.
    """
    if which not in ("both", "largest", "smallest"):
        raise ValueError(f"which must be 'both', 'largest' or 'smallest', got {which!r}")
    if not k >= 1 or not tol > 0:
        raise ValueError(f"eigenvalues needs k >= 1 and tol > 0, got {k} and {tol}")
    flat = Flat(f, x)
    _, hessian = flat.gradient_and_hessian(flat.start)
    low, high = k * (which != "largest"), k * (which != "smallest")
    return ends(hessian, flat.size, low, high, max(tol, 10 * flat.eps), max_products, _generator(rng))


def _generator(rng: Rng) -> np.random.Generator:
    return np.random.default_rng() if rng is None else rng


@dataclass(frozen=True)
class Density:
    """A spectrum as point masses: eigenvalue `values` with `weights` that sum to 1."""

    values: np.ndarray
    weights: np.ndarray

    def smooth(self, grid: Any, width: float) -> np.ndarray:
        """The density at the points of `grid`, each mass spread to a normal one of standard deviation `width`."""
        z = (np.asarray(grid, np.float64)[..., None] - self.values) / width
        return np.exp(-0.5 * z * z) @ self.weights / (width * math.sqrt(2 * math.pi))


def spectral_density(f: Callable, x: Any, probes: int = 10, steps: int = 50, rng: Rng = None) -> Density:
    """The distribution of the eigenvalues of H, by stochastic Lanczos quadrature (Ubaru et al. 2017, section 3).

    Each of `probes` random vectors costs `steps` products, and integrates polynomials up to degree 2 steps - 1 exactly
    under its own spectral measure, whose expectation is the density.
    """
    if not probes >= 1 or not steps >= 1:
        raise ValueError(f"probes and steps must be >= 1, got {probes} and {steps}")
    flat, rng = Flat(f, x), _generator(rng)
    _, hessian = flat.gradient_and_hessian(flat.start)
    values, weights = [], []
    for _ in range(probes):
        space = Lanczos(hessian, np.empty((0, flat.size)), rng)
        while space.size < min(steps, flat.size) and not space.closed:
            space.advance()
        nodes, vectors = space.ritz()
        values.append(nodes)
        weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(values))
    return Density(np.concatenate(values)[order], np.concatenate(weights)[order])


@dataclass(frozen=True)
class Estimate:
    """A value, or a tree of values, and the standard error of each."""

    value: Any
    error: Any


def trace(f: Callable, x: Any, samples: int = 100, rng: Rng = None) -> Estimate:
    """The trace of H, the mean of z H z over random signs z (Hutchinson 1990); exact when `samples` reach x's size."""
    flat = Flat(f, x)
    products = list(_probed(flat, samples, rng))
    if samples >= flat.size:
        return Estimate(float(sum(p.sum() for p in products)), 0.0)
    sums = np.array([p.sum() for p in products])
    return Estimate(float(sums.mean()), float(sums.std(ddof=1) / math.sqrt(samples)))


def diagonal(f: Callable, x: Any, samples: int = 100, rng: Rng = None) -> Estimate:
    """The diagonal of H, a tree like x, the mean of z * H z over random signs z (Bekas et al. 2007, section 2).

    Exact when `samples` reach the size of x.
    """
    flat = Flat(f, x)
    count, mean, squares = 0, np.zeros(flat.size), np.zeros(flat.size)
    for p in _probed(flat, samples, rng):  # Welford's running mean and squares
        count += 1
        change = p - mean
        mean = mean + change / count
        squares = squares + change * (p - mean)
    if samples >= flat.size:
        return Estimate(flat.parts(mean * count), flat.parts(np.zeros(flat.size)))
    return Estimate(flat.parts(mean), flat.parts(np.sqrt(squares / (count - 1) / count)))


def _probed(flat: Flat, samples: int, rng: Rng) -> Iterator[Vector]:
    """z * H z for random signs z; or for all unit vectors, when there are no more of them."""
    if not samples >= 2:
        raise ValueError(f"samples must be >= 2, got {samples}")
    _, hessian = flat.gradient_and_hessian(flat.start)
    rng = _generator(rng)
    for i in range(min(samples, flat.size)):
        z = np.zeros(flat.size)
        if samples >= flat.size:
            z[i] = 1
        else:
            z[:] = rng.choice((-1.0, 1.0), flat.size)
        yield z * hessian(z)


@dataclass(frozen=True)
class CriticalPoint:
    """What a function does at a point: the kind, the norm of the gradient, eigenvalues at both ends of the spectrum."""

    kind: Kind
    grad_norm: float
    eigenvalues: np.ndarray


def critical_point(f: Callable, x: Any, k: int = 1, tol: float | None = None, rng: Rng = None) -> CriticalPoint:
    """Whether x is a minimum, a maximum, a saddle, or degenerate: no sign change, but an eigenvalue that counts as 0.

    Eigenvalues count as 0 below `tol` times the largest |eigenvalue|; x is "not critical" if a gradient step over that
    largest moves it by more than e (1 + |x|).  e, and tol unless given, is the root of the machine epsilon.  `k`
    eigenvalues are shown of each end.
    """
    flat = Flat(f, x)
    root = math.sqrt(flat.eps)
    tol = root if tol is None else tol
    if not 0 < tol < 1:
        raise ValueError(f"tol must be in (0, 1), got {tol}")
    gradient, _ = flat.gradient_and_hessian(flat.start)
    found = eigenvalues(f, x, k, tol=tol / 100, rng=rng)
    norm, largest = float(np.linalg.norm(gradient)), float(np.max(np.abs(found)))
    lowest, highest, zero = found[0], found[-1], tol * largest
    kind: Kind = "degenerate"
    if norm > root * largest * (1 + float(np.linalg.norm(flat.start))):
        kind = "not critical"
    elif lowest > zero:
        kind = "minimum"
    elif highest < -zero:
        kind = "maximum"
    elif lowest < -zero and highest > zero:
        kind = "saddle"
    return CriticalPoint(kind, norm, found)


@dataclass(frozen=True)
class Sensitivity:
    """How far outputs move with inputs: Euclidean norms of the Jacobian's columns (`inputs`, a tree like x) and rows
    (`outputs`, a tree like f(x)), and its singular values, largest first."""

    inputs: Any
    outputs: Any
    singular_values: np.ndarray


def sensitivity(f: Callable, x: Any) -> Sensitivity:
    """The sensitivity of all outputs of f, a Tensor or a tree, to all inputs x, from the whole Jacobian.

    Costs as many passes as there are outputs or inputs, whichever are fewer.
    """
    flat = Flat(f, x)
    with setting(recording=False):
        outputs = f(flat.point(flat.start))
    matrix = flat.jacobian(flat.start)
    rows = Flat(lambda y: y, outputs).parts(np.linalg.norm(matrix, axis=1))
    columns = flat.parts(np.linalg.norm(matrix, axis=0))
    return Sensitivity(columns, rows, np.linalg.svd(matrix, compute_uv=False))
