"""The log: whole lines, nan as null, cut where a resumed run begins."""

import json
import math

from minigpt.metrics import MetricsLog


def record(step, loss=1.0):
    return {"step": step, "loss": loss, "val_loss": None}


def test_a_number_that_is_not_finite_is_null_in_the_file_and_itself_in_the_records(tmp_path):
    """Case 219."""
    with MetricsLog(tmp_path) as log:
        log.append(record(1, math.nan))
        log.append(record(2, math.inf) | {"layers": {"wte": {"grad_norm": math.nan}}})
        assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2  # on the disk before the log is closed
    assert [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [None, None]
    assert '"grad_norm": null' in (tmp_path / "metrics.jsonl").read_text()
    assert math.isnan(log.records[0]["loss"]) and log.records[1]["loss"] == math.inf


def test_cut_at_a_step_byte_for_byte(tmp_path):
    lines = [
        '{"step": 1, "loss": 0.1,   "val_loss": null}\n',
        '{"step": 2, "loss": null, "val_loss": 2}\n',
        '{"step": 3, "loss": 1.0}\n',
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 4, "lo')
    with MetricsLog(tmp_path, 2) as log:
        assert [r["step"] for r in log.records] == [1, 2] and math.isnan(log.records[1]["loss"])
        log.append(record(3))
    assert (tmp_path / "metrics.jsonl").read_text() == lines[0] + lines[1] + json.dumps(record(3)) + "\n"


def test_a_log_of_anything_is_no_obstacle(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\n[]\n{"step": "x"}\n3\n' + b"[" * 100_000 + b'\n{"step": 1, "loss": 1.0}\n')
    with MetricsLog(tmp_path, 5) as log:
        assert [r["step"] for r in log.records] == [1]
    (tmp_path / "metrics.jsonl").unlink()
    with MetricsLog(tmp_path, 5) as log:
        assert log.records == []
