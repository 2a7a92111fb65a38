"""Learning rates: functions of the step = 0, 1, .., for an optimizer's groups, and a rule that watches progress.

for group in optimizer.param_groups:
    group["lr"] = cosine(step, lr=3e-4, min_lr=3e-5, max_steps=1000)
"""

from __future__ import annotations

import math
from typing import Any, Literal


def _not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0, got {value}")


def _between(start: float, end: float, progress: float, shape: Literal["linear", "cosine"]) -> float:
    """From start at progress 0 to end at progress 1 and after."""
    if progress >= 1:
        return end
    if shape == "cosine":
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    return start + (end - start) * progress


def constant(step: int, lr: float) -> float:
    """lr."""
    _not_negative(step=step, lr=lr)
    return lr


def linear(step: int, lr: float, min_lr: float, max_steps: int) -> float:
    """On a straight line from lr at step 0 to min_lr at max_steps and after."""
    _not_negative(step=step, lr=lr, min_lr=min_lr, max_steps=max_steps)
    return _between(lr, min_lr, step / max_steps if max_steps else 1.0, "linear")


def cosine(step: int, lr: float, min_lr: float, max_steps: int) -> float:
    """On half a cosine from lr at step 0 to min_lr at max_steps and after (Loshchilov and Hutter 2017, eq. 5)."""
    _not_negative(step=step, lr=lr, min_lr=min_lr, max_steps=max_steps)
    return _between(lr, min_lr, step / max_steps if max_steps else 1.0, "cosine")


def warmup_cosine(step: int, lr: float, min_lr: float, warmup_steps: int, max_steps: int) -> float:
    """Linear from lr / warmup_steps to lr, then half a cosine down to min_lr at max_steps and after."""
    _not_negative(step=step, lr=lr, min_lr=min_lr, warmup_steps=warmup_steps, max_steps=max_steps)
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    return cosine(step - warmup_steps, lr, min_lr, max(max_steps - warmup_steps, 0))


def warmup_stable_decay(step: int, lr: float, min_lr: float, warmup_steps: int, decay_steps: int, max_steps: int) -> float:
    """Linear from lr / warmup_steps to lr, then lr, then linear to min_lr in the last decay_steps.

    (Hu et al. 2024, eq. 1.)
    """
    _not_negative(step=step, lr=lr, min_lr=min_lr, warmup_steps=warmup_steps, decay_steps=decay_steps)
    if not warmup_steps + decay_steps <= max_steps:
        raise ValueError(f"{warmup_steps} steps of warm-up and {decay_steps} of decay do not fit in max_steps {max_steps}")
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    return linear(max(step - (max_steps - decay_steps), 0), lr, min_lr, decay_steps) if decay_steps else lr


def one_cycle(
    step: int,
    max_lr: float,
    max_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """Half a cosine from max_lr / div_factor up to max_lr, and another down to max_lr / div_factor / final_div_factor.

    The top is reached after pct_start of the steps, the end at step max_steps - 1 (Smith and Topin 2018).
    """
    _not_negative(step=step, max_lr=max_lr, max_steps=max_steps)
    if not 0 <= pct_start <= 1 or not div_factor > 0 or not final_div_factor > 0:
        raise ValueError(
            f"one_cycle needs pct_start in [0, 1] and positive factors, got {(pct_start, div_factor, final_div_factor)}"
        )
    first, top, last = max_lr / div_factor, pct_start * max_steps - 1, max_steps - 1
    if step <= top:
        return _between(first, max_lr, step / top if top else 1.0, "cosine")
    return _between(max_lr, first / final_div_factor, (step - top) / (last - top) if last > top else 1.0, "cosine")


class Plateau:
    """Multiplies `lr` by `factor` when a metric has not improved for more than `patience` calls, down to `min_lr`.

    Improving is to be below (mode "min") or above ("max") the best by the fraction `threshold`; after a reduction,
    `cooldown` calls are not counted.
    """

    def __init__(
        self,
        lr: float,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        _not_negative(lr=lr, patience=patience, threshold=threshold, cooldown=cooldown, min_lr=min_lr)
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if not 0 <= factor < 1:
            raise ValueError(f"factor must be in [0, 1), got {factor}")
        self.lr, self.mode, self.factor, self.patience = lr, mode, factor, patience
        self.threshold, self.cooldown, self.min_lr = threshold, cooldown, min_lr
        self.best, self.bad_calls, self.resting = math.inf if mode == "min" else -math.inf, 0, 0

    def __call__(self, metric: float) -> float:
        """The learning rate, now that the metric has this value.  nan is no improvement."""
        metric = float(metric)
        sign = 1 if self.mode == "min" else -1
        margin = 0.0 if math.isinf(self.best) else self.threshold * abs(self.best)
        if sign * metric < sign * self.best - margin:
            self.best, self.bad_calls = metric, 0
        else:
            self.bad_calls += 1
        if self.resting > 0:
            self.resting, self.bad_calls = self.resting - 1, 0
        if self.bad_calls > self.patience:
            self.lr = max(self.lr * self.factor, self.min_lr)
            self.resting, self.bad_calls = self.cooldown, 0
        return self.lr

    def state_dict(self) -> dict[str, Any]:
        """Settings and progress."""
        return dict(vars(self))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state_dict()."""
        vars(self).update({name: saved[name] for name in vars(self)})
