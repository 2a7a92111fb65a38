"""What watches the numbers of a training step: where a nan came from, how many may pass, which gradients stand out."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from tensorgrad.nn import Module

UNKNOWN = "no single op is at fault: it is the sum of finite numbers that overflows"
SPIKE, REMEMBERED, NEEDED = 10.0, 50, 10  # times the median; steps whose norms are remembered; and needed to judge


def explain(model: Module, replay: Callable[[], Any]) -> str:
    """Where the first number that is not finite comes from: a weight, or an op, its module and the place in its result.

    `replay` does the step's forward and backward passes again.
    """
    for name, p in model.named_parameters():
        if not np.isfinite(p.data).all():
            return f"the weights of {name} are not finite themselves"
    try:
        with tg.detect_anomaly():
            replay()
    except tg.AnomalyError as error:
        return str(error)
    return UNKNOWN


class NormWatch:
    """Tells a gradient norm that is far above those of the steps before."""

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, norm: float) -> str | None:
        """Remember a norm, and say so if it is more than SPIKE times the median of those before."""
        usual = statistics.median(self.norms) if len(self.norms) >= NEEDED else math.inf
        self.norms.append(norm)
        if not norm > SPIKE * usual > 0:
            return None
        return f"gradient norm {norm:.3g} is {norm / usual:.0f} times the usual {usual:.3g}"

    def state(self) -> list[float]:
        """The norms remembered."""
        return list(self.norms)

    def restore(self, state: Any) -> None:
        """Take over a state; UserError if it is malformed."""
        if not isinstance(state, list) or not all(type(norm) is float and 0 <= norm < math.inf for norm in state):
            raise UserError("the remembered gradient norms are malformed")
        self.norms = deque(state, maxlen=REMEMBERED)
