"""The steps of fine-tuning: batches of similar lengths, AdamW, a warm-up, and the best weights kept."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import TrainingError, UserError
from minigpt.examples import Example, batch, shuffled
from minigpt.finetuning.parameters import groups
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.tasks.task import Task
from minigpt.signals import StopRequest


class Loop:
    """A model on its way to a task; `figures` are those of the best evaluation, whose weights the model has in the end."""

    def __init__(self, model: Any, task: Task, config: FinetuneConfig, examples: int) -> None:
        self.model, self.task, self.config = model, task, config
        steps_an_epoch = -(-examples // config.batch_size)
        self.steps = min(steps_an_epoch * config.epochs, config.max_steps or sys.maxsize)
        self.interval = config.eval_interval or steps_an_epoch
        self.optimizer = tg.optim.AdamW(groups(model, config))
        self.figures: dict[str, float] = {}
        self._best: dict[str, np.ndarray] = {}
        self._stale, self._pace, self._began = 0, 0.0, time.perf_counter()

    def run(
        self,
        learned: Sequence[Example],
        held: Sequence[Example],
        order: np.random.Generator,
        drop: np.random.Generator,
        tell: Callable[[dict[str, Any]], object],
        stop: StopRequest,
    ) -> None:
        """Learn until the steps are done, config.patience is over or a stop is asked for; `tell` is given each step's record.

        TrainingError for a loss or gradient that is not finite.
        """
        step, last, lengths = 0, False, [len(example.ids) for example in learned]
        while not last and not self._over():
            for rows in shuffled(lengths, self.config.batch_size, order):
                step += 1
                record = self._step(step, [learned[i] for i in rows], drop)
                last = step == self.steps or stop.signal is not None
                if last or step % self.interval == 0:
                    record |= self._evaluate(held)
                tell(record)
                if last or self._over():
                    break
        for name, p in self.model.named_parameters():
            if name in self._best:
                p.data = self._best[name]
        self.model.eval()

    def rate(self, step: int) -> float:
        """The learning rate of step 1, 2, ..: up on a line, then down to 0 on one."""
        highest, rising = self.config.learning_rate, round(self.config.warmup * self.steps)
        assert highest is not None
        if step <= rising:
            return highest * step / rising
        return tg.optim.linear(step - 1 - rising, highest, 0.0, self.steps - rising)

    def _step(self, step: int, examples: Sequence[Example], drop: np.random.Generator) -> dict[str, Any]:
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["share"]
        together = batch(examples, self.task.pad)
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model, together, drop)
        value = loss.item()
        if not loss.requires_grad:
            raise UserError(f"freeze {self.config.freeze} leaves nothing to learn that the task depends on")
        loss.backward()
        norm = self.optimizer.clipped_step(self.config.grad_clip or sys.float_info.max) if math.isfinite(value) else math.nan
        if not math.isfinite(norm):
            what = f"loss became {value}" if not math.isfinite(value) else f"gradient norm became {norm}"
            raise TrainingError(f"the {what} at step {step}, so nothing was saved; a lower --learning-rate usually helps")
        took = (time.perf_counter() - started) / together.mask.sum()
        self._pace = 0.9 * self._pace + 0.1 * took if self._pace and step > 2 else took
        record = {"step": step, "loss": value, "val_loss": None, "lr": self.rate(step), "grad_norm": norm}
        return record | {"tokens_per_second": 1 / self._pace, "seconds": time.perf_counter() - self._began}

    def _evaluate(self, held: Sequence[Example]) -> dict[str, Any]:
        """Figures of the held-out examples; the weights are kept if they are the best so far."""
        found = measured(self.model, self.task, held)
        better = found[self.task.metric] if self.task.higher else -found[self.task.metric]
        known = self.figures.get(self.task.metric)
        if known is None or better > (known if self.task.higher else -known):
            self.figures, self._stale = found, 0
            self._best = {name: p.data.copy() for name, p in self.model.named_parameters() if p.requires_grad}
        else:
            self._stale += 1
        return {"val_loss": found["loss"]} | {name: value for name, value in found.items() if name != "loss"}

    def _over(self) -> bool:
        return 0 < self.config.patience <= self._stale


def measured(model: Any, task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """The task's figures, without dropout and without a graph."""
    model.eval()
    with tg.no_grad():
        return task.measure(model, examples)
