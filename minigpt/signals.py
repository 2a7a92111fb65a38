"""Ctrl-C and SIGTERM as a request: finish the step, save, leave.  A second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PIPE = 13  # SIGPIPE, which Windows has no name for: whoever read the output has left


class StopRequest:
    """While the block runs, `signal` is the number of the signal that came, or None; the old handlers come back after it.

    The handler only takes note, and gives the signals their default action back: whatever runs then, even compiled code,
    the next one kills.  Handlers belong to the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
