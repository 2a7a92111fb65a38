"""The learning rate of each step, by the name of its rule."""

from __future__ import annotations

import math
from typing import Any

import tensorgrad as tg
from minigpt.config import TrainConfig
from minigpt.errors import UserError

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 2  # halved after more than two evaluations without improvement


class Schedule:
    """schedule(step) for step = 0, 1, ..; only the rule "plateau" has a state, moved by `observe`.

    warmup_stable_decay falls in the last tenth of max_steps, or in what the warm-up leaves of it.
    """

    def __init__(self, config: TrainConfig) -> None:
        assert config.min_lr is not None
        self.config, self.min_lr = config, config.min_lr
        self._plateau = tg.optim.Plateau(
            config.learning_rate, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE, min_lr=config.min_lr
        )

    def __call__(self, step: int) -> float:
        c, optim, lows = self.config, tg.optim, self.min_lr
        assert c.warmup_steps is not None
        match c.schedule:
            case "constant":
                return optim.constant(step, c.learning_rate)
            case "linear":
                return optim.linear(step, c.learning_rate, lows, c.max_steps)
            case "cosine":
                return optim.cosine(step, c.learning_rate, lows, c.max_steps)
            case "one_cycle":
                return optim.one_cycle(step, c.learning_rate, c.max_steps)
            case "plateau":
                return self._plateau.lr
            case "warmup_stable_decay":
                decay = min(max(1, c.max_steps // 10), c.max_steps - c.warmup_steps)
                return optim.warmup_stable_decay(step, c.learning_rate, lows, c.warmup_steps, decay, c.max_steps)
            case _:
                return optim.warmup_cosine(step, c.learning_rate, lows, c.warmup_steps, c.max_steps)

    def observe(self, validation_loss: float) -> None:
        """Tell the plateau rule of an evaluation."""
        self._plateau(validation_loss)

    def state(self) -> dict[str, Any]:
        """What the plateau rule remembers."""
        best = self._plateau.best
        return {"lr": self._plateau.lr, "bad_calls": self._plateau.bad_calls, "best": None if math.isinf(best) else best}

    def restore(self, state: Any) -> None:
        """Take over a state; UserError if it is malformed."""
        try:
            lr, bad, best = float(state["lr"]), state["bad_calls"], state["best"]
            best = math.inf if best is None else float(best)
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"the state of the learning rate is malformed: {error!r}") from None
        if not 0 <= lr < math.inf or math.isnan(best) or type(bad) is not int:
            raise UserError(f"the state of the learning rate is malformed: {state!r}")
        self._plateau.load_state_dict(self._plateau.state_dict() | {"lr": lr, "bad_calls": bad, "best": best})
