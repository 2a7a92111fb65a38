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
            where, often = self._found(word)
            total[where] += self._rarity(word) * often * (self._k1 + 1) / (often + self._damping[where])
        return total

    def coverage(self, question: str) -> np.ndarray:
        """(N,): the share of the question's different words that each text has, weighed by their idf."""
        total, all_of_it = np.zeros(self._size), 0.0
        for word in sorted(set(words(question))):
            total[self._found(word)[0]] += self._rarity(word)
            all_of_it += self._rarity(word)
        return total / max(all_of_it, 1e-9)

    def _found(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """The texts that have a word, and how often."""
        where, often = self._postings.get(word, ((), ()))
        return np.array(where, dtype=int), np.array(often, dtype=float)

    def _rarity(self, word: str) -> float:
        """Its idf."""
        have = len(self._postings.get(word, ((),))[0])
        return math.log(1 + (self._size - have + 0.5) / (have + 0.5))
