"""`with detect_anomaly():` stops at the first number that is not finite and says where it came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from .graph import Op, Tensor, setting

_PACKAGE = str(Path(__file__).parent)


def _finite(x: Tensor) -> bool:
    return x.dtype.kind != "f" or bool(np.isfinite(x._array).all())


def _bad(x: Tensor) -> str:
    place = tuple(int(i) for i in np.unravel_index(int(np.argmin(np.isfinite(x._array))), x.shape))
    return f"{x._array[place]} at index {place}"


def _user_line() -> str:
    """Where, outside this package, the op was called."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class AnomalyError(ArithmeticError):
    """A result or a derivative that is not finite although all it was made from is."""


class detect_anomaly:
    """Inside the with-block, check every result and every cotangent of a backward pass, and raise AnomalyError at the first nan
    or infinity that was made from finite numbers: it names the op, the module, the user's line and the first bad index.

    It reads every array once more, so it is for finding a fault; outside the block nothing is checked and nothing is slower.
    """

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}  # id of a recorded result -> the user's line that made it

    def __enter__(self) -> detect_anomaly:
        self._setting = setting(watch=self)
        self._setting.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.clear()
        self._setting.__exit__(kind, error, trace)

    def result(self, op: Op, inputs: Sequence[Tensor], out: Tensor) -> None:
        """Look at a result."""
        if out.op is not None:
            self._lines[id(out)] = _user_line()
        if not _finite(out) and all(_finite(x) for x in inputs):
            shapes = ", ".join(str(x.shape) for x in inputs)
            raise AnomalyError(
                f"{op.name} of finite inputs of shape {shapes} gave {_bad(out)}{_module(out.scope)}; called at {_user_line()}"
            )

    def cotangents(self, node: Tensor, g: Tensor, gs: Sequence[Tensor | None]) -> None:
        """Look at what a reverse rule returned."""
        for i, gx in enumerate(gs):
            if gx is not None and not _finite(gx) and _finite(g):
                assert node.op is not None
                raise AnomalyError(
                    f"the reverse rule of {node.op.name} gave {_bad(gx)} for input {i} of shape {gx.shape}{_module(node.scope)}; "
                    f"the op was called at {self._lines.get(id(node), 'a line outside this block')}"
                )


def _module(scope: tuple[str, ...]) -> str:
    return f", in module {'.'.join(scope)}" if scope else ""
