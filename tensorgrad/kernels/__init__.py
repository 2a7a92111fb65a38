"""Numba kernels: plain functions on arrays, one file per op, forward above backward.  No Tensor, no graph.

A kernel's file, and with the first of them Numba, is imported when something in it is first used.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        adamw,
        attention,
        biased_attention,
        cross_entropy,
        dropout,
        elementwise,
        feed_forward,
        gelu,
        layer_norm,
        linear,
        log_softmax,
        matmul,
        residual_linear,
        rms_norm,
        rotary,
        scatter,
        self_attention,
        silu,
        softmax,
    )

__all__ = [
    "adamw",
    "attention",
    "biased_attention",
    "cross_entropy",
    "dropout",
    "elementwise",
    "feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "residual_linear",
    "rms_norm",
    "rotary",
    "scatter",
    "self_attention",
    "silu",
    "softmax",
]


class _Later(ModuleType):
    """Stands for a module, which is imported when it is first asked for a name, and knows the names asked for."""

    def __getattr__(self, name: str) -> Any:
        value = vars(self)[name] = getattr(importlib.import_module(self.__name__), name)
        return value


if not TYPE_CHECKING:
    globals().update({name: _Later(f"{__name__}.{name}") for name in __all__})
