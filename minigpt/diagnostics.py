"""What a step did inside the model, layer by layer, and what it took of the machine."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tensorgrad.nn import Module


def weights(model: Module) -> dict[str, np.ndarray]:
    """Every parameter's values as they are now, by name; later steps leave them as they are."""
    return {name: p.data for name, p in model.named_parameters()}


def layers(model: Module, before: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """For each layer, the norm of its gradient and |change| / |weights| since `before` (a good pace is about 1e-3)."""
    sums: dict[str, np.ndarray] = {}
    for name, p in model.named_parameters():
        old, gradient = before[name].astype(np.float64), np.zeros(()) if p.grad is None else p.grad.data.astype(np.float64)
        parts = [np.sum(gradient**2), np.sum((p.data - old) ** 2), np.sum(old**2)]
        layer = layer_of(name)
        sums[layer] = sums.get(layer, np.zeros(3)) + np.array(parts)
    return {
        layer: {"grad_norm": math.sqrt(g), "update_ratio": math.sqrt(change / norm) if norm else 0.0}
        for layer, (g, change, norm) in sums.items()
    }


def layer_of(parameter: str) -> str:
    """ "h.3" of "h.3.attn.c_attn.weight", "bert.h.3" of "bert.h.3.ln_1.bias", "wte" of "wte.weight"."""
    parts = parameter.split(".")
    block = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[:-1] or parts) if block is None else ".".join(parts[: block + 1])


def memory() -> float | None:
    """Megabytes of this process in memory now, or its largest so far where only that is known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        import resource

        return pages * resource.getpagesize() / 1e6
    except (OSError, ValueError, ImportError):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-6 if sys.platform == "darwin" else 1e-3)
