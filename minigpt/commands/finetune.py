"""`minigpt finetune`: a trained model learns a task from a table of examples."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from minigpt.errors import Interrupted
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.options import add_flags as add_options
from minigpt.signals import PIPE

USES = {
    "lm": "generate {} --prompt ...",
    "chat": "chat {}",
    "classify": "classify {} ...",
    "tag": "tag {} ...",
    "answer": "answer {} QUESTION --knowledge FOLDER",
    "seq2seq": "translate {} ...",
    "embed": "embed {} ...",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of FinetuneConfig, besides the model's folder."""
    add_options(parser, FinetuneConfig)


def run(options: dict[str, Any]) -> int:
    """Fine-tune, and say how well it went; Interrupted if whoever reads that leaves before there is a model."""
    folder = options.pop("folder")
    config = FinetuneConfig(**options)
    from minigpt.finetuning.run import finetune, said

    try:
        results = finetune(folder, config)
    except BrokenPipeError:
        raise Interrupted("whoever read the output has left, and nothing was saved", PIPE) from None
    for name, what in (("held_out", f"{config.held_out:.0%} held out"), ("test", config.test)):
        if name in results:
            print(f"{what}: {said(results[name])}")
    print(f"Saved in {config.out}; to use it: minigpt {USES[config.task].format(shlex.quote(config.out))}")
    return 0
