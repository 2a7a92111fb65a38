"""Prompts in, text out: what the command line and Python call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigpt.errors import UserError
from minigpt.generation.answers import Answer, Row, Style, drawn, searched, unknown, written
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.texts import several
from minigpt.tokenizer import Tokenizer


def start_ids(model: Any, tokenizer: Tokenizer, prompt: str, truncate: bool = False) -> np.ndarray:
    """The prompt's ids; an empty prompt begins after a line end, or after token 0 if the model knows no line end.

    UserError if the prompt is longer than the context, unless `truncate` keeps only its newest tokens.
    """
    if not prompt:
        return tokenizer.encode("\n") if b"\n" in tokenizer.pieces else np.zeros(1, dtype=np.int64)
    ids = tokenizer.encode(prompt)
    block = model.config.block_size
    if len(ids) > block and not truncate:
        raise UserError(
            f"the prompt has {len(ids)} tokens, but the model's context is {block} (--truncate keeps the last {block})"
        )
    return ids[-block:]


def style_of(model: Any, tokenizer: Tokenizer, config: GenerationConfig) -> Style:
    """How a model that continues texts writes them."""
    return Style(tokenizer, config, tokenizer.end_of_text, unknown(model, tokenizer))


def generate_text(
    model: Any,
    tokenizer: Tokenizer,
    prompt: str = "",
    config: GenerationConfig | None = None,
    rng: np.random.Generator | None = None,
    truncate: bool = False,
) -> Iterator[str]:
    """Yield the continuation of a prompt piece by piece, never half a character; what stays half at the end is U+FFFD.

    UserError as in start_ids, before anything is generated. Tokens are drawn with `rng`; without one, from a fresh seed.
    """
    config = config or GenerationConfig()
    start = start_ids(model, tokenizer, prompt, truncate).tolist()
    context, style = Context(model, [start], config.max_new_tokens), style_of(model, tokenizer, config)
    if config.num_beams > 1:
        return (answer.text for answer in searched(context, [prompt], style)[0][:1])
    row = Row(Answer(prompt), rng or np.random.default_rng(), style.writer())
    return (piece for piece in drawn(context, [row], style) if piece)


def generate_texts(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: GenerationConfig | None = None,
    seed: int = 0,
    truncate: bool = False,
    log_probs: bool = False,
) -> list[Answer]:
    """num_return_sequences answers to each prompt, in order, made together in one batch.

    The i-th answer to a prompt depends on the prompt, the seed and i, not on what else is in the batch. UserError as in
    start_ids, before anything is generated.
    """
    config = config or GenerationConfig()
    starts = [start_ids(model, tokenizer, prompt, truncate).tolist() for prompt in several(prompts, "prompts")]
    order = sorted(range(len(starts)), key=lambda place: len(starts[place]))  # equal lengths together
    context = Context(model, [starts[place] for place in order], config.max_new_tokens)
    found = written(context, [prompts[place] for place in order], style_of(model, tokenizer, config), seed, log_probs)
    by_place = dict(zip(order, found, strict=True))
    return [answer for place in range(len(prompts)) for answer in by_place[place]]
