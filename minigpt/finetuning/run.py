"""A fine-tuning from beginning to end: a folder and a table in, a folder with the new model and how good it is out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import tensorgrad as tg
from minigpt import checkpoint
from minigpt.display import Display
from minigpt.errors import Interrupted, TrainingError, UserError
from minigpt.examples import Example
from minigpt.exchange import pretrained
from minigpt.exchange.storage import CONFIG
from minigpt.files import write_whole
from minigpt.finetuning import adapter
from minigpt.finetuning.loop import Loop, measured
from minigpt.finetuning.lora import adapted, add_lora, merge
from minigpt.finetuning.parameters import freeze
from minigpt.finetuning.picture import curves
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.split import split, split_classes
from minigpt.finetuning.table import Table, read_table
from minigpt.finetuning.tasks.task import Task
from minigpt.folder import opened
from minigpt.metrics import MetricsLog
from minigpt.signals import PIPE, StopRequest
from minigpt.tokenizer import Tokenizer
from tensorgrad.nn import Module

TASKS = {
    "lm": "lm.LanguageModelling",
    "chat": "chat.Chat",
    "classify": "classify.Classification",
    "tag": "tag.Tagging",
    "answer": "answer.Extraction",
    "seq2seq": "seq2seq.SequenceToSequence",
    "embed": "embed.Embedding",
}
RESULTS = "results.json"
Parts = tuple[list[Example], list[Example]]


def finetune(base: Path | str, config: FinetuneConfig, console: Console | None = None) -> dict[str, Any]:
    """Fine-tune the model of the folder `base`, and write config.out; its figures on the rows held out, before and after, and
    on config.test.

    UserError for whatever does not fit, before anything is learned or written; TrainingError for a loss that is not finite.
    Ctrl-C and SIGTERM let it finish its step, measure and save: then it raises Interrupted.  Once the model is saved, while
    the rest is measured, they end it at once.
    """
    _refuse(Path(config.out))
    table = read_table(config.data)
    test = None if config.test is None else read_table(config.test)
    model, tokenizer = checkpoint.load(base)
    _add_its_adapter(model, base, config)
    task = task_of(config, model, tokenizer)
    init, parted, order, drop = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(4))
    learned, held = _parts(task, table, config, parted)
    tested = [] if test is None else [example for row in task.read(test) for example in row]
    model = _learner(task, model, config, init)
    out, loop = Path(config.out), Loop(model, task, config, len(learned))
    with opened(out, resume=False), Display(loop.steps, console) as shown, MetricsLog(out) as log:
        _introduce(shown, model, task, learned, held)
        before = measured(model, task, held)
        if not math.isfinite(before["loss"]):
            raise TrainingError(f"the loss is {before['loss']} before anything is learned; the weights of {base} may be damaged")
        shown.say(f"before: {said(before)}")
        with StopRequest() as stop:
            loop.run(learned, held, order, drop, lambda record: _tell(record, log, shown, stop), stop)
            results: dict[str, Any] = {"task": config.task, "before": before, "held_out": loop.figures}
            write_whole(out / "curves.svg", curves(log.records, task.shown, f"fine-tuning to {config.task}"))
            _write(results, config)
            save(model, task.tokenizer, out, base, config)
        if stop.signal is not None:
            reached = f"stopped after step {log.records[-1]['step']} of {loop.steps}"
            raise Interrupted(f"{reached}; the best weights so far are saved in {out}", stop.signal)
        results["held_out"] = loop.figures | task.written(model, held)
        if tested:
            results["test"] = measured(model, task, tested) | task.written(model, tested)
        with tg.no_grad():
            for name, svg in task.pictures(model, tested or held).items():
                write_whole(out / name, svg)
        _write(results, config)
    return results


def _write(results: dict[str, Any], config: FinetuneConfig) -> None:
    text = json.dumps(results | {"settings": dataclasses.asdict(config)}, indent=2)
    write_whole(Path(config.out) / RESULTS, text + "\n")


def task_of(config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> Task:
    """The task by its name; UserError if the model cannot learn it."""
    module, _, name = TASKS[config.task].partition(".")
    return getattr(import_module(f"minigpt.finetuning.tasks.{module}"), name)(config, model, tokenizer)


def save(model: Module, tokenizer: Tokenizer, out: Path, base: Path | str, config: FinetuneConfig) -> None:
    """A whole model, or an adapter for `base` with the model's config.json and tokenizer beside it."""
    if config.lora_rank and config.merge:
        merge(model)
    files = pretrained.contents(model, tokenizer)
    if config.lora_rank and not config.merge:
        files = chain(_description(files), adapter.contents(model, str(Path(base).resolve())))
    for name, content in files:
        write_whole(out / name, content)


