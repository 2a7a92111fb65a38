"""`minigpt fill-mask`: the likeliest words for each mask of each text."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from minigpt.commands.inputs import add_texts, given_texts, say_cut
from minigpt.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, besides the model's folder."""
    add_texts(parser, "texts with [MASK] (or as the model's tokenizer spells it) where a word is to be guessed")
    parser.add_argument("--count", type=int, default=5, metavar="K", help="guesses for each mask (default: 5)")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model can read")
    parser.add_argument("--json", action="store_true", help="an object a line")


def run(options: dict[str, Any]) -> int:
    """Each text, and under it a line for each guess, with its probability; a rule between masks."""
    if options["count"] < 1:
        raise UserError(f"--count must be at least 1, not {options['count']}")
    texts = given_texts(options)
    from minigpt.checkpoint import load
    from minigpt.filling import fill_mask

    model, tokenizer = load(options["folder"])
    filled = fill_mask(model, tokenizer, texts, options["count"], options["truncate"])
    say_cut(tokenizer, texts, model.config.block_size, control=True)
    for text, masks in zip(texts, filled, strict=True):
        if options["json"]:
            guesses = [[dataclasses.asdict(guess) for guess in mask] for mask in masks]
            print(json.dumps({"text": text, "masks": guesses}, ensure_ascii=False))
        else:
            lines = ["\n".join(f"  {guess.probability:.4f}  {guess.word}" for guess in mask) for mask in masks]
            print(text, "\n  --\n".join(lines), sep="\n")
    return 0
