"""Tiny training runs, and everything of a run that another one can be compared with."""

import json
import signal

import numpy as np
import pytest

import minigpt.train
from minigpt import snapshots, tensorfile
from minigpt.config import TrainConfig
from minigpt.errors import Interrupted
from minigpt.resume import settings
from minigpt.train import train
from minigpt.trainer import Trainer

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "batch_size": 4, "eval_batches": 2, "eval_interval": 100}
CLOCKS = ("seconds", "tokens_per_second", "memory_mb")  # what differs between two runs of the same numbers


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Runs in this module draw nothing when they end; drawing takes longer than they do."""
    without_pictures(monkeypatch.setattr)


def without_pictures(set_attribute=setattr):
    """The same in a process without fixtures."""
    for name in ("report", "loss_svg"):
        set_attribute(minigpt.train, name, lambda *_: "")


def config_for(text_file, out, **changes):
    return TrainConfig(**{"data": str(text_file), "out": str(out), "max_steps": 20, **TINY, **changes})


def trainer_for(**changes):
    """A trainer on random tokens of a vocabulary of 11."""
    tokens = np.random.default_rng(3).integers(0, 11, 400)
    return Trainer(TrainConfig(**{"max_steps": 20, **TINY, **changes}), tokens, 11)


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Let the signal come during a step."""
    update = Trainer.update

    def interrupted(self, **how):
        record = update(self, **how)
        if self.step == step:
            signal.raise_signal(number)
        return record

    monkeypatch.setattr(Trainer, "update", interrupted)


def run_in_parts(monkeypatch, config, *stops):
    """Train with an interruption at each step of `stops`, and resume each time."""
    for i, step in enumerate((*stops, None)):
        with monkeypatch.context() as patch:
            if step is not None:
                stop_at(patch, step)
            try:
                train(settings(config_path(config), {}, None), resumed=True) if i else train(config)
                assert step is None
            except Interrupted:
                assert step is not None


def config_path(config):
    from pathlib import Path

    return Path(config.out)


def final_state(out):
    """Everything in the newest checkpoint: arrays by name, and the state without clocks."""
    path, damaged = snapshots.newest(out)
    assert not damaged
    arrays = {**tensorfile.read(path / "model.safetensors"), **tensorfile.read(path / "optimizer.safetensors")}
    state = json.loads((path / "state.json").read_text())
    return arrays, {key: value for key, value in state.items() if key not in CLOCKS}


def log_of(out):
    """The lines of metrics.jsonl without clocks."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in CLOCKS} for record in records]


def largest_difference(a, b):
    """Over arrays by name, which must be the same names; 0.0 only for the same bits."""
    assert a.keys() == b.keys()
    same = all(a[name].tobytes() == b[name].tobytes() for name in a)
    difference = max(float(np.max(np.abs(a[name].astype(np.float64) - b[name]), initial=0.0)) for name in a)
    return difference if difference or same else float("nan")
