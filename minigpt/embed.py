"""Vectors of sentences and of words, and which are near to which.

A sentence's vector is the mean of what a BERT makes of its tokens (Reimers and Gurevych 2019, section 3), or what it makes of
the first; a word's is its row in the table of token embeddings, which every model has.  All are scaled to length 1, so that
products are cosines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.models.bert import BERT
from minigpt.texts import Text, batches, encode_texts, numbers
from minigpt.tokenizer import Tokenizer
from tensorgrad.nn import Embedding, Module

Pooling = Literal["mean", "cls"]


def sentence_vectors(
    model: Module,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    pooling: Pooling = "mean",
    truncate: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """N texts -> (N, C) unit vectors of a BERT, or of the BERT in a model for another task.

    UserError for a model that has none, and for a text that is empty, or longer than the model reads unless `truncate`.
    """
    bert = encoder(model)
    encoded = encode_texts(tokenizer, texts, bert.config.block_size, truncate)
    vectors = np.empty((len(encoded), bert.config.n_embd), bert.wte.weight.dtype)
    for rows, batch in batches(encoded, batch_size):
        with tg.no_grad():
            x = bert(batch.ids, batch.segments, batch.mask)
            vectors[rows] = numbers(pool(x, batch.mask, pooling))
    return vectors


def encoder(model: Module) -> BERT:
    """The BERT that a model is, or holds; UserError if there is none."""
    bert = getattr(model, "bert", model)
    if not isinstance(bert, BERT):
        raise UserError(f"vectors of sentences are made by a BERT, and the model is a {type(model).__name__}")
    return bert


def pool(x: tg.Tensor, mask: np.ndarray, pooling: Pooling = "mean") -> tg.Tensor:
    """(B, T, C), (B, T) -> (B, C): the mean over the tokens, or the first token, with length 1."""
    if pooling == "cls":
        y = x[np.arange(len(mask)), np.argmax(mask, 1)]
    elif pooling == "mean":
        weights = mask / mask.sum(1, keepdims=True)  # (B, T)
        y = tg.sum(x * weights[..., None].astype(x.dtype), 1)
    else:
        raise UserError(f"pooling must be mean or cls, not {pooling!r}")
    return y / tg.sqrt(tg.sum(y * y, -1, keepdims=True))


def cosine_similarities(a: Any, b: Any) -> np.ndarray:
    """(N, C), (M, C) -> (N, M), 0 where a vector is 0; either may be one vector (C,)."""
    return _unit(np.asarray(a)) @ _unit(np.asarray(b)).T


def nearest(vectors: np.ndarray, query: np.ndarray, count: int = 10, without: Iterable[int] = ()) -> list[tuple[int, float]]:
    """(N, C), (C,) -> the `count` rows nearest to the query, and their cosine with it, nearest first, but for those `without`."""
    cosines = cosine_similarities(vectors, query)
    cosines[[*without]] = -np.inf
    best = np.argsort(-cosines, kind="stable")[:count]
    return [(int(i), float(cosines[i])) for i in best if cosines[i] > -np.inf]


class Words:
    """The tokens of a vocabulary that are words by themselves, and their unit vectors (N, C)."""

    def __init__(self, model: Module, tokenizer: Tokenizer):
        """UserError for a vocabulary without words."""
        self.tokenizer = tokenizer
        self.table = next(part.weight.numpy() for part in model.modules() if isinstance(part, Embedding))
        tokens = _words(tokenizer)
        if not tokens:
            raise UserError("the vocabulary has no words, only parts of them")
        self.words = [*tokens]
        self._row = {word: i for i, word in enumerate(self.words)}
        self.vectors = _unit(self.table[[*tokens.values()]])

    def vector(self, word: str) -> np.ndarray:
        """(C,): that of the word, or the mean of its parts.  UserError for what the vocabulary has no part of."""
        if word in self._row:
            return self.vectors[self._row[word]]
        ids = [int(token) for token in self.tokenizer.encode(word) if token != self.tokenizer.special("unk")]
        if not ids:
            raise UserError(f"the vocabulary has neither {word!r} nor parts of it")
        return _unit(self.table[ids].mean(0))

    def neighbours(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words nearest to a word, and their cosine with it."""
        return self._nearest(self.vector(word), count, [word])

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> list[tuple[str, float]]:
        """The words nearest to a - b + c, but for these three: king - man + woman (Mikolov et al. 2013)."""
        return self._nearest(self.vector(a) - self.vector(b) + self.vector(c), count, [a, b, c])

    def _nearest(self, query: np.ndarray, count: int, without: Sequence[str]) -> list[tuple[str, float]]:
        known = {spelling for word in without for spelling in (word, word.lower())}
        rows = [self._row[word] for word in known if word in self._row]
        return [(self.words[i], cosine) for i, cosine in nearest(self.vectors, query, count, rows)]


def _words(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens that begin a word, as those of a word alone do, without that space."""
    specials = set(tokenizer.specials.values())
    found: dict[str, int] = {}
    for token, piece in enumerate(tokenizer.pieces):
        word = piece.decode("utf-8", errors="replace")
        if token not in specials and word[:1] == " " and word[1:].isalpha():
            found.setdefault(word[1:], token)
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    """(.., C), each of length 1, or 0."""
    norms = np.sqrt(np.sum(np.square(vectors), -1, keepdims=True))
    return vectors / np.where(norms == 0, 1, norms)
