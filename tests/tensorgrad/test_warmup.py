"""Warming up: everything is called, in shares, once; and then a training step finds all it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorgrad import warmup
from tensorgrad.kernels import cache


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Five tasks that only note their names, for an empty directory and one process."""
    made = []
    names = [(name, lambda name=name: made.append(name)) for name in "abcde"]
    monkeypatch.setattr(warmup, "tasks", lambda training, dropout: names)
    monkeypatch.setattr(warmup, "_processes", lambda: 1)
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    return made


def test_once_and_with_a_report_of_what_comes_next(calls):
    told = []
    warmup.warm(report=lambda *line: told.append((*line, len(calls))))
    assert calls == list("abcde") and told == [(name, i + 1, 5, i) for i, name in enumerate("abcde")]
    warmup.warm(report=lambda *line: told.append(line))
    assert len(calls) == len(told) == 5
    warmup.warm(training=True)
    assert len(calls) == 10
    warmup.warm(training=True, dropout=True)
    assert len(calls) == 15


@pytest.mark.parametrize(("share", "order"), [((0, 2), "acedb"), ((1, 2), "bdeca"), ((2, 3), "cdaeb")])
def test_shares_begin_apart_and_cover_all(calls, share, order):
    warmup.warm(share=share)
    assert calls == list(order)


def test_helpers_are_started_once_and_ended(calls, monkeypatch):
    events = []

    class Process:
        def __init__(self, command, **_):
            events.append(command[-3:])

        def terminate(self):
            events.append((len(calls), "terminate"))

        def wait(self):
            events.append("wait")

    monkeypatch.setattr(warmup, "_processes", lambda: 2)
    monkeypatch.setattr(warmup.subprocess, "Popen", Process)
    monkeypatch.setattr(cache, "claim", lambda what, patience: not events)
    warmup.warm()
    assert events == [["--share", "1", "2"], (5, "terminate"), "wait"] and calls == list("acedb")
    warmup.warm(training=True)
    assert len(events) == 3 and len(calls) == 10


def test_the_command_says_where_and_how_much(calls, capsys, tmp_path):
    (tmp_path / "one.kernel").write_bytes(bytes(2_500_000))
    assert warmup.main(["warmup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["compiling a (1 of 5) ...", "compiling b (2 of 5) ..."]
    assert lines[5:] == [f"1 compiled kernels, 2.5 MB, in {tmp_path}"]
    with pytest.raises(SystemExit):
        warmup.main(["--training", "cooldown"])


def test_nowhere_to_keep_anything(calls, capsys, monkeypatch):
    monkeypatch.setattr(cache, "directory", lambda: None)
    assert warmup.main([]) == 1 and "NUMBA_CACHE_DIR" in capsys.readouterr().out and calls == list("abcde")


def test_every_task_of_the_real_list_runs():
    everything = warmup.tasks(training=False, dropout=False)
    for _, call in everything:
        call()
    step, dropping = ([name for name, _ in warmup.tasks(training=True, dropout=dropout)] for dropout in (False, True))
    assert 5 < len(set(step)) == len(step) and set(step) < set(dropping) == set(step) | set(warmup.DROPOUT)
    assert {f"{name}, {kind}" for name in dropping for kind in ("float32", "float64, small")} < {name for name, _ in everything}


def run(code):
    folders = [str(Path(__file__).parent / "kernels"), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_training_step_then_compiles_nothing(dropout):
    code = f"""
import numpy as np
import tensorgrad as tg
from minigpt.models.gpt import GPT, GPTConfig
from tensorgrad import warmup
for _, call in warmup.tasks(training=True, dropout={dropout > 0}):
    call()
rng = np.random.default_rng(0)
model = GPT(GPTConfig(65, 64, 2, 4, 128, dropout={dropout}), rng)
optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1))
ids = np.zeros((12, 64), np.int64)
from test_every_kernel import signatures
before = signatures()
for _ in range(2):
    optimizer.zero_grad()
    model.loss(ids, ids, rng=rng).backward()
    optimizer.clipped_step(1.0)
assert signatures() == before, signatures() - before
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_first_derivatives_of_all_kernels_then_compile_nothing():
    code = """
import numpy as np
from test_every_kernel import REGISTRY, dimensions, first_order, inputs, signatures
from tensorgrad import warmup
for _, call in warmup.tasks(training=False, dropout=False):
    call()
before, late = signatures(), []
for name in REGISTRY:
    for size in (5, 80):
        f, shapes = REGISTRY[name](*[size] * dimensions(name))
        for dtype in (np.float32, np.float64):
            first_order(f, inputs(shapes, dtype, positive=True))
            late += [(name, size, dtype, *(signatures() - before))] * (signatures() != before)
            before = signatures()
print(late)
"""
    done = run(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr
