"""Resumed is uninterrupted: the same bits in weights, moments, random streams, data order, schedule and log."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from training_runs import config_for, final_state, largest_difference, log_of, no_pictures, run_in_parts, stop_at  # noqa: F401

from minigpt import checkpoint, resume, snapshots
from minigpt.errors import Interrupted, UserError
from minigpt.resume import settings
from minigpt.train import train

VARIANTS = {
    "plain": {},
    "dropout, accumulation, recomputation": {"dropout": 0.2, "grad_accum": 3, "checkpoint_activations": True},
    "muon, plateau": {"optimizer": "muon", "schedule": "plateau", "eval_interval": 3},
    "sgd, one_cycle": {"optimizer": "sgd", "schedule": "one_cycle", "bias": False},
    "rmsprop, warmup_stable_decay": {"optimizer": "rmsprop", "schedule": "warmup_stable_decay", "warmup_steps": 3},
    "epochs, dropout": {"sampling": "epoch", "dropout": 0.1, "batch_size": 3},
    "adagrad, linear, smoothing": {"optimizer": "adagrad", "schedule": "linear", "label_smoothing": 0.1},
}


def same(a, b):
    (arrays, state), (other_arrays, other_state) = final_state(a), final_state(b)
    assert largest_difference(arrays, other_arrays) == 0.0
    assert state == other_state
    assert log_of(a) == log_of(b)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_ten_and_ten_are_twenty(text_file, tmp_path, monkeypatch, changes):
    """Case 208."""
    train(config_for(text_file, tmp_path / "whole", **changes))
    run_in_parts(monkeypatch, config_for(text_file, tmp_path / "parts", **changes), 10)
    same(tmp_path / "whole", tmp_path / "parts")
    assert [record["step"] for record in log_of(tmp_path / "parts")][-1] == 20


def test_in_many_parts_at_evaluations_and_between(text_file, tmp_path, monkeypatch):
    """Case 208."""
    changes = {"dropout": 0.1, "eval_interval": 5}
    train(config_for(text_file, tmp_path / "whole", **changes))
    run_in_parts(monkeypatch, config_for(text_file, tmp_path / "parts", **changes), 1, 5, 6, 19)
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("characters", "position"), [(187, {"epoch": 0, "read": 20}), (134, {"epoch": 1, "read": 6})])
def test_at_the_end_of_an_epoch_and_within_one(text_file, tmp_path, monkeypatch, characters, position):
    """Case 208: an epoch is 5 batches of 4 windows, or 3 and a half; nine tenths of the text are 8 tokens for each and 8 more."""
    (tmp_path / "text").write_text(text_file.read_text()[:characters])
    whole, parts = (config_for(tmp_path / "text", tmp_path / name, sampling="epoch", keep_last=9) for name in ("a", "b"))
    train(whole)
    run_in_parts(monkeypatch, parts, 5, 7, 10)
    same(tmp_path / "a", tmp_path / "b")
    assert checkpoint.read_json(tmp_path / "b" / "checkpoints" / "step-00000005" / "state.json")["batches"] == position


def test_from_an_older_checkpoint_the_log_is_cut_and_grows_again(text_file, tmp_path):
    train(config_for(text_file, tmp_path / "a", eval_interval=5, keep_last=10))
    expected, log = final_state(tmp_path / "a"), log_of(tmp_path / "a")
    for path in snapshots.steps(tmp_path / "a")[1:]:
        (path / "model.safetensors").unlink()
    with open(tmp_path / "a" / "metrics.jsonl", "a") as file:
        file.write('{"step": 2')  # as a killed process leaves it
    result = train(settings(tmp_path / "a", {}, None), resumed=True)
    (arrays, state), (other_arrays, other_state) = expected, final_state(tmp_path / "a")
    assert largest_difference(arrays, other_arrays) == 0.0 and state == other_state
    assert log_of(tmp_path / "a") == log and [r["step"] for r in result.records] == [5, 10, 15, 20]


@pytest.mark.slow
def test_threads_and_processes_and_hash_seeds(text_file, tmp_path):
    """One process with one thread from start to end; another with two threads, stopped and resumed with one."""
    code = (
        "import sys; sys.path.insert(0, {tests!r}); from pathlib import Path; import pytest\n"
        "import training_runs as t; t.without_pictures()\n"
        "config = t.config_for({text!r}, {out!r}, dropout=0.1, grad_accum=2, n_embd=16, batch_size=8, max_steps=200)\n"
        "patch = pytest.MonkeyPatch()\n"
        "{what}"
    )
    parts = {
        "whole": [("1", "t.train(config)")],
        "parts": [
            ("2", "t.stop_at(patch, 90)\ntry: t.train(config)\nexcept t.Interrupted: pass"),
            ("1", "t.train(t.settings(Path(config.out), {}, None), resumed=True)"),
        ],
    }
    tests = os.path.dirname(os.path.dirname(__file__))
    for name, runs in parts.items():
        for i, (threads, what) in enumerate(runs):
            source = code.format(tests=tests, text=str(text_file), out=str(tmp_path / name), what=what)
            environment = os.environ | {"NUMBA_NUM_THREADS": threads, "PYTHONHASHSEED": str(17 + i + len(runs))}
            done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
    same(tmp_path / "whole", tmp_path / "parts")


def test_the_state_holds_what_the_equality_is_about(text_file, tmp_path):
    train(config_for(text_file, tmp_path / "a", max_steps=3))
    arrays, state = final_state(tmp_path / "a")
    assert "h.0.attn.c_attn.weight/exp_avg_sq" in arrays and "transformer.wte.weight" in arrays
    assert state["step"] == 3 and state["batches"]["bit_generator"] == "PCG64" and state["optimizer_steps"]["wte.weight"] == 3
    path, _ = resume.newest(tmp_path / "a")
    listed = json.loads((path / "manifest.json").read_text())["files"]
    assert set(listed) == {*checkpoint.FILES, "optimizer.safetensors", "state.json"}
    assert set(os.listdir(path)) == {*listed, "manifest.json"}


@pytest.fixture
def interrupted(text_file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Interrupted):
            train(config_for(text_file, tmp_path / "a"))
    return tmp_path / "a"


def test_changed_settings_are_one_warning(interrupted, capsys):
    train(settings(interrupted, {"learning_rate": 2e-3, "max_steps": 6, "dropout": 0.5}, None), resumed=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert lines == [
        "warning: settings changed since the checkpoint: max_steps: 20 -> 6, learning_rate: 0.001 -> 0.002, dropout: 0.0 -> 0.5"
    ]


def test_a_changed_text_of_the_same_letters_is_noticed(interrupted, text_file, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[::-1])
    train(settings(interrupted, {"data": str(other), "max_steps": 6}, None), resumed=True)
    assert "the text" in capsys.readouterr().out.split("warning: ")[1].splitlines()[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"n_embd": 16}, "has n_embd 8, so it cannot go on with n_embd 16"),
        (
            {"tokenizer": "bytes", "n_layer": 1},
            "has tokenizer char, n_layer 2, so it cannot go on with tokenizer bytes, n_layer 1",
        ),
        ({"optimizer": "sgd"}, "has optimizer adamw, so it cannot go on with optimizer sgd"),
        ({"sampling": "epoch"}, "has sampling random, so it cannot go on with sampling epoch"),
        ({"max_steps": 5}, "has done 5 steps of 5; a larger --max-steps goes on with it"),
        ({"out": "elsewhere"}, "--resume writes to its own folder"),
        ({"learning_rate": float("nan")}, "learning_rate must be in"),
    ],
)
def test_impossible_changes(interrupted, flags, message):
    before = sorted(os.listdir(interrupted))
    with pytest.raises(UserError, match=message):
        settings(interrupted, flags, None)
    assert sorted(os.listdir(interrupted)) == before


def test_a_text_with_other_letters_is_refused(interrupted, text_file, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text() + "€" * 50)
    with pytest.raises(UserError, match=r"has another vocabulary \(27 tokens\) than the text .* \(26 tokens\)"):
        train(settings(interrupted, {"data": str(other)}, None), resumed=True)


def test_what_cannot_be_resumed(interrupted, tmp_path):
    """Case 211."""
    with pytest.raises(UserError, match="has no checkpoint to go on with"):
        settings(tmp_path / "none", {}, None)
    (weights_only := tmp_path / "weights").mkdir()
    for name in checkpoint.FILES:
        (weights_only / name).write_bytes((interrupted / name).read_bytes())
    with pytest.raises(UserError, match="has weights only, neither optimizer nor position"):
        settings(weights_only, {}, None)
    with pytest.raises(UserError, match=f"is one checkpoint of a run; --resume takes the folder of the run, {interrupted}"):
        settings(snapshots.steps(interrupted)[-1], {}, None)
    for path in snapshots.steps(interrupted):
        (path / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read: .*state.json has not the length"):
        settings(interrupted, {}, None)


def test_the_command_line(command, interrupted):
    code, out, err = command("train", "--resume", interrupted, "--max-steps", 7)
    assert (code, err) == (0, "") and "resumed after step 5" in out
    code, out, err = command("train", "--resume", interrupted, "--max-steps", 7)
    assert code == 2 and out == "" and err.count("\n") == 1


def test_a_state_of_other_parameters_is_never_taken_by_position(interrupted):
    """Case 212."""
    path, _ = resume.newest(interrupted)
    from minigpt import tensorfile

    arrays = tensorfile.read(path / "optimizer.safetensors")
    arrays["h.9.mlp.c_fc.bias/exp_avg"] = arrays.pop("h.0.mlp.c_fc.bias/exp_avg")
    saved = tensorfile.pack(arrays)
    assert np.frombuffer(saved, np.uint8).size
    files = [
        (f.name, saved if f.name == "optimizer.safetensors" else f.read_bytes())
        for f in path.iterdir()
        if f.name != "manifest.json"
    ]
    snapshots.publish(interrupted, 5, files)
    with pytest.raises(UserError, match=r"the saved optimizer moves 'h\.9\.mlp\.c_fc\.bias', which this model does not have"):
        train(settings(interrupted, {}, None), resumed=True)
