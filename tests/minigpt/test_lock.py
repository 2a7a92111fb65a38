"""One trainer to a folder; a lock of a dead process holds nobody up."""

import os
import subprocess
import sys

import pytest
from training_runs import config_for

from minigpt.errors import UserError
from minigpt.lock import NAME, locked
from minigpt.train import train

HOLD = (
    "import sys; from pathlib import Path; from minigpt.lock import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_second_is_refused_and_told_who(tmp_path, holder):
    """Case 223."""
    with pytest.raises(UserError, match=rf"another training is running in {tmp_path} \(process {holder.pid}, since "):
        with locked(tmp_path):
            raise AssertionError
    assert (tmp_path / NAME).exists()


def test_training_in_a_locked_folder_changes_nothing(tmp_path, holder, text_file):
    """Case 223."""
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="another training is running"):
        train(config_for(text_file, tmp_path))
    assert sorted(os.listdir(tmp_path)) == [NAME, "metrics.jsonl"] and (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_killed_holders_leave_no_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / NAME).exists()


def test_released_after_an_error_and_taken_again(tmp_path):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), locked(tmp_path):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_lock_file_of_anything(tmp_path):
    (tmp_path / NAME).write_bytes(b"\xff[")
    with locked(tmp_path):
        with pytest.raises(UserError, match=r"another training is running in .* \(process"):
            with locked(tmp_path):
                raise AssertionError
