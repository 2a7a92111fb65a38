"""A signal finishes the step, saves and leaves with 128 + its number; a second one ends at once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from training_runs import config_for, final_state, no_pictures, stop_at  # noqa: F401

from minigpt import snapshots
from minigpt import train as training
from minigpt.errors import Interrupted
from minigpt.signals import StopRequest
from minigpt.train import train


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_finishes_the_step_and_saves(text_file, tmp_path, monkeypatch, number, code):
    """Case 215."""
    stop_at(monkeypatch, 3, number)
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=r"training stopped after step 3, which is saved; minigpt train --resume .* goes on"
    ) as caught:
        train(config_for(text_file, tmp_path / "a"))
    assert caught.value.exit_code == code and signal.getsignal(number) is before
    assert final_state(tmp_path / "a")[1]["step"] == 3 and (tmp_path / "a" / "model.safetensors").exists()


def test_the_command_line_says_so(command, text_file, tmp_path, monkeypatch):
    stop_at(monkeypatch, 2, signal.SIGINT)
    sizes = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --max-steps 9 --eval-batches 1".split()
    code, _, err = command("train", "--data", text_file, "--out", tmp_path / "m", *sizes)
    assert code == 130 and err.startswith("minigpt: training stopped after step 2") and err.count("\n") == 1


def test_a_signal_at_the_last_step_is_the_end(text_file, tmp_path, monkeypatch):
    stop_at(monkeypatch, 3)
    assert train(config_for(text_file, tmp_path / "a", max_steps=3)).losses["this model"] > 0


def test_the_handler_only_takes_note_and_the_next_signal_is_the_systems():
    """Case 217."""
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert all(signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM))


def test_other_threads_touch_no_handler():
    """Case 217."""
    found = []
    before = signal.getsignal(signal.SIGINT)

    def run():
        with StopRequest() as stop:
            found.append((stop.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_interrupted_while_the_text_is_read(command, text_file, tmp_path, monkeypatch):
    """Nothing is there to finish or to save yet, and nothing is left behind. Case 216."""

    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("minigpt.train.load_corpus", interrupt)
    code, _, err = command("train", "--data", text_file, "--out", tmp_path / "m")
    assert (code, err) == (130, "\nminigpt: interrupted\n") and not (tmp_path / "m").exists()


@pytest.mark.parametrize("during", ["evaluate", "warm"])
def test_a_signal_between_steps_is_served_before_the_next(text_file, tmp_path, monkeypatch, during):
    """Case 216: during an evaluation the step before is saved; while kernels are compiled there is none yet."""
    real = getattr(training, during)

    def interrupted(*arguments, **how):
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments, **how)

    monkeypatch.setattr(training, during, interrupted)
    with pytest.raises(Interrupted, match="after step 4, which is saved" if during == "evaluate" else "before its first step"):
        train(config_for(text_file, tmp_path / "a", eval_interval=4))
    assert [snapshots.step_of(path) for path in snapshots.steps(tmp_path / "a")] == ([4] if during == "evaluate" else [])


def test_a_stop_before_the_first_step_saves_nothing(text_file, tmp_path, monkeypatch):
    enter = StopRequest.__enter__

    def already(self):
        enter(self)
        signal.raise_signal(signal.SIGTERM)
        return self

    monkeypatch.setattr(StopRequest, "__enter__", already)
    with pytest.raises(Interrupted, match=r"training stopped before its first step$"):
        train(config_for(text_file, tmp_path / "a"))
    assert snapshots.newest(tmp_path / "a") == (None, [])


SLOW = (
    "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
    "import training_runs as t; t.without_pictures()\n"
    "real = t.Trainer.update\n"
    "def update(self, **how):\n"
    "    if self.step == 0: print('step', flush=True)\n"
    "    time.sleep(float(sys.argv[4])); return real(self, **how)\n"
    "t.Trainer.update = update\n"
    "from minigpt.errors import MinigptError\n"
    "try: t.train(t.config_for(sys.argv[2], sys.argv[3], max_steps=10**6, eval_interval=int(sys.argv[5])))\n"
    "except MinigptError as error: sys.exit(error.exit_code)\n"
)


def started(text_file, out, seconds, eval_interval=100):
    tests = os.path.dirname(os.path.dirname(__file__))
    command = [sys.executable, "-c", SLOW, tests, str(text_file), str(out), str(seconds), str(eval_interval)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while process.stdout.readline() != "step\n":
        assert process.poll() is None
    return process


def test_a_whole_process(text_file, tmp_path):
    """Case 215."""
    process = started(text_file, tmp_path / "a", 0.01)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(60) == 143
    assert snapshots.newest(tmp_path / "a")[0] is not None and not (tmp_path / "a" / ".lock").exists()


def test_whoever_reads_the_output_leaves(text_file, tmp_path):
    """Case 254: what is done is saved."""
    process = started(text_file, tmp_path / "a", 0.01, eval_interval=3)
    process.stdout.close()
    assert process.wait(60) == 141
    assert snapshots.newest(tmp_path / "a")[0] is not None and not (tmp_path / "a" / ".lock").exists()


def test_a_second_signal_ends_at_once(text_file, tmp_path):
    """The step takes ten minutes: only a process that ends at once is over when this test is. Case 215."""
    process = started(text_file, tmp_path / "a", 600)
    for _ in range(200):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            time.sleep(0.05)
    process.stdout.read()
    assert process.wait(60) == -signal.SIGINT
