"""What a text is like before any model sees it: how many bits its next token holds, and how far its memory reaches.

All figures are of the token sequence x_1 .. x_N itself, in bits, by counting (plug-in estimates):

    H_n = - sum_w p(w) log2 p(w)         joint entropy of runs w of n tokens; H_n - H_(n-1) is what a perfect Markov model
                                         of order n - 1 pays for a token (Shannon 1951, equation 1)
    I(d) = sum_ab p(a, b) log2 (p(a, b) / (p(a) p(b)))     between tokens at distance d (Li 1990)

Counting from N tokens overestimates I by about (V_a - 1)(V_b - 1) / (2 N ln 2) bits, V being the numbers of different
tokens (Miller 1955), which is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DISTANCES = range(1, 33)
LARGEST = 1 << 24  # tokens that are looked at


@dataclass(frozen=True)
class Statistics:
    """`entropies[n - 1]` is H_n, `information[i]` is I(DISTANCES[i]); `counts` (V,) are of the tokens that were looked at."""

    tokens: int
    looked_at: int
    counts: np.ndarray
    entropies: tuple[float, float, float]
    information: tuple[float, ...]

    @property
    def types(self) -> int:
        """Different tokens."""
        return int(np.count_nonzero(self.counts))

    @property
    def type_token_ratio(self) -> float:
        return self.types / self.looked_at

    @property
    def conditional(self) -> tuple[float, float, float]:
        """Bits for a token that is predicted from the 0, 1 and 2 before it."""
        one, two, three = self.entropies
        return one, two - one, three - two

    def most_frequent(self, number: int) -> list[tuple[int, int]]:
        """(token, count), the most frequent first, at most `number` of them."""
        order = np.argsort(-self.counts, kind="stable")[: min(number, self.types)]
        return [(int(token), int(self.counts[token])) for token in order]


def measure(ids: np.ndarray, vocab_size: int) -> Statistics:
    """The statistics of ids (N,), N >= 3, or of the first 2^24 of them."""
    seen = np.asarray(ids[:LARGEST]).astype(np.int64)
    runs = [seen]
    for n in (1, 2):
        runs.append(runs[-1][:-1] * vocab_size + seen[n:])
    one, two, three = (_entropy(_counts(codes)) for codes in runs)
    information = tuple(_information(seen, d, vocab_size) for d in DISTANCES if d < len(seen))
    return Statistics(len(ids), len(seen), np.bincount(seen, minlength=vocab_size), (one, two, three), information)


def _counts(codes: np.ndarray) -> np.ndarray:
    """How often each different code occurs."""
    largest = int(codes.max(initial=0))
    if largest <= 4 * len(codes):
        counts = np.bincount(codes)
        return counts[counts > 0]
    return np.unique(codes, return_counts=True)[1]


def _entropy(counts: np.ndarray) -> float:
    """- sum p log2 p of the distribution in proportion to `counts`."""
    total = int(counts.sum())
    return math.log2(total) - float(counts @ np.log2(counts)) / total


def _information(seen: np.ndarray, distance: int, vocab_size: int) -> float:
    """I(distance) with its bias taken off."""
    first, second = seen[:-distance], seen[distance:]
    a, b, both = (_counts(codes) for codes in (first, second, first * vocab_size + second))
    bias = (len(a) - 1) * (len(b) - 1) / (2 * len(first) * math.log(2))
    return _entropy(a) + _entropy(b) - _entropy(both) - bias


def picture(statistics: Statistics, pieces: Sequence[str], title: str) -> str:
    """An SVG: how often each token occurs against its rank, and I(d) against d; the most frequent are named."""
    from minigpt.plot import drawn

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        counts = np.sort(statistics.counts[statistics.counts > 0])[::-1]
        left.loglog(np.arange(1, len(counts) + 1), counts / statistics.looked_at, color="#08519c", marker=".", ms=4, lw=1)
        for rank, (token, count) in enumerate(statistics.most_frequent(5), 1):
            left.annotate(
                pieces[token], (rank, count / statistics.looked_at), xytext=(3, 4), textcoords="offset points", fontsize=9
            )
        left.set(xlabel="rank of the token", ylabel="share of all tokens", title="Tokens by frequency")
        distances = list(DISTANCES)[: len(statistics.information)]
        known = [value if value > 0 else math.nan for value in statistics.information]  # else it is less than its error
        right.semilogy(distances, known, color="#d9641a", marker="o", ms=4, lw=1.2)
        right.set(xlabel="distance between two tokens", ylabel="mutual information (bits)", title="How far the text remembers")
        right.set_xlim(0, len(distances) + 1)
        for axes in (left, right):
            axes.grid(alpha=0.25, which="both")
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)

    return drawn(draw, (9.5, 4.2))
