"""run.json: what is true of a run as a whole, kept for its report and for those who watch it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from minigpt.config import TrainConfig
from minigpt.data import Corpus
from minigpt.errors import UserError
from minigpt.files import write_whole
from minigpt.statistics import measure
from tensorgrad.nn import Module

NAME = "run.json"
Facts = dict[str, Any]


def describe(config: TrainConfig, corpus: Corpus, model: Module) -> Facts:
    """The facts known when training begins."""
    c = config
    return {
        "name": Path(corpus.name).name,
        "model": f"{c.model}, {sum(p.size for p in model.parameters()):,} parameters: n_layer {c.n_layer}, n_head {c.n_head}, "
        f"n_embd {c.n_embd}, block_size {c.block_size}",
        "max_steps": c.max_steps,
        "tokens_per_character": tokens_per_character(config, corpus),
        "settings": dataclasses.asdict(c),
    }


def tokens_per_character(config: TrainConfig, corpus: Corpus) -> float | None:
    """Of the validation text; None for a model that does not predict every token, whose loss is no code length."""
    return len(corpus.validation) / corpus.validation_characters if config.model == "gpt" else None


def conclude(facts: Facts, corpus: Corpus, baselines: dict[str, float], energy: str) -> Facts:
    """The facts with those that are known, or worth computing, when it ends."""
    found = measure(corpus.train, corpus.tokenizer.vocab_size)
    numbers = (1, 2, 4, 8, 16, 32)
    statistics = {
        "training tokens": f"{len(corpus.train):,}",
        "validation tokens": f"{len(corpus.validation):,}",
        "vocabulary": f"{corpus.tokenizer.vocab_size:,} ({corpus.tokenizer.kind})",
        "different tokens": f"{found.types:,}",
        "type/token ratio": f"{found.type_token_ratio:.6f}",
        **{f"bits a token, {n} before it known": f"{h:.4f}" for n, h in enumerate(found.conditional)},
        **{
            f"mutual information at distance {d}, bits": f"{found.information[d - 1]:.5f}"
            for d in numbers
            if d <= len(found.information)
        },
    }
    uniform = math.log(corpus.tokenizer.vocab_size)
    return facts | {"baselines": {**baselines, "uniform": uniform}, "statistics": statistics, "energy": energy}


def write(out: Path, facts: Facts) -> None:
    """Leave the facts in the output folder."""
    write_whole(out / NAME, json.dumps(facts, indent=1) + "\n")


def read(out: Path) -> Facts:
    """The facts of a run; UserError if there are none."""
    try:
        facts = json.loads((out / NAME).read_bytes())
        if not isinstance(facts, dict) or type(facts["max_steps"]) is not int or not isinstance(facts["name"], str):
            raise ValueError("it lacks what a run writes there")
    except OSError as error:
        raise UserError(f"{out} is not the folder of a training run: cannot read {NAME}: {error.strerror or error}") from None
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{out / NAME} is damaged: {error}") from None
    return facts
