"""The command line: train, generate, evaluate and more. What a command needs is imported when it runs, so help is instant.

Exit codes: 0 done; 1 training or a check failed; 2 a mistake in what was typed or given; 130 interrupted by Ctrl-C and 143
by SIGTERM, which training answers by finishing its step and saving (a second one ends it at once). A reader of the output
who leaves ends a command quietly with 0, but training as a signal does, with 141.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from minigpt import parallel
from minigpt.commands import (
    answer,
    chat,
    check,
    classify,
    data,
    draw,
    embed,
    evaluate,
    fill_mask,
    finetune,
    generate,
    train,
    translate,
    verify,
    watch,
)
from minigpt.errors import Interrupted, MinigptError, UserError
from minigpt.options import suggest


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def unknown(self, word: str) -> NoReturn:
        """Refuse a word that no flag accounts for, with the flags that look like it."""
        close = suggest(word.split("=")[0], self._option_string_actions)
        raise UserError(f"unknown argument {word}{close or f' (see {self.prog} --help)'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows "?" for it
            stream.reconfigure(errors="replace")
    try:
        parsed, unknown = _parser().parse_known_args(arguments)
        options = vars(parsed)
        run, parser = options.pop("run"), options.pop("parser")
        if late := _late(options, unknown):
            parser.unknown(late[0])
        code = run(options)
        sys.stdout.flush()
        return code
    except MinigptError as error:
        return parallel.leave(f"minigpt: {error}", error.exit_code, together=isinstance(error, Interrupted))
    except KeyboardInterrupt:
        return parallel.leave("\nminigpt: interrupted", 130)
    except BrokenPipeError:  # whoever read our output has had enough; let the last flush go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return parallel.leave("", 0)
    except MemoryError as error:
        return parallel.leave(f"minigpt: there is not enough memory: {error}".rstrip(": "), 1)
    except OSError as error:
        return parallel.leave(f"minigpt: {error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except Exception:
        parallel.crashed()
        raise


def _late(options: dict[str, Any], words: Sequence[str]) -> Sequence[str]:
    """Give a command its texts that come after a flag, which argparse leaves over, and return what is still unknown."""
    end = words.index("--") if "--" in words else len(words)
    if flags := [word for word in words[:end] if word.startswith("-")]:
        return flags
    texts = [*words[:end], *words[end + 1 :]]
    if "texts" in options:
        options["texts"], texts = options["texts"] + texts, []
    elif texts and options.get("message", "") is None:
        options["message"], *texts = texts
    return texts


class Command(NamedTuple):
    """One command: what its help says, its flags besides the model's folder, and what it does."""

    name: str
    text: str
    run: Callable[[dict[str, Any]], int]
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    folder: bool = True  # whether it works on a model's


COMMANDS = (
    Command("train", "train a model on text, by default on the manual inside Python", train.run, train.add_flags, folder=False),
    Command("generate", "write text with a trained model, shown as it is made", generate.run, generate.add_flags),
    Command("chat", "talk with a model that was fine-tuned for it", chat.run, chat.add_flags),
    Command("finetune", "let a trained model learn a task from a table of examples", finetune.run, finetune.add_flags),
    Command("classify", "say of what class a text is, with a model fine-tuned for it", classify.run, classify.add_flags),
    Command(
        "tag", "say of what kind each word of a text is, with a model fine-tuned for it", classify.run_tag, classify.add_flags
    ),
    Command("answer", "answer questions from texts, with a model fine-tuned for it", answer.run, answer.add_flags),
    Command("translate", "write a text for each text, with an encoder-decoder", translate.run, translate.add_flags),
    Command("fill-mask", "guess the masked words of a text", fill_mask.run, fill_mask.add_flags),
    Command("embed", "turn texts or words into vectors, and find which are similar", embed.run, embed.add_flags),
    Command("watch", "show a training run as it goes on", watch.run),
    Command("evaluate", "measure how well a model predicts a text", evaluate.run, evaluate.add_flags),
    Command("draw", "draw the graph of a model", draw.run, draw.add_flags),
    Command("check", "compare a model's gradients and Hessian-vector products with finite differences", check.run),
    Command(
        "verify", "check that a model is equal cached and uncached, batched and single, saved and loaded, and so on", verify.run
    ),
)
DATA = (
    Command("stats", "count characters and tokens, entropies and mutual information", data.run, data.add_flags, folder=False),
)


def _parser() -> Parser:
    parser = Parser(prog="minigpt", description="Train, fine-tune, run, draw and check small language models.")
    commands = _add(parser, COMMANDS)
    text = "look at a text before training"
    _add(commands.add_parser("data", help=text, description=text), DATA)
    return parser


def _add(parser: argparse.ArgumentParser, known: Sequence[Command]) -> Any:
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in known:
        one = commands.add_parser(command.name, help=command.text, description=command.text, allow_abbrev=False)
        one.set_defaults(run=command.run, parser=one)
        if command.folder:
            one.add_argument("folder", metavar="DIR", help="folder of a trained model")
        command.add_flags(one)
    return commands
