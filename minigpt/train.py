"""Training: draw a batch, differentiate the loss, clip, step; now and then evaluate and save.

Evaluation uses fixed windows and no randomness, so that evaluating more often never changes the weights. Three
independent random streams, from one seed, feed the initial weights, the choice of batches and dropout.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

import tensorgrad as tg
from minigpt import checkpoint
from minigpt.baselines import markov_losses
from minigpt.config import TrainConfig
from minigpt.data import Corpus, load_corpus, random_batch, windows
from minigpt.display import Display, next_command, summary
from minigpt.errors import TrainingError, UserError
from minigpt.files import write_whole
from minigpt.generate import Sampling, generate_text
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.plot import loss_svg
from tensorgrad.warmup import warm

LOG_INTERVAL = 10  # steps between lines of metrics.jsonl, besides the evaluated steps
FINAL_BATCHES = 10  # the last evaluation uses so many times more batches


@dataclass
class Result:
    """A finished run: the model, its corpus, the records of metrics.jsonl, and losses by name in nats per token."""

    model: GPT
    corpus: Corpus
    records: list[dict[str, Any]]
    losses: dict[str, float]


def train(config: TrainConfig) -> Result:
    """Train as configured, showing progress, and leave the model, metrics.jsonl and loss.svg in config.out.

    UserError for unusable data or folder; TrainingError at a loss or gradient that is not finite, before the step.
    """
    corpus = load_corpus(config)
    out = _make_folder(config.out)
    init_rng, data_rng, dropout_rng = (np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(3))
    model = GPT(_model_config(config, corpus), init_rng)
    records = []
    with open(out / "metrics.jsonl", "w", encoding="utf-8") as metrics, Display(config.max_steps) as display:
        display.say(_describe(config, corpus, model))
        warm(training=True, report=display.compiling)
        for record in steps(config, model, corpus, data_rng, dropout_rng):
            evaluated = record["val_loss"] is not None
            if evaluated:
                _require_finite(record["val_loss"], "validation loss", record["step"])
                checkpoint.save(out, model, corpus.tokenizer, config)
            if evaluated or record["step"] % LOG_INTERVAL == 0:
                records.append(record)
                _append(metrics, record)
            display.step(record)
    baselines = markov_losses(corpus.train, corpus.validation, corpus.tokenizer.vocab_size)
    losses = {"this model": records[-1]["val_loss"], **baselines}
    write_whole(out / "loss.svg", loss_svg(records, baselines, f"minigpt on {Path(corpus.name).name}"))
    _conclude(display, config, model, corpus, losses)
    return Result(model, corpus, records, losses)


def steps(
    config: TrainConfig,
    model: GPT,
    corpus: Corpus,
    data_rng: np.random.Generator,
    dropout_rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Train the model in place and yield the record of each step, evaluated every eval_interval steps and at the end."""
    groups = tg.optim.decay_groups(model, config.weight_decay)
    optimizer = tg.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))
    began, pace = time.perf_counter(), 0.0
    for step in range(1, config.max_steps + 1):
        started = time.perf_counter()
        record = {"step": step} | _update(config, model, optimizer, step, corpus, data_rng, dropout_rng)
        took = time.perf_counter() - started
        pace = 0.9 * pace + 0.1 * took if step > 2 else took  # seconds a step, of late; the first may have compiled kernels
        last = step == config.max_steps
        if last or step % config.eval_interval == 0:
            record["val_loss"] = evaluate(model, corpus, config, config.eval_batches * (FINAL_BATCHES if last else 1))
        record["tokens_per_second"] = config.batch_size * config.block_size / pace
        record["seconds"] = time.perf_counter() - began
        yield record


def _update(
    config: TrainConfig,
    model: GPT,
    optimizer: tg.optim.AdamW,
    step: int,
    corpus: Corpus,
    data_rng: np.random.Generator,
    dropout_rng: np.random.Generator,
) -> dict[str, Any]:
    """One step of AdamW on one random batch; TrainingError before the weights change if a number is not finite."""
    assert config.min_lr is not None and config.warmup_steps is not None
    lr = tg.optim.warmup_cosine(step - 1, config.learning_rate, config.min_lr, config.warmup_steps, config.max_steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
    ids, targets = random_batch(corpus.train, config.batch_size, config.block_size, data_rng)
    model.train()
    optimizer.zero_grad()
    loss = model.loss(ids, targets, rng=dropout_rng)
    value = loss.item()
    _require_finite(value, "loss", step)
    loss.backward()
    norm = optimizer.clipped_step(config.grad_clip or sys.float_info.max)
    _require_finite(norm, "gradient norm", step)
    return {"loss": value, "val_loss": None, "lr": lr, "grad_norm": norm}


def evaluate(model: GPT, corpus: Corpus, config: TrainConfig, batches: int) -> float:
    """Mean loss in nats per token over evenly spread windows that do not overlap, at most `batches` batches of them."""
    tokens = corpus.validation
    block = min(config.block_size, len(tokens) - 1)
    whole = (len(tokens) - 1) // block
    count = min(whole, batches * config.batch_size)
    starts = np.arange(count) * whole // count * block
    model.eval()
    total = 0.0
    with tg.no_grad():
        for chosen in np.split(starts, range(config.batch_size, count, config.batch_size)):
            total += model.loss(*windows(tokens, chosen, block)).item() * len(chosen)
    return total / count


def _require_finite(value: float, what: str, step: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the {what} became {value} at step {step}, so training stopped without changing the weights, and the files "
            "saved last are kept; a lower --learning-rate or --grad-clip usually helps"
        )


def _make_folder(name: str) -> Path:
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "metrics.jsonl").touch()
    except OSError as error:
        raise UserError(f"cannot write to the folder {path}: {error.strerror or error}") from None
    return path


def _model_config(config: TrainConfig, corpus: Corpus) -> GPTConfig:
    return GPTConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        bias=config.bias,
    )


def _append(metrics: IO[str], record: dict[str, Any]) -> None:
    metrics.write(json.dumps(record, allow_nan=False) + "\n")
    metrics.flush()


def _describe(config: TrainConfig, corpus: Corpus, model: GPT) -> str:
    parameters = sum(parameter.size for parameter in model.parameters())
    return (
        f"{corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens, vocabulary "
        f"{corpus.tokenizer.vocab_size:,} ({config.tokenizer})\nmodel: n_layer {config.n_layer}, n_head {config.n_head}, "
        f"n_embd {config.n_embd}, block_size {config.block_size}: {parameters:,} parameters"
    )


def _conclude(display: Display, config: TrainConfig, model: GPT, corpus: Corpus, losses: dict[str, float]) -> None:
    """The table, a sample, where everything is, and what to type next."""
    console = display.console
    console.print()
    console.print(summary(losses, len(corpus.validation) / corpus.validation_characters))
    rng = np.random.default_rng(config.seed)
    sample = "".join(generate_text(model, corpus.tokenizer, "", 300, Sampling(temperature=0.8), rng))
    display.say(f"\nA sample at temperature 0.8:\n\n{sample.strip()}\n")
    files = "config.json, model.safetensors, tokenizer.json, metrics.jsonl, loss.svg"
    opening = corpus.tokenizer.decode(corpus.train[: config.block_size]).split()
    display.say(f"Saved in {config.out}: {files}\nNext: {next_command(config.out, opening[0] if opening else '')}")
