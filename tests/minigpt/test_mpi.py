"""A team on MPI: equal to one process, whole or not at all, and one voice. Every test starts `mpiexec`."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_member import RUNS
from training_runs import (
    TINY,
    config_for,
    final_state,
    largest_difference,
    log_of,
    no_pictures,  # noqa: F401
    stop_at,
)

from minigpt import snapshots
from minigpt.checkpoint import load
from minigpt.errors import Interrupted
from minigpt.resume import settings
from minigpt.train import train

pytest.importorskip("mpi4py")
pytestmark = pytest.mark.mpi

TESTS = Path(__file__).parent.parent
SETTINGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def mpiexec(*arguments, members=2, **how):
    """Start a team of Python processes, of one thread each, in the tests' folder."""
    program = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    variables = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS)))}
    command = [program, "-n", str(members), sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def ended(*arguments, members=2):
    """The exit code, and what was printed and complained of."""
    process = mpiexec(*arguments, members=members)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def flags(text_file, out, *more):
    return ["--data", text_file, "--out", out, "--max-steps", "20", *SETTINGS, "--eval-interval", "10", *more]


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """The folder of everything that the task `runs` leaves, and beside it what one process makes of the same."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "text").write_text("the cat sat on the mat and the dog sat on the log. " * 40)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 10)
        with pytest.raises(Interrupted):
            train(config_for(folder / "text", folder / "begun alone", **RUNS["sgd"]))
    code, _, error = ended(TESTS / "mpi_member.py", "runs", folder)
    assert code == 0, error
    return folder


def weights(out):
    return {name: value for name, value in final_state(out)[0].items() if name.startswith("transformer.")}


@pytest.mark.parametrize("name", ["sgd", "adamw, accumulated", "adamw, sharded", "begun alone"])
def test_a_team_is_one_process_with_the_same_batch(team, tmp_path, name):
    """Weights and moments to 1e-6, the losses too."""
    train(config_for(team / "text", tmp_path / "alone", **RUNS.get(name, RUNS["sgd"])))
    assert largest_difference(final_state(team / name)[0], final_state(tmp_path / "alone")[0]) < 1e-6
    for ours, theirs in zip(log_of(team / name), log_of(tmp_path / "alone"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        if theirs["val_loss"]:
            assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-6)


@pytest.mark.parametrize("name", ["adamw, accumulated", "muon"])
def test_a_divided_optimizer_takes_the_same_steps(team, name):
    divided = f"{name.split(',')[0]}, sharded"
    assert largest_difference(final_state(team / name)[0], final_state(team / divided)[0]) < 1e-6


def test_the_same_number_of_processes_gives_the_same_bits(team):
    assert largest_difference(final_state(team / "sgd")[0], final_state(team / "sgd again")[0]) == 0.0


def test_a_signal_to_one_stops_all_and_resumed_is_uninterrupted(team):
    """With dropout, whose streams differ between the members."""
    (arrays, state), (others, other_state) = final_state(team / "dropout"), final_state(team / "dropout, resumed")
    assert largest_difference(arrays, others) == 0.0
    assert state == other_state
    assert log_of(team / "dropout") == log_of(team / "dropout, resumed")


def test_one_process_goes_on_with_what_a_team_began(team, tmp_path):
    """A checkpoint holds the whole of a divided optimizer."""
    out = tmp_path / "run"
    shutil.copytree(team / "adamw, sharded, resumed", out)
    assert snapshots.step_of(snapshots.newest(out)[0]) == 10
    train(settings(out, {}, None), resumed=True)
    assert largest_difference(final_state(out)[0], final_state(team / "adamw, accumulated")[0]) < 1e-6


def test_members_drop_different_activations(team, tmp_path):
    """Case 169."""
    train(config_for(team / "text", tmp_path / "alone", **RUNS["dropout"]))
    assert largest_difference(weights(team / "dropout"), weights(tmp_path / "alone")) > 1e-5


FAULTS = {
    "other_weights": (1, "minigpt: process 2 has other weights than process 0 after step 20; nothing was saved"),
    "infinite_weights": (1, "the weights of ln_f.weight are not finite themselves"),
    "one_fails": (1, "minigpt: the disk is gone: file (in process 2)"),
    "dies": (9, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_that_fails_ends_all_and_the_last_checkpoint_stays(text_file, tmp_path, fault):
    code, sentence = FAULTS[fault]
    found, _, error = ended(
        TESTS / "mpi_member.py", fault, tmp_path, *flags(text_file, tmp_path / "out", "--batch-size", "6"), members=3
    )
    assert found == code, error
    assert sentence in error and error.count("minigpt:") == (code == 1) and "Traceback" not in error
    path, damaged = snapshots.newest(tmp_path / "out")
    assert snapshots.step_of(path) == 10 and not damaged
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "out").values())
    load(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(text_file, tmp_path, number):
    process = mpiexec(TESTS / "mpi_member.py", "told", tmp_path, *flags(text_file, tmp_path / "out"))
    assert any(line == "now\n" for line in process.stdout)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert error.count("minigpt: training stopped after step 1") == 1
    assert snapshots.step_of(snapshots.newest(tmp_path / "out")[0]) in (15, 16)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--batch-size", "5"], "--batch-size 5 cannot be shared by 2 processes: it must be a multiple of 2"),
        (["--data", "-"], "--data - gives the text to one of 2 processes only; put it into a file"),
        (["--n-embd", "7"], "n_embd 7 is not divisible by n_head 2"),
        (["--bogus"], "unknown argument --bogus"),
    ],
)
def test_a_mistake_is_said_once(text_file, tmp_path, more, sentence):
    code, out, error = ended("-m", "minigpt", "train", *flags(text_file, tmp_path / "out", *more))
    assert (code, out) == (2, "")
    assert error.count("\n") == 1 and sentence in error
    assert not (tmp_path / "out").exists()


SLOW_LEADER = """
import sys, time
from minigpt import cli, parallel
team = parallel.team
def late():
    time.sleep(2.5 * team().leads)
    parallel.team = team
    return team()
parallel.team = late
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_mistake_is_said_once_by_a_leader_who_is_late(text_file, tmp_path):
    """On a busy machine one process may be seconds behind another when they have imported what they need."""
    code, out, error = ended("-c", SLOW_LEADER, "train", *flags(text_file, tmp_path / "out", "--batch-size", "5"))
    assert (code, out) == (2, "")
    assert error.count("\n") == 1 and "cannot be shared" in error and "process 1" not in error


def test_a_reader_who_has_had_enough_ends_all(text_file, tmp_path):
    process = mpiexec("-m", "minigpt", "train", *flags(text_file, tmp_path / "out", "--max-steps", "2000"))
    assert process.stdout.readline().startswith(str(text_file))
    process.stdout.close()
    process.wait(timeout=60)
    assert "Traceback" not in process.stderr.read()
