"""Between the backward pass and the step: which parameters decay, and gradients kept from growing too large."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import kernels
from ..graph import Tensor
from ..nn import Module


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two named parameter groups: tensors with two or more axes decay; biases and gains do not."""
    named = list(model.named_parameters())
    return [
        {"params": [(name, p) for name, p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [(name, p) for name, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / n), n being the Euclidean norm of them together, which is returned.

    (Pascanu et al. 2013, algorithm 1.)  n does not overflow; if it is inf or nan, the gradients stay as they are.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be a number >= 0, got {max_norm}")
    parameters = [p for p in params if p.grad is not None]
    norm = _norm([p.grad._array for p in parameters if p.grad is not None])
    if max_norm < norm < math.inf:
        for p in parameters:
            assert p.grad is not None
            p.grad = Tensor(p.grad._array * p.grad.dtype.type(max_norm / norm))
    return norm


def _norm(arrays: list[np.ndarray]) -> float:
    norm = math.sqrt(sum(kernels.adamw.sum_of_squares(np.ascontiguousarray(a)) for a in arrays))
    largest = max(float(np.max(np.abs(a), initial=0.0)) for a in arrays) if norm == math.inf else math.inf
    if largest == math.inf:
        return norm
    return largest * math.sqrt(sum(float(np.sum((a / largest) ** 2, dtype=np.float64)) for a in arrays))