def _description(files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """All but the weights, which come last and are not even made."""
    for name, content in files:
        yield name, content
        if name == CONFIG:
            return


def _refuse(out: Path) -> None:
    if any((out / name).exists() for name in (checkpoint.WEIGHTS, adapter.WEIGHTS)):
        raise UserError(f"{out} holds a model already; choose another --out")


def _add_its_adapter(model: Module, base: Path | str, config: FinetuneConfig) -> None:
    """Make the adapter that `base` may be a part of its model; UserError if another is to be saved on top of it alone."""
    if adapted(model) and config.lora_rank and not config.merge:
        raise UserError(
            f"{base} is an adapter, on top of which no other can be saved: fine-tune it without lora_rank or with merge, for a "
            "whole model, or write it as one first with minigpt.save_pretrained"
        )
    merge(model)


def _parts(task: Task, table: Table, config: FinetuneConfig, rng: np.random.Generator) -> Parts:
    """The examples to learn from and those held out; all of a row are on one side."""
    rows, classes = task.read(table), task.classes(table)
    parts = split(len(rows), config.held_out, rng) if classes is None else split_classes(classes, config.held_out, rng)
    learned, held = ([example for i in part for example in rows[i]] for part in parts)
    if not learned or not held:
        raise UserError(f"{table.name} has no tokens to learn from")
    return learned, held


def _learner(task: Task, model: Any, config: FinetuneConfig, rng: np.random.Generator) -> Module:
    """The model under the task's head, with what shall not be learned frozen, and low-rank changes if asked for."""
    known = {name for name, _ in getattr(model, "bert", model).named_parameters()}
    learner = task.start(model, rng)
    if not config.lora_rank:
        freeze(learner, config.freeze)
        return learner
    add_lora(learner, config.lora_rank, config.lora_alpha, config.lora_targets, rng)
    if hasattr(learner, "bert"):  # a head learns as a whole
        for name, p in learner.named_parameters():
            p.requires_grad = p.requires_grad or name.removeprefix("bert.") not in known
    return learner


def _introduce(shown: Display, model: Module, task: Task, learned: Sequence[Example], held: Sequence[Example]) -> None:
    total = sum(p.size for p in model.parameters())
    moving = sum(p.size for p in model.parameters() if p.requires_grad)
    shown.say(f"{moving:,} of {total:,} parameters learn from {len(learned):,} examples; {len(held):,} are held out")
    if task.shortened:
        shown.say(f"{task.shortened:,} texts were cut to what the model can read")


def _tell(record: dict[str, Any], log: MetricsLog, shown: Display, stop: StopRequest) -> None:
    log.append(record)
    try:
        shown.step(record)
        if record["val_loss"] is not None:
            shown.say("  " + said({name: value for name, value in record.items() if name not in _PLAIN}))
    except BrokenPipeError:
        stop.signal = PIPE


_PLAIN = ("step", "loss", "val_loss", "lr", "grad_norm", "tokens_per_second", "seconds")


def said(figures: dict[str, float]) -> str:
    """Figures on a line."""
    return "  ".join(
        f"{name.replace('_', ' ')} {value:{',' if isinstance(value, int) else '.4f'}}" for name, value in figures.items()
    )
