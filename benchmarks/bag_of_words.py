"""What a text classifier must beat: logistic regression on which words and pairs of words a text has.

    python benchmarks/bag_of_words.py TRAIN.tsv TEST.tsv

For the words and pairs W(x) of a text, p(class c | x) = softmax_c(sum of the vectors w_j of j in W(x), + b) (Wang and Manning
2012, section 2, with presence as the feature).  Those that occur once in the training texts are left out.  The loss is convex,
with a penalty on w, and L-BFGS finds its minimum; the penalty is chosen on a tenth of the training texts that is held out.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from turns import machine, table

import tensorgrad as tg
from tensorgrad.optim import lbfgs

PENALTIES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
Rows = Sequence[tuple[str, str]]  # text and label


def read(path: Path) -> list[tuple[str, str]]:
    """The columns `text` and `label` of a table."""
    with open(path, encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def features(text: str) -> set[str]:
    """The words of a text and the pairs of neighbours."""
    words = re.findall(r"[a-z']+|[!?]", text.lower())
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}


class BagOfWords:
    """Learned from rows: `labels` are the classes, `probabilities` those of some texts."""

    def __init__(self, rows: Rows, penalty: float):
        counts = Counter(feature for text, _ in rows for feature in features(text))
        kept = [feature for feature, count in counts.items() if count > 1]
        self.number = {feature: i for i, feature in enumerate(kept, 1)}  # 0 is padding, with a vector of 0
        self.labels = sorted({label for _, label in rows})
        ids = self._ids([text for text, _ in rows])
        classes = np.array([self.labels.index(label) for _, label in rows])

        def loss(weights: dict[str, tg.Tensor]) -> tg.Tensor:
            fit = tg.cross_entropy(self._logits(weights, ids), classes)
            return fit + penalty * tg.square(weights["w"]).sum()

        start = {"w": tg.tensor(np.zeros((len(kept), len(self.labels)))), "b": tg.tensor(np.zeros(len(self.labels)))}
        self.weights = lbfgs(loss, start, tol=1e-6, max_iterations=300).x

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(N, classes)."""
        return tg.softmax(self._logits(self.weights, self._ids(texts))).numpy()

    def accuracy(self, rows: Rows) -> float:
        chosen = self.probabilities([text for text, _ in rows]).argmax(axis=-1)
        return float(np.mean([self.labels[i] == label for i, (_, label) in zip(chosen, rows, strict=True)]))

    def _ids(self, texts: Sequence[str]) -> np.ndarray:
        """(N, most features of a text), padded with 0."""
        known = [[self.number[feature] for feature in sorted(features(text)) if feature in self.number] for text in texts]
        ids = np.zeros((len(texts), max(map(len, known), default=0)), np.int64)
        for row, found in zip(ids, known, strict=True):
            row[: len(found)] = found
        return ids

    @staticmethod
    def _logits(weights: dict[str, tg.Tensor], ids: np.ndarray) -> tg.Tensor:
        table = tg.concat([tg.zeros((1, weights["w"].shape[1]), dtype=weights["w"].dtype), weights["w"]])
        return tg.embedding(ids, table).sum(1) + weights["b"]


def fitted(rows: Rows) -> tuple[BagOfWords, float]:
    """The model with the penalty that is best on every tenth row, learned from all rows; and that penalty."""
    kept, held = [row for i, row in enumerate(rows) if i % 10], rows[::10]
    scores = {penalty: BagOfWords(kept, penalty).accuracy(held) for penalty in PENALTIES}
    best = max(scores, key=lambda penalty: scores[penalty])
    return BagOfWords(rows, best), best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    chosen = parser.parse_args()
    train, test = read(chosen.train), read(chosen.test)
    model, penalty = fitted(train)
    print(machine())
    print(table(["texts", "features", "penalty", "accuracy on the texts learned from", "on others"],
                [[f"{len(train):,}", f"{len(model.number):,}", f"{penalty:g}",
                  f"{model.accuracy(train):.3f}", f"{model.accuracy(test):.3f}"]]))  # fmt: skip


if __name__ == "__main__":
    main()
