"""How far texts are what they should be: exact match, token F1, error rates by edit distance, BLEU and chrF.

`wanted` gives for each prediction the texts that are right, one or more; the best of them counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import sacrebleu

from minigpt.errors import UserError

Wanted = Sequence[Sequence[str]]
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """Without case, ASCII punctuation, English articles and spare spaces (Rajpurkar et al. 2016, section 6.1)."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(predicted: Sequence[str], wanted: Wanted) -> float:
    """The share of predictions that are right once normalised."""
    return _mean_of_best(lambda found, right: float(normalised(found) == normalised(right)), predicted, wanted)


def token_f1(predicted: Sequence[str], wanted: Wanted) -> float:
    """The mean of F1 = 2 common / (predicted + right) words, normalised; where either text has none, 1 if both (ibid.)."""
    return _mean_of_best(_f1, predicted, wanted)


def _f1(found: str, right: str) -> float:
    a, b = normalised(found).split(), normalised(right).split()
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b)) if a and b else float(a == b)


def _mean_of_best(score: Callable[[str, str], float], predicted: Sequence[str], wanted: Wanted) -> float:
    _check(predicted, wanted)
    return sum(max(score(found, right) for right in rights) for found, rights in zip(predicted, wanted, strict=True)) / len(
        wanted
    )


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make b of a (Levenshtein 1966; Wagner and Fischer 1974)."""
    row = list(range(len(b) + 1))  # of the beginning of a so far, to each beginning of b
    for i, x in enumerate(a):
        before, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (x != y))
    return row[-1]


def token_error_rate(predicted: Sequence[str], wanted: Wanted) -> float:
    """Edits between the words of texts over words wanted: of phonemes, the phoneme error rate.

    Of several right texts the nearest counts, the longest of these. UserError if no words are wanted.
    """
    _check(predicted, wanted)
    edits = length = 0
    for found, rights in zip(predicted, wanted, strict=True):
        nearest, minus_words = min((edit_distance(found.split(), right.split()), -len(right.split())) for right in rights)
        edits, length = edits + nearest, length - minus_words
    if not length:
        raise UserError("an error rate needs texts with words in them")
    return edits / length


def text_error_rate(predicted: Sequence[str], wanted: Wanted) -> float:
    """The share of texts with a word wrong: of phonemes, the word error rate."""
    _check(predicted, wanted)
    right = sum(found.split() in [text.split() for text in rights] for found, rights in zip(predicted, wanted, strict=True))
    return 1 - right / len(wanted)


def bleu(predicted: Sequence[str], wanted: Wanted) -> float:
    """0 to 100: sacrebleu's BLEU of all texts together, with its default tokens (Papineni et al. 2002; Post 2018)."""
    return float(sacrebleu.corpus_bleu(list(predicted), _streams(predicted, wanted)).score)


def chrf(predicted: Sequence[str], wanted: Wanted) -> float:
    """0 to 100: sacrebleu's chrF2 of all texts together (Popović 2015)."""
    return float(sacrebleu.corpus_chrf(list(predicted), _streams(predicted, wanted)).score)


def figures(predicted: Sequence[str], wanted: Wanted) -> dict[str, float]:
    """All of them, and the number of texts."""
    return {
        "texts": len(wanted),
        "exact_match": exact_match(predicted, wanted),
        "token_f1": token_f1(predicted, wanted),
        "token_error_rate": token_error_rate(predicted, wanted),
        "text_error_rate": text_error_rate(predicted, wanted),
        "bleu": bleu(predicted, wanted),
        "chrf": chrf(predicted, wanted),
    }


def _streams(predicted: Sequence[str], wanted: Wanted) -> list[list[Any]]:
    """The first right text of every prediction, the second, and so on; None where there is none."""
    _check(predicted, wanted)
    most = max(map(len, wanted))
    return [[rights[i] if i < len(rights) else None for rights in wanted] for i in range(most)]


def _check(predicted: Sequence[str], wanted: Wanted) -> None:
    if len(predicted) != len(wanted) or not wanted:
        raise UserError(f"{len(predicted)} predictions do not go with {len(wanted)} texts that are wanted: as many, and some")
    if any(isinstance(rights, str) or not rights for rights in wanted):
        raise UserError("each prediction needs a list of the texts that are right, at least one")
