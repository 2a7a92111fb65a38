"""Killed at any moment of saving, or without room on the disk: the set before or the new one is there, whole."""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training_runs import config_for, final_state, largest_difference, log_of, no_pictures, trainer_for  # noqa: F401

from minigpt import checkpoint, folder, snapshots
from minigpt import train as training
from minigpt.data import Corpus
from minigpt.errors import TrainingError, UserError
from minigpt.files import remove_temporaries
from minigpt.lossless import char_tokenizer
from minigpt.resume import settings
from minigpt.train import Run, train

FLUSHES = 17  # of a save: 7 files of a set, its folder and the one above; 4 files of the folder's own model, each with the folder


def run_of(out, **changes):
    """A run on random tokens that can be saved at any step, without training."""
    trainer = trainer_for(**changes)
    trainer.update()
    tokens = np.arange(11)
    return Run(trainer.config, out, Corpus("text", char_tokenizer("abcdefghijk"), tokens, tokens, 11), trainer, "hash")


def mark(run, step):
    """Let every file of the set tell the step."""
    run.trainer.step = step
    run.trainer.model.ln_f.bias.data = np.full(8, step, np.float32)
    run.trainer.optimizers[0].state[run.trainer.model.ln_f.bias]["exp_avg"] = np.full(8, step, np.float32)


def steps_in(out):
    """The step that weights, moments and state of the newest set tell, and the one that the folder's own model tells."""
    arrays, state = final_state(out)
    bias = checkpoint.load(out)[0].ln_f.bias.data
    return int(arrays["transformer.ln_f.bias"][0]), int(arrays["ln_f.bias/exp_avg"][0]), state["step"], int(bias[0])


