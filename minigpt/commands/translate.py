"""`minigpt translate`: its flags, the texts it reads, and what it prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from minigpt.commands.decoding import add_decoding, check_batch, decoding
from minigpt.commands.generate import record
from minigpt.commands.inputs import add_texts, given_texts, say_longer
from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig

if TYPE_CHECKING:
    from minigpt.tokenizer import Tokenizer

EPILOG = """For any model that reads one text and writes another: translations, pronunciations, summaries. It writes what is
likeliest, token by token; --num-beams 4 looks further, --temperature 1 draws."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of GenerationConfig among them."""
    parser.epilog = EPILOG
    add_texts(parser, "texts to translate")
    parser.add_argument("--score", metavar="TABLE", help="translate a .tsv, .csv or .jsonl and print how right that is")
    parser.add_argument("--source-column", default="source", metavar="NAME", help="its texts to read (default: source)")
    parser.add_argument("--target-column", default="target", metavar="NAME", help="its texts that are right (default: target)")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what every answer begins with, such as a language's token")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model reads")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts read at once (default: 32)")
    parser.add_argument("--seed", type=int, default=1337, metavar="S", help="same seed, same draws (default: 1337)")
    parser.add_argument("--json", action="store_true", help="an object a line: tokens, log-probabilities, timing")
    add_decoding(parser, 0)


def run(options: dict[str, Any]) -> int:
    """Print the answers to each text, each on a line of its own, or figures of all texts of a table."""
    check_batch(options)
    config = decoding(options, 0)
    if options["score"] is not None:
        return _score(options, config)
    texts = given_texts(options)
    from minigpt.checkpoint import load
    from minigpt.generation.translate import translate

    model, tokenizer = load(options["folder"])
    answers = translate(model, tokenizer, texts, config, log_probs=options["json"], **_how(options))
    _say_cut(model, tokenizer, texts)
    for answer in answers:
        print(json.dumps(record(answer)) if options["json"] else answer.text)
    return 0


def _score(options: dict[str, Any], config: GenerationConfig) -> int:
    if options["texts"] or options["file"]:
        raise UserError(f"texts do not go with --score {options['score']}, which has its own")
    from minigpt.checkpoint import load
    from minigpt.finetuning.table import read_table
    from minigpt.generation.translate import score

    table = read_table(options["score"])
    sources = table.texts(options["source_column"], "--source-column")
    targets = table.texts(options["target_column"], "--target-column")
    model, tokenizer = load(options["folder"])
    found = score(model, tokenizer, sources, targets, config, **_how(options))
    _say_cut(model, tokenizer, dict.fromkeys(sources))
    if options["json"]:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(
                f"{name.replace('_', ' '):<16} {value:>9,}" if name == "texts" else f"{name.replace('_', ' '):<16} {value:9.4f}"
            )
    return 0


def _say_cut(model: Any, tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    from minigpt.generation.translate import source_ids

    if model.config.block_size is not None:
        lengths = [len(source_ids(tokenizer, text, model.config.end_token)) for text in texts]
        say_longer(lengths, model.config.block_size)


def _how(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("prefix", "truncate", "seed", "batch_size")}
