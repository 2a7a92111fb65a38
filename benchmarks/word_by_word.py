"""What a translator must beat: the source as it is, and each of its words by the likeliest word of the other language.

    python benchmarks/word_by_word.py TRAIN.tsv TEST.tsv [--source en] [--target es]

The table t(f | e) of words e and f is IBM's Model 1 (Brown et al. 1993, section 4.1): each word of the target comes from one
word of the source, any of them alike.  Expectation maximisation, from equal probabilities, takes each pair of words that stand
in sentences together, N(e, f) = sum over sentences t(f | e) / sum of t(f | e') over e' of the source, and
t(f | e) = N(e, f) / N(e).
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sacrebleu
from turns import machine, table

ROUNDS = 5
Pairs = Sequence[tuple[str, str]]


def read(path: Path, source: str, target: str) -> list[tuple[str, str]]:
    """Two columns of a table."""
    with open(path, encoding="utf-8", newline="") as file:
        return [(row[source], row[target]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def words(text: str) -> list[str]:
    """The words and marks of a text."""
    return re.findall(r"\w+(?:[’']\w+)*|[^\w\s]", text.lower())


def lexical_table(pairs: Pairs) -> dict[str, str]:
    """The likeliest word of the target for each word of the source."""
    numbers: tuple[dict[str, int], dict[str, int]] = {}, {}
    together, sentence_words = [], []
    for e, f in pairs:
        a, b = ([known.setdefault(word, len(known)) for word in dict.fromkeys(words(text))]
                for known, text in zip(numbers, (e, f), strict=True))  # fmt: skip
        together.append(np.repeat(np.array(a, np.int64), len(b)) << 32 | np.tile(np.array(b, np.int64), len(a)))
        sentence_words.append((len(a), len(b)))
    keys, pair = np.unique(np.concatenate(together), return_inverse=True)
    first, place = 0, []  # each pair's place among the words of the targets, sentence by sentence
    for rows, columns in sentence_words:
        place.append(np.tile(np.arange(first, first + columns), rows))
        first += columns
    places, sources = np.concatenate(place), keys >> 32
    t = np.ones(len(keys))
    for _ in range(ROUNDS):
        share = t[pair] / np.bincount(places, t[pair])[places]
        expected = np.bincount(pair, share, len(keys))
        t = expected / np.bincount(sources, expected)[sources]
    order = np.lexsort((t, sources))
    last = order[np.append(np.diff(sources[order]) > 0, True)]  # the likeliest pair of each word of the source
    spelled = [list(known) for known in numbers]
    return {spelled[0][key >> 32]: spelled[1][key & 0xFFFFFFFF] for key in keys[last].tolist()}


def translated(known: dict[str, str], text: str) -> str:
    """Each word by the table, or itself; marks as in writing, a capital at the beginning."""
    line = " ".join(known.get(word, word) for word in words(text))
    line = re.sub(r" ([.,;:?!)”’])", r"\1", line)
    return line[:1].upper() + line[1:]


def scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[str]:
    """BLEU and chrF, as sacrebleu computes them."""
    metrics = sacrebleu.corpus_bleu(hypotheses, [references]), sacrebleu.corpus_chrf(hypotheses, [references])
    return [f"{metric.score:.1f}" for metric in metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="es")
    chosen = parser.parse_args()
    known = lexical_table(read(chosen.train, chosen.source, chosen.target))
    test = read(chosen.test, chosen.source, chosen.target)
    references = [target for _, target in test]
    print(machine())
    rows = [["the source as it is", *scores([source for source, _ in test], references)],
            ["word by word", *scores([translated(known, source) for source, _ in test], references)]]  # fmt: skip
    print(table(["translation", "BLEU", "chrF"], rows))


if __name__ == "__main__":
    main()
