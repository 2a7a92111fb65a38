"""`minigpt translate`: its flags, the texts it reads, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minigpt.commands.decoding import add_decoding, check_batch, decoding
from minigpt.commands.generate import record
from minigpt.commands.inputs import add_texts, given_texts

EPILOG = """For any model that reads one text and writes another: translations, pronunciations, summaries. It writes what is
likeliest, token by token; --num-beams 4 looks further, --temperature 1 draws."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of GenerationConfig among them."""
    parser.epilog = EPILOG
    add_texts(parser, "texts to translate")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what every answer begins with, such as a language's token")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model reads")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts read at once (default: 32)")
    parser.add_argument("--seed", type=int, default=1337, metavar="S", help="same seed, same draws (default: 1337)")
    parser.add_argument("--json", action="store_true", help="an object a line: tokens, log-probabilities, timing")
    add_decoding(parser, 0)


def run(options: dict[str, Any]) -> int:
    """Print the answers to each text, each on a line of its own."""
    check_batch(options)
    config, texts = decoding(options, 0), given_texts(options)
    from minigpt.checkpoint import load
    from minigpt.generation.translate import translate

    model, tokenizer = load(options["folder"])
    how = {name: options[name] for name in ("prefix", "truncate", "seed", "batch_size")}
    for answer in translate(model, tokenizer, texts, config, log_probs=options["json"], **how):
        print(json.dumps(record(answer)) if options["json"] else answer.text)
    return 0