def killed_while_saving(run, first, delay):
    """Save the steps from `first` on in a child, kill it after a while, and return the step that was being saved."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            for step in range(first, first + 10_000):
                mark(run, step)
                os.write(writer, step.to_bytes(4, "little"))
                training._save(run)
        finally:
            os._exit(1)
    os.close(writer)
    os.read(reader, 4)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while piece := os.read(reader, 1 << 16):
        told += piece
    os.close(reader)
    return int.from_bytes(told[-4:], "little") if told else first


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_while_saving(tmp_path, kills):
    """What loads is the set that was being written or the one before, in all of its files, and the model beside them too.

    Cases 198 and 204.
    """
    run = run_of(tmp_path)
    mark(run, 1)
    training._save(run)
    chance = random.Random(5)
    started = time.perf_counter()
    mark(run, 2)
    training._save(run)
    one = time.perf_counter() - started
    newest, beside, during = 2, 2, {"previous": 0, "new": 0}
    for _ in range(kills):
        saving = killed_while_saving(run, newest + 1, chance.uniform(0, 3 * one))
        weights, moments, state, own = steps_in(tmp_path)
        assert weights == moments == state and state in (saving - 1, saving) and beside <= own <= state
        during["new" if state == saving else "previous"] += 1
        remove_temporaries(tmp_path)
        remove_temporaries(tmp_path / "checkpoints")
        newest, beside = state, own
    assert sum(during.values()) == kills
    print(f"{kills} kills, {during} loaded, 0 losses")


@pytest.mark.parametrize("call", range(FLUSHES))
def test_killed_between_any_two_files(tmp_path, call):
    """Case 204: at each flush of a save; never a mix of the weights, moments and state of two steps."""
    run = run_of(tmp_path)
    mark(run, 1)
    training._save(run)
    child = os.fork()
    if child == 0:
        calls, real = [0], os.fsync

        def fsync(file):
            calls[0] += 1
            if calls[0] == call + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            real(file)

        try:
            os.fsync = fsync
            mark(run, 2)
            training._save(run)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    found = steps_in(tmp_path)
    assert found == ((1, 1, 1, 1) if call < 8 else (2, 2, 2, 1) if call < FLUSHES - 1 else (2, 2, 2, 2))


def test_killed_in_the_middle_of_training_and_resumed(text_file, tmp_path):
    """A process of its own, killed twice without warning: at the end the same bits as without."""
    changes = {"dropout": 0.1, "save_interval": 6, "max_steps": 20}
    train(config_for(text_file, tmp_path / "whole", **changes))
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import training_runs as t; t.without_pictures()\n"
        "real, kill = t.Trainer.update, int(sys.argv[4])\n"
        "def update(self, **how):\n"
        "    record = real(self, **how)\n"
        "    if self.step == kill: t.signal.raise_signal(t.signal.SIGKILL)\n"
        "    return record\n"
        "t.Trainer.update = update\n"
        "out = Path(sys.argv[3])\n"
        f"if kill == 7: t.train(t.config_for(sys.argv[2], out, **{changes!r}))\n"
        "else: t.train(t.settings(out, {}, None), resumed=True)\n"
    )
    tests = os.path.dirname(os.path.dirname(__file__))
    for kill in (7, 15, 0):
        command = [sys.executable, "-c", code, tests, str(text_file), str(tmp_path / "parts"), str(kill)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    (arrays, state), (others, other_state) = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert largest_difference(arrays, others) == 0.0 and state == other_state
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


def everything_in(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def saved(tmp_path):
    run = run_of(tmp_path)
    mark(run, 1)
    training._save(run)
    mark(run, 2)
    return run


def test_a_file_that_may_not_grow_further(saved):
    """RLIMIT_FSIZE stops the write in the middle of the weights. Case 200."""
    before = everything_in(saved.out)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(
            TrainingError, match=r"cannot save step 2 in .*: File too large; the checkpoint of step 1 is as it was"
        ):
            training._save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert everything_in(saved.out) == before and steps_in(saved.out) == (1, 1, 1, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", range(FLUSHES))
def test_an_error_at_any_flush(saved, monkeypatch, number, call):
    """Cases 200 and 201."""
    calls, real = [0], os.fsync

    def fsync(file):
        calls[0] += 1
        if calls[0] == call + 1:
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TrainingError, match=r"cannot save step 2 .* the checkpoint of step 1 is as it was"):
        training._save(saved)
    assert calls[0] == call + 1
    found = steps_in(saved.out)
    assert found in ((1, 1, 1, 1), (2, 2, 2, 1), (2, 2, 2, 2)) and not list(saved.out.rglob("*.tmp"))


def test_a_full_disk_ends_training_with_one_sentence(command, text_file, tmp_path, monkeypatch):
    """Case 200."""
    real, calls = os.fsync, [0]

    def fsync(file):
        calls[0] += 1
        if calls[0] > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    sizes = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --max-steps 9 --eval-batches 1 --eval-interval 1".split()
    code, _, err = command("train", "--data", text_file, "--out", tmp_path / "m", *sizes)
    assert code == 1 and err.startswith("minigpt: cannot save step ") and err.count("\n") == 1
    assert "No space left on device; the checkpoint of step" in err and checkpoint.load(tmp_path / "m")


def test_too_little_room_is_said_before_the_first_step(text_file, tmp_path, monkeypatch, capsys):
    """Case 225."""

    def free(amount):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, amount))

    free(10**6)
    with pytest.raises(
        UserError, match=r"a checkpoint takes 1 MB and the model beside it 0 MB, but the disk of .* has 1 MB free"
    ):
        train(config_for(text_file, tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    free(3 * 10**6)
    train(config_for(text_file, tmp_path / "b", max_steps=1))
    assert "warning: 2 checkpoints and the best will take 4 MB; 3 MB are free" in capsys.readouterr().out
    free(10**8)
    assert folder.check_space(tmp_path, trainer_for().model, 2) == []


def test_a_damaged_newest_set_is_passed_over_with_a_warning(text_file, tmp_path, capsys):
    """Case 205."""
    train(config_for(text_file, tmp_path / "a", eval_interval=10))
    expected = final_state(tmp_path / "a")
    damaged = snapshots.steps(tmp_path / "a")[-1] / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    train(settings(tmp_path / "a", {}, None), resumed=True)
    out = capsys.readouterr().out
    assert "optimizer.safetensors is damaged: it has not the hash that manifest.json says, so an older checkpoint is used" in out
    assert largest_difference(final_state(tmp_path / "a")[0], expected[0]) == 0.0
