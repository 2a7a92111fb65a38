"""`minigpt classify` and `minigpt tag`: the class of each text, or the tag of each of its words."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minigpt.commands.inputs import add_texts, given_texts, say_cut


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of both commands, besides the model's folder."""
    add_texts(parser, "texts to classify" if parser.prog.endswith("classify") else "texts whose words are tagged")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model can read")
    parser.add_argument("--json", action="store_true", help="an object a line")


def run(options: dict[str, Any]) -> int:
    """A line for each text: its class and how likely that is; with --json, the probabilities of all classes."""
    texts = given_texts(options)
    from minigpt.checkpoint import load
    from minigpt.classifying import classify

    model, tokenizer = load(options["folder"])
    classified = classify(model, tokenizer, texts, options["truncate"])
    say_cut(tokenizer, texts, model.config.block_size)
    for text, found in zip(texts, classified, strict=True):
        if options["json"]:
            print(json.dumps({"text": text, "label": found.label, "probabilities": found.probabilities}, ensure_ascii=False))
        else:
            print(f"{found.label}\t{found.probabilities[found.label]:.3f}\t{text}")
    return 0


def run_tag(options: dict[str, Any]) -> int:
    """A line for each text: its words, each with a slash and its tag; with --json, lists of both."""
    texts = given_texts(options)
    from minigpt.checkpoint import load
    from minigpt.tagging import tag

    model, tokenizer = load(options["folder"])
    tagged = tag(model, tokenizer, texts, options["truncate"])
    say_cut(tokenizer, texts, model.config.block_size)
    for text, found in zip(texts, tagged, strict=True):
        if options["json"]:
            words, tags = [word for word, _ in found], [label for _, label in found]
            print(json.dumps({"text": text, "words": words, "tags": tags}, ensure_ascii=False))
        else:
            print(" ".join(f"{word}/{label}" for word, label in found))
    return 0
