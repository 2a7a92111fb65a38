"""Least squares: minimise |r(x)|^2 / 2 by Levenberg's and Marquardt's damped Gauss-Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..flat import Flat
from .result import Result, check


def levenberg_marquardt(residuals: Callable, x0: Any, tol: float = 1e-8, max_iterations: int = 100) -> Result:
    """Minimise |r(x)|^2 / 2 from the tree x0; `residuals` returns a Tensor or a tree of them (Marquardt 1963).

    Each step solves min |J s + r|^2 + damping |D s|^2 with the whole Jacobian J, D its column norms, so the unit of
    each entry of x does not matter; the damping follows the gain (Nielsen 1999, section 2).
    """
    check(tol, max_iterations)
    flat = Flat(residuals, x0)
    x = flat.start
    r, j = flat.outputs(x), flat.jacobian(x)
    scale, damping, factor, iterations = np.zeros(flat.size), 1e-3, 2.0, 0
    while np.linalg.norm(j.T @ r) > tol and iterations < max_iterations:
        iterations += 1
        scale = np.maximum(scale, np.linalg.norm(j, axis=0))
        weights = np.sqrt(damping) * np.where(scale > 0, scale, 1.0)
        step = np.linalg.lstsq(np.vstack([j, np.diag(weights)]), np.concatenate([-r, np.zeros(flat.size)]), rcond=None)[0]
        if np.linalg.norm(step) <= flat.eps * np.linalg.norm(x):
            break
        new = flat.outputs(x + step)
        promised = np.sum((j @ step) ** 2) + 2 * np.sum((weights * step) ** 2)
        gain = (r @ r - new @ new) / promised
        if gain > 0:
            x, r, j = x + step, new, flat.jacobian(x + step)
            damping, factor = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
        else:
            damping, factor = damping * factor, factor * 2
    norm = float(np.linalg.norm(j.T @ r))
    return Result(flat.parts(x), float(r @ r) / 2, norm, iterations, norm <= tol)
