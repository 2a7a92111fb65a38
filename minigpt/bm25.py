"""Ranking texts by the words that they share with a question (Robertson and Zaragoza 2009, section 3.4).

score(q, d) = sum over words w of q of idf(w) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)), f being how often d has w, and
idf(w) = log(1 + (N - n + 0.5) / (n + 0.5)), n being how many of the N texts have w: the positive form, as 1 is added.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The runs of letters and digits of a text, in lower case."""
    return _WORD.findall(text.casefold())


class BM25:
    """An index of texts; `k1` is how much a word that occurs again adds, `b` how much long texts are held back."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counts = [Counter(words(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], dtype=float)
        self._size = len(texts)
        self._k1 = k1
        self._damping = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9)) if len(texts) else lengths
        self._postings: dict[str, tuple[list[int], list[int]]] = {}
        for i, count in enumerate(counts):
            for word, times in count.items():
                where, often = self._postings.setdefault(word, ([], []))
                where.append(i)
                often.append(times)

    def scores(self, question: str) -> np.ndarray:
        """(N,): the score of each text, 0 where no word of the question is in it."""
        total = np.zeros(self._size)
        for word in words(question):
            if word in self._postings:
                where, often = (np.array(part) for part in self._postings[word])
                idf = math.log(1 + (self._size - len(where) + 0.5) / (len(where) + 0.5))
                total[where] += idf * often * (self._k1 + 1) / (often + self._damping[where])
        return total
