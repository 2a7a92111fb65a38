"""`minigpt chat`: its flags, the messages it takes, and the answers as they are made."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minigpt.commands.decoding import add_decoding, decoding
from minigpt.commands.generate import record
from minigpt.commands.inputs import read_lines
from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.conversation import Conversation

TEMPERATURE = 0.5
PROMPT = "> "
EPILOG = """Without a message, and in a terminal, the chat goes on until Ctrl-D; Ctrl-C ends an answer. When a chat outgrows the
model's context, the oldest questions and answers are no longer read, which is said; the system's message stays."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of GenerationConfig among them."""
    parser.epilog = EPILOG
    parser.add_argument("message", nargs="?", metavar="MESSAGE", help="one message to answer (default: standard input)")
    parser.add_argument("--file", metavar="FILE", help="a file with the message, or - for standard input")
    parser.add_argument("--system", metavar="TEXT", help="what the assistant is told before all else")
    parser.add_argument("--seed", type=int, default=1337, metavar="S", help="same seed, same answers (default: 1337)")
    parser.add_argument("--json", action="store_true", help="an object for each answer: tokens, timing")
    add_decoding(parser, TEMPERATURE)


def run(options: dict[str, Any]) -> int:
    """Answer one message, or hold a conversation in a terminal."""
    if options["seed"] < 0:
        raise UserError(f"--seed must be at least 0, not {options['seed']}")
    config = decoding(options, TEMPERATURE)
    message = _message(options)
    import numpy as np

    from minigpt.checkpoint import load_writer
    from minigpt.conversation import Conversation

    model, tokenizer = load_writer(options["folder"])
    conversation = Conversation(model, tokenizer, options["system"], config, np.random.default_rng(options["seed"]))
    if message is not None:
        _answer(conversation, message, options["json"])
        return 0
    for line in _lines():
        try:
            with _interruptible():
                _answer(conversation, line, options["json"])
        except UserError as error:
            print(f"minigpt: {error}", file=sys.stderr)
    return 0


def _message(options: dict[str, Any]) -> str | None:
    """The message given as an argument, in a file or on standard input; None where a conversation begins in a terminal."""
    if options["message"] is not None and options["file"] is not None:
        raise UserError(f"the message comes as an argument or from --file {options['file']}, not both")
    if options["message"] is not None or (options["file"] is None and sys.stdin.isatty()):
        return options["message"]
    return "\n".join(read_lines(options["file"] or "-", "messages", keep_empty=True)).strip()


def _answer(conversation: Conversation, message: str, as_json: bool) -> None:
    """Show the answer as it is made, or as an object once it is whole, and what is not as it should be."""
    unread = conversation.unread
    pieces = conversation.answer(message)
    if conversation.unread > unread:
        print(f"minigpt: the context is full: the oldest {conversation.unread} messages are no longer read", file=sys.stderr)
    with contextlib.closing(pieces):
        for piece in pieces:
            if not as_json:
                print(piece, end="", flush=True)
    answered = conversation.answered
    shown = {name: value for name, value in record(answered).items() if name != "log_probs"}  # which a chat does not ask for
    print(json.dumps(shown) if as_json else "", flush=True)
    if answered.finish == "length" and len(answered.tokens) < conversation.config.max_new_tokens:
        print("minigpt: the context is full, so the answer ends here", file=sys.stderr)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the answer, not the chat."""
    try:
        yield
    except KeyboardInterrupt:
        print()


def _lines() -> Iterator[str]:
    """What is typed, line by line, until the end of the input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, so that lines can be edited and brought back
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return
        if line.strip():
            yield line
