"""A training run: steps, now and then an evaluation and a checkpoint, until the end or a request to stop.

Evaluation uses fixed windows and no randomness, so that evaluating more often never changes the weights; nor does saving.
In a team, all go through the same steps and evaluations, and only the leader writes, samples and speaks.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt import checkpoint, diagnostics, facts, folder, parallel, resume, snapshots, tensorfile
from minigpt.config import TrainConfig
from minigpt.data import Corpus, load_corpus
from minigpt.display import Display, next_command, summary
from minigpt.energy import Footprint, Meter
from minigpt.errors import Interrupted, TrainingError, UserError
from minigpt.files import write_whole
from minigpt.generation.config import GenerationConfig
from minigpt.generation.text import generate_text
from minigpt.heldout import baselines, evaluate, held_out
from minigpt.metrics import MetricsLog
from minigpt.objectives.causal import Causal
from minigpt.objectives.shown import shown
from minigpt.plot import loss_svg
from minigpt.pretraining import objective_of
from minigpt.report import report
from minigpt.signals import PIPE, StopRequest
from minigpt.team import Arrays, Team
from minigpt.trainer import Trainer
from tensorgrad.warmup import warm

LOG_INTERVAL = 10  # steps between lines of metrics.jsonl, besides the evaluated steps
FINAL_BATCHES = 10  # the last evaluation uses so many times more batches


@dataclass
class Result:
    """A finished run: the model, its corpus, the records of metrics.jsonl, and losses by name in nats per token."""

    model: Any
    corpus: Corpus
    records: list[dict[str, Any]]
    losses: dict[str, float]


@dataclass
class Run:
    """What the parts of a run share."""

    config: TrainConfig
    out: Path
    corpus: Corpus
    trainer: Trainer
    text: str  # its fingerprint
    saved: int | None = None  # the step of the newest checkpoint


def train(config: TrainConfig, resumed: bool = False) -> Result:
    """Train as configured, or go on with the run in config.out, showing progress; the folder then holds all of the result.

    UserError for unusable data, settings or folder; TrainingError at a loss or gradient that is not finite, before the
    step, and when a checkpoint cannot be written; Interrupted after SIGINT or SIGTERM, or once nobody reads what is shown,
    with everything saved.

    Called by all members of a team, which must see the same files; only the leader's result has records and losses.
    """
    team = parallel.team()
    team.rows(config.batch_size)
    if team.size > 1 and config.data == "-":
        raise UserError(f"--data - gives the text to one of {team.size} processes only; put it into a file")
    if not team.leads:
        return _follow(config, resumed, team)
    out = Path(config.out) if resumed else folder.choose(config.out)
    with team.first():
        corpus = load_corpus(config)
    with folder.opened(out, resumed):
        trainer = _trainer(config, corpus, team)
        run = Run(config, out, corpus, trainer, resume.fingerprint(corpus))
        notes = _restore(run) if resumed else _place(run)
        notes += folder.check_space(out, trainer.model, config.keep_last)
        known = facts.describe(config, corpus, trainer.model)
        facts.write(out, known)
        meter = Meter()
        with MetricsLog(out, trainer.step) as log, Display(config.max_steps) as display, StopRequest() as stop:
            display.say("\n".join([_describe(run), *notes]))
            with team.first():
                warm(training=True, dropout=config.dropout > 0, report=display.compiling)
            for record in _steps(run, stop):
                if record["val_loss"] is not None or record["step"] % LOG_INTERVAL == 0 or "note" in record:
                    log.append(record)
                try:
                    display.step(record)
                except BrokenPipeError:
                    stop.signal = PIPE
        with team.first():
            losses = _report(run, log.records, known, meter)
    _conclude(display, run, losses)
    return Result(trainer.model, corpus, log.records, losses)


def _follow(config: TrainConfig, resumed: bool, team: Team) -> Result:
    """The part of a member that does not lead: the same steps, in silence."""
    with team.first():
        corpus = load_corpus(config)
    trainer = _trainer(config, corpus, team)
    run = Run(config, Path(config.out), corpus, trainer, resume.fingerprint(corpus))
    if resumed:
        _restore(run)
    with StopRequest() as stop:
        with team.first():
            warm(training=True)
        for _ in _steps(run, stop):
            pass
    with team.first():
        return Result(trainer.model, corpus, [], {})


def _trainer(config: TrainConfig, corpus: Corpus, team: Team) -> Trainer:
    return Trainer(config, corpus.train, corpus.tokenizer.vocab_size, team, objective_of(config, corpus.tokenizer))


def _report(run: Run, records: list[dict[str, Any]], known: facts.Facts, meter: Meter) -> dict[str, float]:
    """Write what a run leaves to look at; the losses of the model and of the baselines."""
    corpus, out, config = run.corpus, run.out, run.config
    counting = baselines(corpus, config, config.eval_batches * FINAL_BATCHES, run.trainer.objective)
    write_whole(out / "loss.svg", loss_svg(records, counting, f"minigpt on {Path(corpus.name).name}"))
    known = facts.conclude(known, corpus, counting, str(Footprint(*meter.watts(), records[-1]["seconds"])))
    facts.write(out, known)
    write_whole(out / "report.html", report(records, known))
    return {"this model": records[-1]["val_loss"], **counting}


def _steps(run: Run, stop: StopRequest) -> Iterator[dict[str, Any]]:
    """Yield the record of each step, and save where that is due; Interrupted, all saved, once a stop is asked for."""
    config, trainer, team = run.config, run.trainer, run.trainer.team
    signal = 0
    while trainer.step < config.max_steps and not (signal := team.largest(stop.signal or 0)):
        last = trainer.step + 1 == config.max_steps
        due = last or (trainer.step + 1) % config.eval_interval == 0
        record = trainer.update(diagnose=due and team.leads)
        if due:
            batches = config.eval_batches * (FINAL_BATCHES if last else 1)
            _check_equal(trainer)
            record["val_loss"] = evaluate(trainer.model, run.corpus, config, batches, team, trainer.objective)
            if not math.isfinite(record["val_loss"]):
                raise TrainingError(f"the validation loss became {record['val_loss']} at step {trainer.step}; nothing was saved")
            trainer.observe(record["val_loss"])
            record |= {"memory_mb": diagnostics.memory(), "sample": _sample(run, 120) if team.leads else ""}
        yield record
        if record["val_loss"] is not None or (config.save_interval and trainer.step % config.save_interval == 0):
            _save(run)
        if config.patience and trainer.stale >= config.patience:
            return
    if signal:
        if trainer.step and run.saved != trainer.step:
            _save(run)
        resume_command = f"minigpt train --resume {shlex.quote(str(run.out))}"
        saved = (
            f"after step {trainer.step}, which is saved; {resume_command} goes on" if trainer.step else "before its first step"
        )
        raise Interrupted(f"training stopped {saved}", signal)


def _check_equal(trainer: Trainer) -> None:
    """TrainingError unless all members of the team hold the same weights, bit for bit."""
    total = hashlib.sha256()
    for p in trainer.model.parameters() if trainer.team.size > 1 else ():
        total.update(np.ascontiguousarray(p.data).data)
    digests = trainer.team.allgather(total.digest())
    if strange := ", ".join(str(rank) for rank, digest in enumerate(digests) if digest != digests[0]):
        raise TrainingError(f"process {strange} has other weights than process 0 after step {trainer.step}; nothing was saved")


def _place(run: Run) -> list[str]:
    """Say where a new run goes if that is not where the settings say."""
    asked = run.config.out
    return [] if Path(asked) == run.out else [f"{asked} holds a model already, so this run goes to {run.out}"]


def _restore(run: Run) -> list[str]:
    """Go on from the newest checkpoint that is undamaged; what there is to say about that."""
    team = run.trainer.team
    path, damaged = team.bcast(resume.newest(run.out) if team.leads else None)
    changes = resume.restore(run.trainer, path, run.corpus, run.text, run.config)
    run.saved = run.trainer.step
    notes = [f"warning: {reason}, so an older checkpoint is used" for reason in damaged]
    notes += [f"warning: settings changed since the checkpoint: {', '.join(changes)}"] if changes else []
    return [*notes, f"resumed after step {run.trainer.step}"]


def _save(run: Run) -> None:
    """Publish a checkpoint, then put its model into the output folder itself, then remove what is older than asked to keep."""
    trainer, out = run.trainer, run.out
    arrays, state = trainer.state()
    for name, p in trainer.model.named_parameters():
        if not np.isfinite(p.data).all():
            raise TrainingError(f"the weights of {name} are no longer finite at step {trainer.step}, so they are not saved")
    if not trainer.team.leads:
        run.saved = trainer.step
        return
    try:
        published = snapshots.publish(out, trainer.step, _contents(run, arrays, state))
        for name in checkpoint.FILES:
            write_whole(out / name, (published / name).read_bytes())
        snapshots.rotate(out, run.config.keep_last, trainer.best[1] if trainer.best else None)
    except OSError as error:
        kept = f"the checkpoint of step {run.saved} is as it was" if run.saved else "there is no earlier checkpoint"
        raise TrainingError(f"cannot save step {trainer.step} in {out}: {error.strerror or error}; {kept}") from None
    run.saved = trainer.step


def _contents(run: Run, arrays: Arrays, state: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield from checkpoint.contents(run.trainer.model, run.corpus.tokenizer, run.config)
    yield resume.OPTIMIZER, tensorfile.pack(arrays)
    yield resume.STATE, (json.dumps(state | {"text": run.text}, indent=1, allow_nan=False) + "\n").encode()


def _sample(run: Run, tokens: int) -> str:
    """A text that the model writes now, or what it makes of one with gaps; always from the same random numbers."""
    if not isinstance(run.trainer.objective, Causal):
        return _guesses(run)
    settings = GenerationConfig(max_new_tokens=tokens, temperature=0.8)
    rng = np.random.default_rng(run.config.seed)
    return "".join(generate_text(run.trainer.model, run.corpus.tokenizer, "", settings, rng))


def _guesses(run: Run) -> str:
    """The likeliest token at each target of the first window that is held out."""
    run.trainer.model.eval()
    batch = next(held_out(run.corpus, run.config, 1, run.trainer.objective))
    with tg.no_grad():
        logits = run.trainer.model(*(part[:1] for part in batch.inputs)).numpy()[0]
    return shown(run.corpus.tokenizer, batch.inputs[0][0], batch.targets[0], logits.argmax(axis=-1))


def _describe(run: Run) -> str:
    config, corpus = run.config, run.corpus
    parameters = sum(parameter.size for parameter in run.trainer.model.parameters())
    return (
        f"{corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens, vocabulary "
        f"{corpus.tokenizer.vocab_size:,} ({config.tokenizer})\n"
        f"model: {config.model}, n_layer {config.n_layer}, n_head {config.n_head}, "
        f"n_embd {config.n_embd}, block_size {config.block_size}: {parameters:,} parameters{_shared(run)}"
    )


def _shared(run: Run) -> str:
    team, batch = run.trainer.team, run.config.batch_size
    return f"\n{team.size} processes, {batch // team.size} of the {batch} sequences of a batch each" if team.size > 1 else ""


def _conclude(display: Display, run: Run, losses: dict[str, float]) -> None:
    """The table, a sample, where everything is, and what to type next."""
    console, corpus, trainer = display.console, run.corpus, run.trainer
    console.print()
    console.print(summary(losses, facts.tokens_per_character(run.config, corpus)))
    gpt = run.config.model == "gpt"
    title = "A sample at temperature 0.8" if gpt else "What was hidden, and the likeliest guesses"
    display.say(f"\n{title}:\n\n{_sample(run, 300).strip()}\n")
    if trainer.step < run.config.max_steps:
        display.say(f"Stopped early: {trainer.stale} evaluations without a better validation loss")
    if trainer.best is not None and trainer.best[1] != trainer.step:
        best = run.out / snapshots.FOLDER / snapshots.name_of(trainer.best[1])
        display.say(f"The lowest validation loss, {trainer.best[0]:.4f}, was at step {trainer.best[1]}: {best}")
    files = "config.json, model.safetensors, tokenizer.json, metrics.jsonl, loss.svg, report.html, checkpoints/"
    opening = corpus.tokenizer.decode(corpus.train[: run.config.block_size]).split()
    word = opening[0] if opening else ""
    text = word if gpt else f"{word} {next((w for w in corpus.tokenizer.specials if 'MASK' in w), '')}"
    display.say(f"Saved in {run.out}: {files}\nNext: {next_command(run.config.model, str(run.out), text)}")
