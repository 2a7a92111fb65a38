"""The picture of a training run: loss against step, beside the Markov models."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

_INK, _TRAIN, _VALIDATION = "#333333", "#9ecae1", "#08519c"
_MARKOV = {"unigram": "#fdbe85", "bigram": "#fd8d3c", "trigram": "#d94701"}


def loss_svg(records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], title: str) -> str:
    """An SVG of the records of metrics.jsonl: training loss, validation loss, baselines as dashed lines, in nats."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "minigpt", "font.size": 10, "text.color": _INK}):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([r["step"] for r in records], [r["loss"] for r in records], color=_TRAIN, lw=1.2, label="training")
        seen = [r for r in records if r["val_loss"] is not None]
        steps, losses = [r["step"] for r in seen], [r["val_loss"] for r in seen]
        axes.plot(steps, losses, color=_VALIDATION, lw=2, marker="o", ms=4, label="validation")
        for name, value in baselines.items():
            axes.axhline(value, color=_MARKOV[name], ls="--", lw=1.2)
            _write_beside(axes, value, f"{name} {value:.2f}", _MARKOV[name])
        if seen:
            _write_beside(axes, losses[-1], f"validation {losses[-1]:.2f}", _VALIDATION)
        _decorate(axes, records, title)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _write_beside(axes: Any, height: float, text: str, color: str) -> None:
    """A label just right of the frame, at the height of its line."""
    axes.annotate(
        text, (1, height), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", color=color, annotation_clip=False,
    )  # fmt: skip


def _decorate(axes: Any, records: Sequence[Mapping[str, Any]], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.secondary_yaxis(-0.11, functions=(lambda y: y / math.log(2), lambda y: y * math.log(2))).set_ylabel("bits")
    axes.set_xlim(0, max((r["step"] for r in records), default=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
