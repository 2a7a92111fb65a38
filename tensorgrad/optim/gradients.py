"""Between the backward pass and the step: which parameters decay, and gradients kept from growing too large."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import kernels
from ..graph import Tensor
from ..nn import Module
from .sharing import own_arrays, unshared


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
    `Optimizer.clipped_step` is faster where they are needed for the step only.
    """
    parameters = {id(p): p for p in params if p.grad is not None}.values()
    norm, factor = clipping(parameters, max_norm)
    if factor != 1:
        alone = unshared(parameters, "grad")
        grads = [p.grad if yes else Tensor(p.grad.data) for p, yes in zip(parameters, alone, strict=True) if p.grad is not None]
        arrays = own_arrays(grads)
        kernels.adamw.multiply(arrays, factor)
        for p, array in zip(parameters, arrays, strict=True):
            p.grad = Tensor(array)
    return norm


def clipping(params: Iterable[Tensor], max_norm: float) -> tuple[float, float]:
    """The norm of the gradients together, and the factor that brings it down to max_norm; 1 if it is inf or nan."""
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be a number >= 0, got {max_norm}")
    norm = _norm([p.grad._array for p in params if p.grad is not None])
    return norm, max_norm / norm if max_norm < norm < math.inf else 1.0


def _norm(arrays: list[np.ndarray]) -> float:
    norm = math.sqrt(kernels.adamw.sum_of_squares(arrays))
    largest = max(float(np.max(np.abs(a), initial=0.0)) for a in arrays) if norm == math.inf else math.inf
    if largest == math.inf:
        return norm
    return largest * math.sqrt(sum(float(np.sum((a / largest) ** 2, dtype=np.float64)) for a in arrays))
