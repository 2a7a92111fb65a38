"""The picture of a fine-tuning: the loss, and beside it the figure that the weights were chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigpt.plot import drawn

_LIGHT, _DARK = "#9ecae1", "#08519c"


def curves(records: Sequence[Mapping[str, Any]], figure_name: str, title: str) -> str:
    """An SVG of the records of metrics.jsonl; the training loss is a running mean over a twentieth of the steps."""
    steps, losses = [r["step"] for r in records], np.array([r["loss"] for r in records])
    seen = [r for r in records if r["val_loss"] is not None]
    evaluated = [r["step"] for r in seen]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(steps, _smooth(losses, max(1, len(losses) // 20)), color=_LIGHT, lw=1.8, label="training, smoothed")
        left.plot(evaluated, [r["val_loss"] for r in seen], color=_DARK, lw=2, marker="o", ms=4, label="held out")
        left.set_ylabel("loss (nats)")
        left.legend(frameon=False)
        right.plot(evaluated, [r[figure_name] for r in seen], color=_DARK, lw=2, marker="o", ms=4)
        right.set_ylabel(f"{figure_name.replace('_', ' ')}, held out")
        left.set_title(title, loc="left", fontsize=11)
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.set_xlim(0, max(steps, default=1) * 1.02)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)

    return drawn(draw, (9, 4))


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of each value and as many before it as there are, up to `width` in all."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)
