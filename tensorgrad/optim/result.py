"""What a minimisation returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """Where a minimisation ended: `x` is like the starting point, but a dict by parameter name for a Module.

    `converged` says that grad_norm, the Euclidean norm of the gradient, is at most the tolerance asked for.
    """

    x: Any
    value: float
    grad_norm: float
    iterations: int
    converged: bool


def check(tol: float, max_iterations: int) -> None:
    """Raise ValueError for a tolerance or a limit that makes no sense."""
    if not tol >= 0:
        raise ValueError(f"tol must be a number >= 0, got {tol}")
    if not max_iterations >= 0:
        raise ValueError(f"max_iterations must be >= 0, got {max_iterations}")
