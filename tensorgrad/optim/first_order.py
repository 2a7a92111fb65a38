"""Optimizers that use the gradient.  Arguments, defaults and state are PyTorch's; p are parameters, g gradients."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .. import kernels
from .optimizer import Group, Optimizer, Params, State, fractions, not_negative


class SGD(Optimizer):
    """p <- p - lr u, with u = g + decay p; with momentum m, b <- m b + (1 - dampening) u and u = b, or u + m b.

    (Polyak 1964; Nesterov 1983 as in Sutskever et al. 2013, section 2.)  The first b is u.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        settings = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, lr=lr, **settings)

    def check(self, group: Group) -> None:
        not_negative(group, "lr", "momentum", "dampening", "weight_decay")
        if group["nesterov"] and (not group["momentum"] or group["dampening"]):
            raise ValueError("nesterov needs momentum > 0 and dampening 0")

    def update(self, p: np.ndarray, g: np.ndarray, state: State, group: Group) -> None:
        momentum = group["momentum"]
        u = g + group["weight_decay"] * p if group["weight_decay"] else g
        if momentum:
            if "momentum_buffer" in state:
                b = momentum * state["momentum_buffer"] + (1 - group["dampening"]) * u
            else:
                b = u.copy()
            state["momentum_buffer"] = b
            u = u + momentum * b if group["nesterov"] else b
        p -= group["lr"] * u


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt v + eps)  (Tieleman and Hinton 2012, lecture 6.5).

    Centered, v less the square of the mean gradient (Graves 2013, eq. 38); momentum adds up the steps; decay adds to g.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        settings = {
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(params, lr=lr, **settings)

    def check(self, group: Group) -> None:
        not_negative(group, "lr", "eps", "weight_decay", "momentum")
        fractions("alpha", group["alpha"])

    def update(self, p: np.ndarray, g: np.ndarray, state: State, group: Group) -> None:
        if not state:
            state.update(step=0, square_avg=np.zeros_like(p))
        state["step"] += 1
        alpha = group["alpha"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        v = state["square_avg"] = alpha * state["square_avg"] + (1 - alpha) * g * g
        if group["centered"]:
            mean = alpha * state.get("grad_avg", np.zeros_like(p)) + (1 - alpha) * g
            state["grad_avg"] = mean
            v = v - mean * mean
        u = g / (np.sqrt(v) + group["eps"])
        if group["momentum"]:
            u = state["momentum_buffer"] = group["momentum"] * state.get("momentum_buffer", np.zeros_like(p)) + u
        p -= group["lr"] * u


class Adagrad(Optimizer):
    """s <- s + g^2;  p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt s + eps)  (Duchi et al. 2011); decay adds to g."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        settings = {"lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, lr=lr, initial_accumulator_value=initial_accumulator_value, **settings)

    def check(self, group: Group) -> None:
        not_negative(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def update(self, p: np.ndarray, g: np.ndarray, state: State, group: Group) -> None:
        if not state:
            state.update(step=0, sum=np.full_like(p, group["initial_accumulator_value"]))
        state["step"] += 1
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        state["sum"] += g * g
        p -= group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"]) * g / (np.sqrt(state["sum"]) + group["eps"])


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m^ / (sqrt v^ + eps).

    m^ = m / (1 - b1^t), v^ = v / (1 - b2^t)  (Kingma and Ba 2015, algorithm 1).  Weight decay adds to g.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check(self, group: Group) -> None:
        not_negative(group, "lr", "eps", "weight_decay")
        if len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, got {group['betas']}")
        fractions("betas", *group["betas"])

    def move(self, ps: list[np.ndarray], gs: list[np.ndarray], states: list[State], group: Group, scale: float) -> None:
        if group["weight_decay"]:
            gs = [np.asarray(g * g.dtype.type(scale) + group["weight_decay"] * p) for p, g in zip(ps, gs, strict=True)]
            scale = 1.0
        self._move(ps, gs, states, group, scale, 0.0)

    def _move(
        self, ps: list[np.ndarray], gs: list[np.ndarray], states: list[State], group: Group, scale: float, decay: float
    ) -> None:
        """One launch for all parameters that are alike in dtype and number of steps."""
        launches: dict[tuple[np.dtype, int], list[tuple]] = {}
        for p, g, state in zip(ps, gs, states, strict=True):
            if not state:
                state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
            state["step"] += 1
            launches.setdefault((p.dtype, state["step"]), []).append((p, g, state["exp_avg"], state["exp_avg_sq"]))
        (beta1, beta2), lr, eps = group["betas"], group["lr"], group["eps"]
        rates = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": decay, "scale": scale}
        for (_, step), rows in launches.items():
            kernels.adamw.step(rows, step=step, **rates)


class AdamW(Adam):
    """Adam with p <- p (1 - lr decay) before each step instead of decay in the gradient.

    (Loshchilov and Hutter 2019, algorithm 2.)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def move(self, ps: list[np.ndarray], gs: list[np.ndarray], states: list[State], group: Group, scale: float) -> None:
        self._move(ps, gs, states, group, scale, group["weight_decay"])


class Muon(Optimizer):
    """b <- m b + (1 - m) g;  p <- p (1 - lr decay) - lr s O(u), with u = b, or (1 - m) g + m b; for matrices only.

    O(u), near the orthogonal factor of u, has singular values between about 0.7 and 1.2 (Jordan et al. 2024).
    s = sqrt(max(1, rows/columns)); for adjust_lr_fn="match_rms_adamw", 0.2 sqrt(max(rows, columns)) (Liu et al. 2025).
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None,
    ):
        settings: dict[str, Any] = {
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "eps": eps,
        }
        settings |= {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, lr=lr, **settings)

    def check(self, group: Group) -> None:
        not_negative(group, "lr", "weight_decay", "eps", "ns_steps")
        fractions("momentum", group["momentum"])
        if len(group["ns_coefficients"]) != 3 or not all(map(math.isfinite, group["ns_coefficients"])):
            raise ValueError(f"ns_coefficients must be three numbers, got {group['ns_coefficients']}")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"adjust_lr_fn must be 'original' or 'match_rms_adamw', got {group['adjust_lr_fn']!r}")

    def check_parameter(self, p: Any) -> None:
        super().check_parameter(p)
        if p.ndim != 2:
            raise ValueError(f"Muon moves matrices, got parameter {p.name} of shape {p.shape}; use AdamW for it")

    def update(self, p: np.ndarray, g: np.ndarray, state: State, group: Group) -> None:
        momentum, (rows, columns) = group["momentum"], p.shape
        b = state["momentum_buffer"] = momentum * state.get("momentum_buffer", np.zeros_like(p)) + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * b if group["nesterov"] else b
        o = orthogonalized(u, group["ns_coefficients"], group["ns_steps"], group["eps"])
        by_rms = group["adjust_lr_fn"] == "match_rms_adamw"
        scale = 0.2 * math.sqrt(max(rows, columns)) if by_rms else math.sqrt(max(1.0, rows / columns))
        p *= 1 - group["lr"] * group["weight_decay"]
        p -= group["lr"] * scale * o


def orthogonalized(x: np.ndarray, coefficients: tuple[float, float, float], steps: int, eps: float) -> np.ndarray:
    """(m, n) -> (m, n): x with its singular values pushed towards 1.

    They are scaled to at most 1; each step maps every s to a s + b s^3 + c s^5 (Newton-Schulz, odd quintic).
    """
    a, b, c = coefficients
    y = x.T if x.shape[0] > x.shape[1] else x
    y = y / max(float(np.linalg.norm(y)), eps)
    for _ in range(steps):
        gram = y @ y.T
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.T if x.shape[0] > x.shape[1] else y
