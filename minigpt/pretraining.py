"""What --model stands for: the equations, and what they learn from a text."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.models import bert, gpt, seq2seq
from minigpt.models.bert import BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import MaskedLM
from minigpt.models.layers import Rng
from minigpt.models.t5 import T5, T5Config
from minigpt.objectives.causal import Causal
from minigpt.objectives.masked import Masked
from minigpt.objectives.objective import IGNORED, Batch, Objective
from minigpt.objectives.spans import Spans
from minigpt.tokenizer import Tokenizer
from tensorgrad import Tensor
from tensorgrad.nn import Module

BLOCKS = (gpt.Block, bert.Block, seq2seq.Block)


def objective_of(config: TrainConfig, tokenizer: Tokenizer) -> Objective:
    """What is learned; UserError if the tokenizer lacks the special tokens for it."""
    match config.model:
        case "bert":
            return Masked(tokenizer, config.whole_words)
        case "t5":
            return Spans(tokenizer, config.block_size)
        case _:
            return Causal()


def model_of(config: TrainConfig, vocab_size: int, objective: Objective, rng: np.random.Generator) -> Any:
    """A new model of the shape that the settings ask for; UserError for settings that make none."""
    sizes = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "dropout")} | {"vocab_size": vocab_size}
    try:
        if isinstance(objective, Masked):
            return MaskedLM(BERTConfig(**sizes, block_size=config.block_size, attention_dropout=config.dropout), rng)
        if isinstance(objective, Spans):
            tokens: dict[str, Any] = {"start_token": objective.start, "pad_token": objective.start, "end_token": objective.end}
            return T5(T5Config(**sizes, **tokens, feed_forward="gated_gelu", tied=False), rng)  # version 1.1
    except ValueError as error:
        raise UserError(str(error)) from None
    return GPT(model_config(config, vocab_size), rng)


def model_config(config: TrainConfig, vocab_size: int) -> GPTConfig:
    """The shape of the GPT that the settings ask for."""
    return GPTConfig(
        vocab_size=vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        bias=config.bias,
    )


def blocks(model: Module) -> list[Module]:
    """The blocks that a model is a stack of."""
    return [module for module in model.modules() if isinstance(module, BLOCKS)]


def predicted(model: Any, batch: Batch, rows: slice = slice(None), rng: Rng = None) -> tuple[Tensor, np.ndarray]:
    """Logits (.., V) and targets (..) of some rows of a batch; a model that can leaves out where there is no target."""
    inputs, targets = [part[rows] for part in batch.inputs], batch.targets[rows]
    if isinstance(model, MaskedLM):
        where = np.nonzero(targets != IGNORED)
        return model(*inputs, rng=rng, where=where), targets[where]
    return model(*inputs, rng=rng), targets
