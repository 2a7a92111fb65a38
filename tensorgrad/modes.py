"""Switches that hold for the length of a with-block or of a decorated call, in one thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from .graph import setting


class _Mode:
    """A switch usable as `with mode():` and as `@mode()`; a decorated generator holds it only while it runs."""

    values: dict[str, Any] = {}

    def __init__(self) -> None:
        self._open: list[AbstractContextManager] = []

    def __enter__(self) -> None:
        self._open.append(setting(**self.values))
        self._open[-1].__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._open.pop().__exit__(*exc)

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):
            return self._generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with setting(**self.values):
                return function(*args, **kwargs)

        return wrapped

    def _generator(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            running = function(*args, **kwargs)
            step, value = running.send, None
            while True:
                try:
                    with setting(**self.values):
                        item = step(value)
                except StopIteration as end:
                    return end.value
                try:
                    step, value = running.send, (yield item)
                except GeneratorExit:
                    running.close()
                    raise
                except BaseException as error:
                    step, value = running.throw, error

        return wrapped


class no_grad(_Mode):
    """Ops record nothing: results do not remember their inputs.  A with-block inside a generator lasts while it is paused;
    decorate the generator instead."""

    values = {"recording": False}


class enable_grad(_Mode):
    """Ops record again inside a `no_grad`."""

    values = {"recording": True}


class definitions(_Mode):
    """Ops run their first-principles definitions instead of their kernels; every number stays the same to rounding."""

    values = {"definitions": True}
