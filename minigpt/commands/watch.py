"""`minigpt watch`: a training as it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run(options: dict[str, Any]) -> int:
    """Show the run in a folder until it ends."""
    from minigpt.display import Output
    from minigpt.watch import watch

    watch(Path(options["folder"]), Output())
    return 0
