"""A set is believed only if it is complete and as it was written; old ones go only after the new one is verified."""

import json
import os

import pytest

from minigpt import snapshots
from minigpt.errors import UserError


@pytest.fixture
def out(tmp_path):
    for step in (5, 10, 123456789):
        snapshots.publish(tmp_path, step, [("a.json", b"{}"), ("b.safetensors", bytes(100))])
    return tmp_path


def test_in_the_order_of_steps(out):
    assert [snapshots.step_of(path) for path in snapshots.steps(out)] == [5, 10, 123456789]
    assert snapshots.newest(out) == (out / "checkpoints" / "step-123456789", [])
    assert snapshots.newest(out / "none") == (None, [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "b.safetensors").unlink(), "cannot read .*b.safetensors"),
        (lambda path: (path / "b.safetensors").write_bytes(bytes(99)), "has not the length"),
        (lambda path: (path / "b.safetensors").write_bytes(bytes(99) + b"\1"), "is damaged: it has not the hash"),
        (lambda path: (path / "manifest.json").unlink(), "cannot read .*manifest.json"),
        (lambda path: (path / "manifest.json").write_text("{"), "is not valid JSON"),
        (lambda path: (path / "manifest.json").write_text("[" * 100_000), "is not valid JSON"),
        (lambda path: (path / "manifest.json").write_text("[]"), "is not the manifest of a 'minigpt checkpoint 1'"),
        (lambda path: (path / "manifest.json").write_text('{"format": "minigpt checkpoint 2"}'), "is not the manifest"),
        (lambda path: rewrite(path, {}), "does not list files"),
        (lambda path: rewrite(path, {"../../a.json": {"bytes": 2, "sha256": ""}}), "does not list files"),
        (lambda path: rewrite(path, {"a.json": {"bytes": True, "sha256": ""}}), "does not list files"),
        (lambda path: rewrite(path, {"a.json": {"bytes": 2, "sha256": 3}}), "does not list files"),
    ],
)
def test_what_is_damaged_is_passed_over(out, damage, message):
    """Case 205."""
    damage(out / "checkpoints" / "step-123456789")
    with pytest.raises(UserError, match=message):
        snapshots.verify(out / "checkpoints" / "step-123456789")
    path, reasons = snapshots.newest(out)
    assert snapshots.step_of(path) == 10 and len(reasons) == 1


def rewrite(path, files):
    (path / "manifest.json").write_text(json.dumps({"format": snapshots.FORMAT, "files": files}))


def test_a_damaged_set_is_replaced_by_a_new_one_of_the_same_step(out):
    (out / "checkpoints" / "step-00000010" / "a.json").unlink()
    snapshots.publish(out, 10, [("c.json", b"[]")])
    assert sorted(os.listdir(out / "checkpoints" / "step-00000010")) == ["c.json", "manifest.json"]


def test_rotation_keeps_the_newest_and_the_best(out):
    snapshots.rotate(out, 3, None)
    assert len(snapshots.steps(out)) == 3
    snapshots.rotate(out, 1, 5)
    assert [snapshots.step_of(path) for path in snapshots.steps(out)] == [5, 123456789]
    assert len(os.listdir(out / "checkpoints")) == 2


def test_a_set_that_does_not_read_back_removes_nothing(out, monkeypatch):
    """Case 206."""

    def fail(path):
        raise UserError("damaged")

    monkeypatch.setattr(snapshots, "verify", fail)
    with pytest.raises(UserError):
        snapshots.publish(out, 200, [("a.json", b"{}")])
    assert len(snapshots.steps(out)) == 4
