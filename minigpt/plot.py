"""Pictures: how they are drawn, and that of a training run, loss against step beside the Markov models."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_INK, _TRAIN, _VALIDATION = "#333333", "#9ecae1", "#08519c"
_MARKOV = {"unigram": "#e6952e", "bigram": "#d9641a", "trigram": "#a63603"}


def loss_svg(records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], title: str) -> str:
    """An SVG of the records of metrics.jsonl: training loss, validation loss, baselines as dashed lines, in nats."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot([r["step"] for r in records], [r["loss"] for r in records], color=_TRAIN, lw=1.2, label="training")
        seen = [r for r in records if r["val_loss"] is not None]
        steps, losses = [r["step"] for r in seen], [r["val_loss"] for r in seen]
        axes.plot(steps, losses, color=_VALIDATION, lw=2, marker="o", ms=4, label="validation")
        labels = [(value, f"{name} {value:.2f}", _MARKOV[name]) for name, value in baselines.items()]
        for value, _, color in labels:
            axes.axhline(value, color=color, ls="--", lw=1.2)
        if seen:
            labels.append((losses[-1], f"validation {losses[-1]:.2f}", _VALIDATION))
        _decorate(axes, records, title)
        _write_beside(axes, labels)

    return drawn(draw, (8, 4.8))


def drawn(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """What `draw` puts on an empty figure of this size, in inches, as an SVG that is the same at every call."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "minigpt", "font.size": 10, "text.color": _INK}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _write_beside(axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Labels just right of the frame, each at the height of its line, moved up where two would overlap."""
    low, high = axes.get_ylim()
    free = low
    for height, text, color in sorted(labels):
        at = max(height, free)
        axes.annotate(
            text, (1, at), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=color, annotation_clip=False,
        )  # fmt: skip
        free = at + (high - low) * 0.045


def _decorate(axes: Any, records: Sequence[Mapping[str, Any]], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_xlim(0, max((r["step"] for r in records), default=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
