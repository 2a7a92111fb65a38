"""Passages of a folder of texts, and those that a question is about, by words and by meaning.

Two rankings, by BM25 and by the cosine of sentence vectors, are joined by sum of 1 / (60 + rank) (Cormack et al. 2009). A
passage is about a question if it has at least a quarter of what is asked for, by the rarity of its words, or its vector is near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.bm25 import BM25
from minigpt.bm25 import words as bag
from minigpt.embed import sentence_vectors
from minigpt.errors import UserError
from minigpt.sources import open_source
from minigpt.tokenizer import Tokenizer

LONGEST = 800  # characters of a passage
COVERED, NEAR = 0.25, 0.4  # of the question's words by weight; of the cosine
RANK = 60
ASKING = frozenset(  # words that ask for nothing in particular
    "a an and are at be been by can could did do does for from had has have how i in is it its many me much of on or say tell "
    "than that the their there these they this to was were what when where which who whom whose why will with would you".split()
)
_PARAGRAPH, _SENTENCE = re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Passage:
    """Some sentences of a file, and the line where they begin."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Found:
    """A passage about a question: its BM25 score, and its cosine where there are vectors."""

    passage: Passage
    bm25: float
    cosine: float | None


class Knowledge:
    """Passages that can be asked for; with an `embedder`, a model and its tokenizer, by meaning too."""

    def __init__(self, passages: Sequence[Passage], embedder: tuple[Any, Tokenizer] | None = None) -> None:
        self.passages, self._embedder = passages, embedder
        texts = [passage.text for passage in passages]
        self._index = BM25(texts)
        self._vectors = None if embedder is None else sentence_vectors(*embedder, texts, truncate=True)

    def about(self, question: str, count: int) -> list[Found]:
        """The passages about a question, best first, at most `count`; none if none is."""
        words, cosines = self._index.scores(question), None
        relevant = self._index.coverage(" ".join(word for word in bag(question) if word not in ASKING)) >= COVERED
        ranks = _reciprocal(words)
        if self._vectors is not None and self._embedder is not None:
            cosines = self._vectors @ sentence_vectors(*self._embedder, [question], truncate=True)[0]
            relevant |= cosines >= NEAR
            ranks = ranks + _reciprocal(cosines)
        order = [i for i in np.argsort(-ranks, kind="stable") if relevant[i]][:count]
        return [Found(self.passages[i], float(words[i]), None if cosines is None else float(cosines[i])) for i in order]


def _reciprocal(scores: np.ndarray) -> np.ndarray:
    """1 / (60 + rank), ranks from 1."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return 1 / (RANK + ranks)


def read_passages(folder: Path | str) -> list[Passage]:
    """The paragraphs of the files under a folder, cut between sentences where they are long; UserError if there are none."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder of texts")
    passages = []
    for file in open_source(str(folder)).files:
        text = "".join(piece or "\n\n" for piece in open_source(str(file), hint="").pieces()).replace("\r\n", "\n")
        name = str(file.relative_to(folder))
        passages += [Passage(name, text.count("\n", 0, begin) + 1, part) for begin, part in _parts(text)]
    if not passages:
        raise UserError(f"the files under {folder} have no text")
    return passages


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """(where it begins, text) of each passage."""
    for begin, paragraph in _pieces(text, _PARAGRAPH):
        start, kept = begin, ""
        for place, sentence in _pieces(paragraph, _SENTENCE):
            if kept and len(kept) + len(sentence) > LONGEST:
                yield start, kept
                kept = ""
            start = start if kept else begin + place
            kept = f"{kept} {sentence}" if kept else sentence
        if kept:
            yield start, kept


def _pieces(text: str, between: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """What stands between the matches, without spaces around it, and where."""
    begin = 0
    for end, following in [*((m.start(), m.end()) for m in between.finditer(text)), (len(text), len(text))]:
        piece = text[begin:end]
        if piece.strip():
            yield begin + len(piece) - len(piece.lstrip()), piece.strip()
        begin = following
