"""`minigpt embed`: its flags, and the vectors or the most similar texts and words that it prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from minigpt.commands.inputs import add_texts, given_texts, say_cut
from minigpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from minigpt.tokenizer import Tokenizer
    from tensorgrad.nn import Module

EPILOG = """Without --similar-to, --neighbours or --analogy, the vector of each text is printed, of length 1. Vectors of texts
need a model such as BERT; vectors of words are rows of the table of token embeddings, which every model has."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.epilog = EPILOG
    add_texts(parser, "texts to turn into vectors")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--similar-to", metavar="TEXT", help="print the texts most similar to this one, and their cosines")
    what.add_argument("--words", action="store_true", help="each text is a word: print its vector without context")
    what.add_argument("--neighbours", metavar="WORD", help="print the words whose vectors are nearest to this one's")
    what.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="print the words nearest to A - B + C")
    parser.add_argument("--count", type=int, default=10, metavar="K", help="texts or words to print (default: 10)")
    parser.add_argument(
        "--pooling", choices=("mean", "cls"), default="mean", help="mean of all tokens or the first (default: mean)"
    )
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model reads")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts read at once (default: 32)")
    parser.add_argument("--json", action="store_true", help="an object a line")


def run(options: dict[str, Any]) -> int:
    """Print what was asked for."""
    for name in ("count", "batch_size"):
        if options[name] < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {options[name]}")
    for name in ("similar_to", "neighbours", "analogy"):
        given = [options[name]] if isinstance(options[name], str) else options[name] or []
        if not all(text.strip() for text in given):
            raise UserError(f"--{name.replace('_', '-')} is empty")
    about_words = options["neighbours"] or options["analogy"]
    if about_words and (options["texts"] or options["file"]):
        raise UserError("texts do not go with --neighbours or --analogy, which are about the vocabulary")
    texts = [] if about_words else given_texts(options)
    from minigpt.checkpoint import load

    model, tokenizer = load(options["folder"])
    for record in _words(model, tokenizer, texts, options) or _texts(model, tokenizer, texts, options):
        print(json.dumps(record, ensure_ascii=False) if options["json"] else _line(record), flush=True)
    return 0


def _words(model: Module, tokenizer: Tokenizer, texts: list[str], options: dict[str, Any]) -> Iterator[dict[str, Any]] | None:
    """What was asked about words, None if it was about texts."""
    from minigpt.embed import Words

    if options["words"]:
        words = Words(model, tokenizer)
        return _vectors(texts, (words.vector(word) for word in texts))
    if options["neighbours"]:
        found = Words(model, tokenizer).neighbours(options["neighbours"], options["count"])
    elif options["analogy"]:
        a, b, c = options["analogy"]
        found = Words(model, tokenizer).analogy(a, b, c, options["count"])
    else:
        return None
    return ({"text": word, "similarity": round(cosine, 6)} for word, cosine in found)


def _texts(model: Any, tokenizer: Tokenizer, texts: list[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from minigpt.embed import nearest, sentence_vectors

    query = options["similar_to"]
    asked = texts if query is None else [*texts, query]
    vectors = sentence_vectors(model, tokenizer, asked, options["pooling"], options["truncate"], options["batch_size"])
    say_cut(tokenizer, asked, model.config.block_size)
    if query is None:
        yield from _vectors(texts, vectors)
    else:
        for row, cosine in nearest(vectors[:-1], vectors[-1], options["count"]):
            yield {"text": texts[row], "similarity": round(cosine, 6)}


def _vectors(texts: Iterable[str], vectors: Iterable[np.ndarray]) -> Iterator[dict[str, Any]]:
    for text, vector in zip(texts, vectors, strict=True):
        yield {"text": text, "vector": [float(f"{x:.7g}") for x in vector]}


def _line(record: dict[str, Any]) -> str:
    if "vector" in record:
        return " ".join(f"{x:g}" for x in record["vector"])
    return f"{record['similarity']:.4f}  {record['text']}"
