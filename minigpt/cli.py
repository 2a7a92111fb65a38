"""The command line: train, generate, evaluate and more. What a command needs is imported when it runs, so help is instant.

Exit codes: 0 done; 1 training or a check failed; 2 a mistake in what was typed or given; 130 interrupted by Ctrl-C and 143
by SIGTERM, which training answers by finishing its step and saving (a second one ends it at once). A reader of the output
who leaves ends a command quietly with 0, but training as a signal does, with 141.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from minigpt import parallel
from minigpt.commands import answer, chat, classify, data, embed, evaluate, fill_mask, finetune, generate, translate, verify
from minigpt.config import TrainConfig, resolve
from minigpt.errors import Interrupted, MinigptError, UserError
from minigpt.options import add_flags, suggest


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
        if unknown:
            parser.unknown(unknown[0])
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


def _parser() -> Parser:
    parser = Parser(prog="minigpt", description="Train, run, draw and check small GPT language models.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _add_train,
        _add_generate,
        _add_chat,
        _add_finetune,
        _add_classify,
        _add_tag,
        _add_answer,
        _add_translate,
        _add_fill_mask,
        _add_embed,
        _add_watch,
        _add_evaluate,
        _add_data,
        _add_draw,
        _add_check,
        _add_verify,
    ):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> Parser:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "train a model on text, by default on the manual inside Python")
    parser.add_argument("--config", metavar="FILE", help="TOML or JSON file of settings, named like the flags")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder; flags change its settings")
    add_flags(parser, TrainConfig)


def _add_generate(commands: Any) -> None:
    parser = _command(commands, "generate", generate.run, "write text with a trained model, shown as it is made")
    _add_folder(parser)
    generate.add_flags(parser)


def _add_chat(commands: Any) -> None:
    parser = _command(commands, "chat", chat.run, "talk with a model that was fine-tuned for it")
    _add_folder(parser)
    chat.add_flags(parser)


def _add_translate(commands: Any) -> None:
    parser = _command(commands, "translate", translate.run, "write a text for each text, with an encoder-decoder")
    _add_folder(parser)
    translate.add_flags(parser)


def _add_fill_mask(commands: Any) -> None:
    parser = _command(commands, "fill-mask", fill_mask.run, "guess the masked words of a text")
    _add_folder(parser)
    fill_mask.add_flags(parser)


def _add_embed(commands: Any) -> None:
    parser = _command(commands, "embed", embed.run, "turn texts or words into vectors, and find which are similar")
    _add_folder(parser)
    embed.add_flags(parser)


def _add_finetune(commands: Any) -> None:
    parser = _command(commands, "finetune", finetune.run, "let a trained model learn a task from a table of examples")
    _add_folder(parser)
    finetune.add_flags(parser)


def _add_classify(commands: Any) -> None:
    parser = _command(commands, "classify", classify.run, "say of what class a text is, with a model fine-tuned for it")
    _add_folder(parser)
    classify.add_flags(parser)


def _add_tag(commands: Any) -> None:
    parser = _command(
        commands, "tag", classify.run_tag, "say of what kind each word of a text is, with a model fine-tuned for it"
    )
    _add_folder(parser)
    classify.add_flags(parser)


def _add_answer(commands: Any) -> None:
    parser = _command(commands, "answer", answer.run, "answer questions from texts, with a model fine-tuned for it")
    _add_folder(parser)
    answer.add_flags(parser)


def _add_watch(commands: Any) -> None:
    _add_folder(_command(commands, "watch", _watch, "show a training run as it goes on"))


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", evaluate.run, "measure how well a model predicts a text")
    _add_folder(parser)
    evaluate.add_flags(parser)


def _add_data(commands: Any) -> None:
    parser = commands.add_parser("data", help="look at a text before training", description="Look at a text before training.")
    inside = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    data.add_flags(_command(inside, "stats", data.run, "count characters and tokens, entropies and mutual information"))


def _add_draw(commands: Any) -> None:
    parser = _command(commands, "draw", _draw, "draw the graph of a model")
    _add_folder(parser)
    parser.add_argument("--out", required=True, metavar="FILE.svg", help="picture to write")
    parser.add_argument("--depth", type=int, metavar="D", help="levels of modules to draw (default: as many as can be read)")


def _add_check(commands: Any) -> None:
    text = "compare a model's gradients and Hessian-vector products with finite differences"
    _add_folder(_command(commands, "check", _check, text))


def _add_verify(commands: Any) -> None:
    text = "check that a model is equal cached and uncached, batched and single, saved and loaded, and so on"
    _add_folder(_command(commands, "verify", verify.run, text))


def _add_folder(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a trained model")


def _train(options: dict[str, Any]) -> int:
    parallel.share_cores()
    config_file, resumed = options.pop("config"), options.pop("resume")
    if resumed is None:
        config = resolve(options, config_file)
    else:
        from minigpt.resume import settings

        config = settings(Path(resumed), options, config_file)
    parallel.team()
    from minigpt.train import train

    train(config, resumed=resumed is not None)
    return 0


def _watch(options: dict[str, Any]) -> int:
    from minigpt.display import Output
    from minigpt.watch import watch

    watch(Path(options["folder"]), Output())
    return 0


def _draw(options: dict[str, Any]) -> int:
    if options["depth"] is not None and options["depth"] < 0:
        raise UserError(f"--depth must be at least 0, not {options['depth']}")
    import numpy as np

    import tensorgrad as tg
    from minigpt.checkpoint import load

    model, _ = load(options["folder"])
    ids = np.zeros((1, min(8, model.config.block_size or 8)), dtype=np.int64)
    try:
        tg.render(tg.draw(_end(model, ids), depth=options["depth"]), options["out"])
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{error}") from None
    except OSError as error:
        raise UserError(f"cannot write {options['out']}: {error.strerror or error}") from None
    print(f"Drawn in {options['out']}")
    return 0


def _end(model: Any, ids: Any) -> Any:
    """Where the graph ends: in the loss of a model that continues texts, in what any other gives for texts."""
    from minigpt.checkpoint import continues

    if continues(model):
        return model.loss(ids, ids)
    return model(ids, ids) if hasattr(model, "encode") else model(ids)


def _check(options: dict[str, Any]) -> int:
    from rich.table import Table

    from minigpt.check import check_model
    from minigpt.checkpoint import load_writer
    from minigpt.display import Output

    model, _ = load_writer(options["folder"])
    table = Table(title=f"{options['folder']} in float64, against finite differences", title_justify="left")
    for heading in ("check", "ours", "reference", "difference", "limit", ""):
        table.add_column(heading, justify="left" if heading == "check" else "right")
    console = Output(width=None if sys.stdout.isatty() else 120)
    failures = 0
    with console.status("checking (the first time, kernels are compiled)"):
        lines = list(check_model(model))
    for line in lines:
        numbers = (line.ours, line.reference), (line.difference, line.limit)
        cells = [f"{x:.6e}" for x in numbers[0]] + [f"{x:.0e}" for x in numbers[1]]
        table.add_row(line.name, *cells, "pass" if line.passed else "FAIL", style=None if line.passed else "bold red")
        failures += not line.passed
    console.print(table)
    print(f"{failures} of {table.row_count} checks failed" if failures else f"all {table.row_count} checks passed")
    return 1 if failures else 0
