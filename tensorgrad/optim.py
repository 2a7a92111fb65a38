"""First-order optimizers, gradient clipping and learning-rate schedules.

`params` is a list of Parameters, or of groups {"params": [..], "lr": .., ..} whose settings override the defaults, as in PyTorch.
Steps are taken outside the graph: a parameter's values are replaced, and results recorded before cannot be differentiated after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import kernels
from .graph import Tensor
from .nn import Module

Params = Iterable[Any]


def _not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0, got {value}")


def _fractions(name: str, values: Sequence[float]) -> None:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


class Optimizer:
    """Holds parameter groups and each parameter's state; a subclass defines `update`.

    state_dict() numbers the parameters in the order of the groups, as PyTorch does.
    """

    def __init__(self, params: Params, **defaults: Any):
        groups = list(params)
        if not groups:
            raise ValueError("an optimizer needs at least one parameter")
        if not isinstance(groups[0], dict):
            groups = [{"params": [p[1] if isinstance(p, tuple) else p for p in groups]}]
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[int, dict[str, Any]] = {}
        seen: set[int] = set()
        for p in self.parameters():
            if not isinstance(p, Tensor):
                raise TypeError(f"an optimizer needs Parameters, got {type(p).__name__}")
            if id(p) in seen:
                raise ValueError(f"parameter {p.name} of shape {p.shape} was given twice")
            seen.add(id(p))

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters():
            p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    values = np.array(p._array, order="C")
                    self.update(values, np.ascontiguousarray(p.grad._array), self.state.setdefault(id(p), {}), group)
                    p._array = values
                    p.changed()

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change the values `p` in place by the gradient `g`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: state}, "param_groups": [settings and numbers]}, arrays copied."""
        number = {id(p): i for i, p in enumerate(self.parameters())}
        state = {number[key]: {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in s.items()} for key, s in self.state.items()}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state_dict().  Raises ValueError if the groups or the shapes do not match; nothing is changed then."""
        sizes = [len(g["params"]) for g in self.param_groups]
        given = [len(g["params"]) for g in saved["param_groups"]]
        if sizes != given:
            raise ValueError(f"the saved optimizer has parameter groups of sizes {given}, this one {sizes}")
        parameters = self.parameters()
        state = {}
        for i, s in saved["state"].items():
            p = parameters[int(i)]
            for name, value in s.items():
                if isinstance(value, np.ndarray) and value.shape != p.shape:
                    raise ValueError(f"the saved {name} of parameter {i} has shape {value.shape}, expected {p.shape}")
            state[id(p)] = {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in s.items()}
        self.state = state
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update({k: v for k, v in other.items() if k != "params"})


class SGD(Optimizer):
    """p <- p - lr u, with u = g + decay p; with momentum m, b <- m b + u and u = b (Polyak 1964), or u + m b (Nesterov 1983)."""

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False):
        _not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ValueError("nesterov needs momentum > 0")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        u = g + group["weight_decay"] * p if group["weight_decay"] else g
        if group["momentum"]:
            b = state["momentum_buffer"] = group["momentum"] * state["momentum_buffer"] + u if state else u.copy()
            u = u + group["momentum"] * b if group["nesterov"] else b
        p -= group["lr"] * u


class AdamW(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p (1 - lr decay) - lr m^ / (sqrt v^ + eps), m^ and v^ being m and v
    over 1 - b^t  (Loshchilov and Hutter 2019, algorithm 2)."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        _not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        _fractions("betas", betas)
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        state["step"] += 1
        flat = [a.reshape(-1) for a in (p, g, state["exp_avg"], state["exp_avg_sq"])]
        beta1, beta2 = group["betas"]
        kernels.adamw.step(
            *flat, lr=group["lr"], beta1=beta1, beta2=beta2, eps=group["eps"], weight_decay=group["weight_decay"], step=state["step"]
        )


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: tensors with two or more axes decay; biases and gains do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / n), n being the Euclidean norm of them together, which is returned.

    (Pascanu et al. 2013, algorithm 1.)  The norm is accumulated in float64, so that it does not overflow.
    """
    _not_negative(max_norm=max_norm)
    parameters = [p for p in params if p.grad is not None]
    norm = math.sqrt(math.fsum(kernels.adamw.sum_of_squares(np.ascontiguousarray(p.grad._array)) for p in parameters))
    if norm > max_norm:
        for p in parameters:
            p.grad = Tensor(p.grad._array * p.dtype.type(max_norm / norm))
    return norm


def warmup_cosine(step: int, lr: float, min_lr: float, warmup_steps: int, max_steps: int) -> float:
    """The learning rate at `step` = 0, 1, ..: linear from lr / warmup_steps to lr, then half a cosine down to min_lr at max_steps.

    (Loshchilov and Hutter 2017, eq. 5.)
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if step >= max_steps:
        return min_lr
    progress = (step - warmup_steps) / (max_steps - warmup_steps)
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
