"""The state of a training run and its one move: draw batches, differentiate the loss, clip, step.

All of a run that the next step depends on is in a Trainer, and `state` and `restore` carry it over to another process,
bit for bit. Independent random streams, from one seed, feed the initial weights, the choice of batches, dropout and what the
objective leaves to chance; evaluating and sampling use none of them.

The members of a team draw the same batches and compute some rows of each; their gradients are added up before the step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt import diagnostics, guards, optimizers
from minigpt.batches import EpochWindows, RandomWindows, restore_stream, stream_state
from minigpt.buckets import Buckets
from minigpt.config import TrainConfig
from minigpt.errors import TrainingError, UserError
from minigpt.objectives.causal import Causal
from minigpt.objectives.objective import IGNORED, Batch, Objective
from minigpt.pretraining import blocks, model_of, predicted
from minigpt.schedule import Schedule
from minigpt.sharding import Shards
from minigpt.team import ALONE, Team

CAUSAL = Causal()


class Trainer:
    """A model on its way: `step` steps are done; `best` is the lowest validation loss and its step."""

    def __init__(
        self,
        config: TrainConfig,
        tokens: np.ndarray,
        vocab_size: int,
        team: Team = ALONE,
        objective: Objective = CAUSAL,
    ) -> None:
        seeds = np.random.SeedSequence(config.seed).spawn(4)
        init_rng, data_rng, self.dropout_rng, self.noise_rng = (np.random.default_rng(s) for s in seeds)
        self.config, self.team, self.objective = config, team, objective
        self.model = model_of(config, vocab_size, objective, init_rng)
        if config.checkpoint_activations:
            for block in blocks(self.model):
                block.forward = tg.checkpoint(block.forward)  # type: ignore[method-assign]
        windows: type[RandomWindows] | type[EpochWindows] = EpochWindows if config.sampling == "epoch" else RandomWindows
        self.batches = windows(tokens, config.batch_size, config.block_size, data_rng)
        self.optimizers = optimizers.build(config, self.model)
        parameters = dict(self.model.named_parameters())
        self.buckets = Buckets(parameters.values(), team) if team.size > 1 else None
        self.shards = Shards(parameters, team) if team.size > 1 and config.shard_optimizer else None
        self.schedule = Schedule(config)
        self.norms = guards.NormWatch()
        self.step, self._began = 0, time.perf_counter()
        self.bad_steps, self.stale = 0, 0  # in a row: steps passed over, evaluations without a better loss
        self.best: tuple[float, int] | None = None
        self._pace = 0.0

    def update(self, diagnose: bool = False) -> dict[str, Any]:
        """One step on config.grad_accum batches; its record, with a "note" if something was out of the ordinary.

        With `diagnose`, the record says under "layers" what the step did to each.

        A loss or gradient that is not finite leaves the weights as they are: TrainingError, or a note of it as long as no
        more than config.skip_bad_steps are passed over in a row.
        """
        started = time.perf_counter()
        before = diagnostics.weights(self.model) if diagnose else None
        self.step += 1
        lr = self.schedule(self.step - 1)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = lr
        dropout = stream_state(self.dropout_rng)
        batches = [self.objective(*self.batches.next(), self.noise_rng) for _ in range(self.config.grad_accum)]
        loss = self._differentiate(batches)
        norm = self._step() if math.isfinite(loss) else math.nan
        record: dict[str, Any] = {"step": self.step, "loss": loss, "val_loss": None, "lr": lr, "grad_norm": norm}
        if math.isfinite(loss) and math.isfinite(norm):
            self.bad_steps, note = 0, self.norms.note(norm)
        else:
            note = self._pass_over("loss" if not math.isfinite(loss) else "gradient norm", loss, norm, batches, dropout)
        if note is not None:
            record["note"] = note
        if before is not None:
            record["layers"] = diagnostics.layers(self.model, before)
        return record | self._timing(time.perf_counter() - started)

    def observe(self, validation_loss: float) -> None:
        """Tell of an evaluation: for the best step, for early stopping and for the learning rate on plateaus."""
        if self.best is None or validation_loss < self.best[0]:
            self.best, self.stale = (validation_loss, self.step), 0
        else:
            self.stale += 1
        self.schedule.observe(validation_loss)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything but the weights: arrays, and what JSON can hold; where the optimizer is sharded, whole on the leader."""
        arrays, counts = optimizers.state(self.optimizers)
        if self.shards is not None:
            arrays, counts = self.shards.collect(arrays, counts)
        return arrays, {
            "step": self.step,
            "seconds": time.perf_counter() - self._began,
            "batches": self.batches.state(),
            "dropout": stream_state(self.dropout_rng),
            "noise": stream_state(self.noise_rng),
            "optimizer_steps": counts,
            "schedule": self.schedule.state(),
            "norms": self.norms.state(),
            "bad_steps": self.bad_steps,
            "stale": self.stale,
            "best": self.best,
        }

    def restore(self, weights: dict[str, np.ndarray], arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on where a state was taken; UserError, one sentence, if it is malformed or does not fit the model."""
        try:
            self.model.load_state_dict(weights)
            optimizers.restore(self.optimizers, arrays, state["optimizer_steps"])
            if self.shards is not None:
                self.shards.forget(self.optimizers)
            self.batches.restore(state["batches"])
            restore_stream(self.dropout_rng, state["dropout"])
            restore_stream(self.noise_rng, state["noise"])
            self.schedule.restore(state["schedule"])
            self.norms.restore(state["norms"])
            self.step, self.bad_steps, self.stale = (_count(state, name) for name in ("step", "bad_steps", "stale"))
            self._began = time.perf_counter() - _number(state["seconds"])
            self.best = None if state["best"] is None else (_number(state["best"][0]), int(state["best"][1]))
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise UserError(f"the state of the training is malformed: {error!r}") from None

    def _differentiate(self, batches: Sequence[Batch], together: bool = True) -> float:
        """Leave the gradient of the mean loss over all targets of all batches in the parameters, and return that loss.

        Each batch adds the sum of its losses over the number of targets of all, so batches of unequal numbers weigh as
        they would in one. Stops at the first loss that is not finite, unless others wait for the gradients. If not
        `together`, both are of this member's rows alone.
        """
        self.model.train()
        self.model.zero_grad()
        targets = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
        buckets = self.buckets if together else None
        total, rng = 0.0, self._dropout_stream()
        for i, batch in enumerate(batches, 1):
            logits, wanted = predicted(self.model, batch, self.team.rows(len(batch.targets)), rng)
            smoothing = self.config.label_smoothing
            loss = tg.cross_entropy(logits, wanted, IGNORED, label_smoothing=smoothing, reduction="sum") / max(targets, 1)
            value = loss.item()
            total += value
            if buckets is None and not math.isfinite(value):
                break
            loss.backward(on_gradient=buckets.add if buckets is not None and i == len(batches) else None)
        if buckets is not None:
            buckets.finish()
            total = self.team.allreduce(total)
        return total

    def _dropout_stream(self) -> np.random.Generator:
        """For this step: the common stream, or for each member of a team one of its own, which the common one chooses."""
        if self.team.size == 1:
            return self.dropout_rng
        return np.random.default_rng([int(self.dropout_rng.integers(2**62)), self.team.rank])

    def _step(self) -> float:
        """Move the weights along the clipped gradients, unless these are not finite; the norm of all gradients."""
        limit = self.config.grad_clip or sys.float_info.max
        if len(self.optimizers) == 1 and self.shards is None:
            return self.optimizers[0].clipped_step(limit)
        norm = tg.optim.clip_grad_norm(self.model.parameters(), limit)
        if math.isfinite(norm) and self.shards is not None:
            self.shards.step(self.optimizers)
        elif math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        return norm

    def _pass_over(self, what: str, loss: float, norm: float, batches: Sequence[Batch], dropout: dict[str, Any]) -> str:
        """The note of a step without an update; TrainingError that says where the number comes from if it is one too many."""
        value = loss if what == "loss" else norm
        self.bad_steps += 1
        if self.bad_steps <= self.config.skip_bad_steps:
            return f"the {what} became {value}: no update"
        after = stream_state(self.dropout_rng)
        restore_stream(self.dropout_rng, dropout)
        causes = self.team.allgather(guards.explain(self.model, lambda: self._differentiate(batches, together=False)))
        cause = next((found for found in causes if found != guards.UNKNOWN), guards.UNKNOWN)
        restore_stream(self.dropout_rng, after)
        raise TrainingError(
            f"the {what} became {value} at step {self.step} ({cause}), so training stopped without changing the weights, "
            "and the checkpoints are kept; a lower --learning-rate or --grad-clip usually helps"
        )

    def _timing(self, took: float) -> dict[str, float]:
        """The pace of late; the first step may have compiled kernels."""
        self._pace = 0.9 * self._pace + 0.1 * took if self._pace and self.step > 2 else took
        c = self.config
        tokens = c.batch_size * c.grad_accum * c.block_size
        return {"tokens_per_second": tokens / self._pace, "seconds": time.perf_counter() - self._began}


def _count(state: dict[str, Any], name: str) -> int:
    if type(state[name]) is not int or not 0 <= state[name] < 2**62:
        raise ValueError(f"{name} {state[name]!r}")
    return state[name]


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
