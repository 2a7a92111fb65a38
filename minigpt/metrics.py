"""metrics.jsonl: one line of JSON for each logged step, on the disk as soon as it is known."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Self

from minigpt.files import write_whole

NAME = "metrics.jsonl"
EARLIER = "metrics.earlier.jsonl"  # of a run in the same folder that saved nothing


class MetricsLog:
    """The log of a run; `records` are its lines. A resumed run keeps the lines up to its step, byte for byte."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        path = folder / NAME
        self.records: list[dict[str, Any]] = []
        if step:
            write_whole(path, "".join(self._kept(path, step)))
        elif path.exists() and path.stat().st_size:
            os.replace(path, folder / EARLIER)
        self._file = open(path, "a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; a number that is not finite is written as null, and seen as it is in `records`."""
        self._file.write(json.dumps(_plain(record), allow_nan=False) + "\n")
        self._file.flush()
        self.records.append(record)

    def _kept(self, path: Path, step: int) -> list[str]:
        """The lines of steps up to `step`; a line that a killed process left half-written is dropped."""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        kept = []
        for line in lines:
            try:
                record = json.loads(line)
                if record["step"] > step:
                    continue
                record["loss"] = math.nan if record["loss"] is None else record["loss"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            self.records.append(record)
            kept.append(line + "\n")
        return kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    """The value with null for each number in it that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
