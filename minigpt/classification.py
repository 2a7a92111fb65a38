"""How well classes are predicted: counts of what was taken for what, figures from them, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigpt.plot import drawn

SHOWN = 30  # classes in a picture


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(n,), (n,) class numbers -> (L, L): how often class i was taken for class j."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> float:
    """The share of the diagonal."""
    return float(np.trace(matrix) / matrix.sum())


def macro_f1(matrix: np.ndarray) -> float:
    """The mean over classes of F1 = 2 right / (occurring + predicted).

    Classes that neither occur nor are predicted have none, and are left out.
    """
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    seen = both > 0
    return float(np.mean(2 * np.diag(matrix)[seen] / both[seen]))


def picture(matrix: np.ndarray, labels: Sequence[str], title: str) -> str:
    """An SVG of a confusion matrix: rows are true classes, shaded by their share of the row; the largest SHOWN classes."""
    largest = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:SHOWN])
    counts, names = matrix[np.ix_(largest, largest)], [_short(labels[i]) for i in largest]
    shares = counts / np.maximum(matrix[largest].sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.55 * max(len(names), 3)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            text = f"{count:,}" if len(names) > 6 else f"{count:,}\n{shares[i, j]:.0%}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.5 else "#333333")
        axes.set_xticks(
            range(len(names)), names, rotation=0 if len(names) < 5 else 60, ha="center" if len(names) < 5 else "right"
        )
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, loc="left", fontsize=11)

    return drawn(draw, (side + 0.8, side))


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"
