"""`minigpt generate`: its flags, the prompts it reads, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from minigpt.commands.decoding import add_decoding, check_batch, decoding
from minigpt.commands.inputs import read_lines

if TYPE_CHECKING:
    from minigpt.generation.answers import Answer

RULE = "-" * 20
TEMPERATURE = 0.8
EPILOG = """A prompt and its continuation may outgrow the model's context: the model then goes on from the newest half of the
context, reads up to all of it, and so on, so that each token is predicted from between half and the whole of it."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of GenerationConfig among them."""
    parser.epilog = EPILOG
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default="", metavar="TEXT", help="text to continue (default: a fresh line)")
    prompt.add_argument("--prompts", metavar="FILE", help="a file with a prompt on each line, or - for standard input")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="texts written at once (default: 16)")
    parser.add_argument("--seed", type=int, default=1337, metavar="S", help="same seed, same text (default: 1337)")
    parser.add_argument("--truncate", action="store_true", help="keep only the end of a prompt beyond the context")
    parser.add_argument("--json", action="store_true", help="an object a line: tokens, log-probabilities, timing")
    add_decoding(parser, TEMPERATURE)


def run(options: dict[str, Any]) -> int:
    """Write the texts: one is shown as it is made, several are made in batches and shown one after the other."""
    check_batch(options)
    config = decoding(options, TEMPERATURE)
    prompts = [options["prompt"]] if options["prompts"] is None else read_lines(options["prompts"], "prompts")
    import numpy as np

    from minigpt.checkpoint import load_writer
    from minigpt.generation.text import generate_text, generate_texts, start_ids

    model, tokenizer = load_writer(options["folder"])
    seed, truncate, as_json = options["seed"], options["truncate"], options["json"]
    if len(prompts) * config.num_return_sequences == 1 and not as_json:
        pieces = generate_text(model, tokenizer, prompts[0], config, np.random.default_rng([seed, 0]), truncate)
        _show(prompts[0])
        for piece in pieces:
            _show(piece)
        print()
        return 0
    for prompt in prompts:  # whatever is wrong with one of them is said before anything is generated
        start_ids(model, tokenizer, prompt, truncate)
    size = max(1, options["batch_size"] // config.num_return_sequences)
    for first in range(0, len(prompts), size):
        answers = generate_texts(model, tokenizer, prompts[first : first + size], config, seed, truncate, log_probs=as_json)
        for i, answer in enumerate(answers):
            rule = f"{RULE}\n" if first + i else ""
            _show(f"{json.dumps(record(answer))}\n" if as_json else f"{rule}{answer.prompt}{answer.text}\n")
    return 0


def record(answer: Answer) -> dict[str, Any]:
    """An answer as JSON; seconds are rounded to microseconds."""
    after_first = answer.seconds - answer.first_token_seconds
    rate = round((len(answer.tokens) - 1) / after_first, 1) if after_first > 0 else None
    return {
        "prompt": answer.prompt,
        "text": answer.text,
        "finish": answer.finish,
        "tokens": answer.tokens,
        "log_probs": answer.log_probs,
        "first_token_seconds": round(answer.first_token_seconds, 6),
        "seconds": round(answer.seconds, 6),
        "tokens_per_second": rate,
    }


def _show(text: str) -> None:
    print(text, end="", flush=True)
