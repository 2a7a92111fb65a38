"""Newton's method with conjugate gradients inside a trust region, on Hessian-vector products.

(Nocedal and Wright 2006, algorithms 4.1 and 7.2; Steihaug 1983.)  No Hessian is formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..flat import Flat, Product, Vector
from .result import Result, check


def newton_cg(
    f: Callable, x0: Any, tol: float = 1e-8, max_iterations: int = 100, max_products: int = 250, radius: float = 1.0
) -> Result:
    """Minimise the scalar f from the tree x0: each iteration minimises a quadratic model within a trusted radius.

    Where the curvature is negative, the step follows it to the radius.  `max_products` bounds the Hessian-vector
    products of an iteration; `radius` is the first trusted one.  Where the gradient is 0 it stops, be it a minimum or a
    saddle; tg.curvature.critical_point tells which.
    """
    check(tol, max_iterations)
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be a number > 0, got {radius}")
    flat = Flat(f, x0)
    x = flat.start
    value = flat.value(x)
    g, hessian = flat.gradient_and_hessian(x)
    iterations = 0
    while np.linalg.norm(g) > tol and iterations < max_iterations and radius > flat.eps * np.linalg.norm(x):
        iterations += 1
        step, promised = _model_minimum(hessian, g, radius, max_products)
        new = flat.value(x + step)
        noise = 10 * flat.eps * max(abs(value), abs(new))  # differences below this say nothing about the model
        ratio = (value - new + noise) / (promised + noise)
        length = float(np.linalg.norm(step))
        if not ratio >= 0.25:
            radius = 0.25 * length
        elif ratio > 0.75 and length > 0.99 * radius:
            radius *= 2
        if ratio > 1e-4:
            x, value = x + step, new
            g, hessian = flat.gradient_and_hessian(x)
    norm = float(np.linalg.norm(g))
    return Result(flat.parts(x), value, norm, iterations, norm <= tol)


def _model_minimum(hessian: Product, g: Vector, radius: float, max_products: int) -> tuple[Vector, float]:
    """A step p that lowers g p + p H p / 2 within |p| <= radius, and by how much."""
    size = float(np.linalg.norm(g))
    enough = min(0.5, math.sqrt(size)) * size  # superlinear convergence: N&W theorem 7.2
    p, hp, r, d = np.zeros_like(g), np.zeros_like(g), g, -g
    for _ in range(max_products):
        hd = hessian(d)
        curvature = d @ hd
        length = r @ r / curvature if curvature > 0 else 0.0
        if not length or not np.linalg.norm(p + length * d) < radius:
            to_edge = _to_edge(p, d, radius)
            p, hp = p + to_edge * d, hp + to_edge * hd
            break
        p, hp = p + length * d, hp + length * hd
        before, r = r @ r, r + length * hd
        if np.linalg.norm(r) <= enough:
            break
        d = -r + (r @ r / before) * d
    return p, -float(g @ p + 0.5 * (p @ hp))


def _to_edge(p: Vector, d: Vector, radius: float) -> float:
    """The positive t with |p + t d| = radius."""
    a, b, c = d @ d, p @ d, p @ p - radius**2
    return float((-b + math.sqrt(max(b * b - a * c, 0.0))) / a)
