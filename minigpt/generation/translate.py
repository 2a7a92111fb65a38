"""Texts in, texts out, by an encoder-decoder: translations, pronunciations, summaries, whatever it has learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigpt.errors import UserError
from minigpt.generation.answers import Answer, Style, unknown, written
from minigpt.generation.config import GenerationConfig
from minigpt.generation.source import SourceContext
from minigpt.models.seq2seq import EncoderDecoder
from minigpt.overlap import figures
from minigpt.texts import several
from minigpt.tokenizer import Tokenizer

GREEDY = GenerationConfig(temperature=0)


def translate(
    model: Any,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    config: GenerationConfig = GREEDY,
    *,
    prefix: str = "",
    truncate: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    log_probs: bool = False,
) -> list[Answer]:
    """num_return_sequences answers to each text, in order; `batch_size` texts of similar length are read at once.

    Each answer begins with `prefix`, in which control tokens are read as such: "__es__" tells an M2M-100 to write Spanish.
    The i-th answer to a text depends on the text, the seed and i.  UserError, before anything is written, if the model is no
    encoder-decoder, a text is empty, or longer than the model's positions unless `truncate` keeps only its beginning.
    """
    model = encoder_decoder(model)
    end, positions = model.config.end_token, model.config.block_size
    start = [model.config.start_token, *tokenizer.encode(prefix, control=True).tolist()]
    if positions is not None:
        room = max(0, positions - len(start))
        config = dataclasses.replace(
            config, max_new_tokens=min(config.max_new_tokens, room), min_new_tokens=min(config.min_new_tokens, room)
        )
    sources = [source_ids(tokenizer, text, end, positions, truncate) for text in several(texts)]
    padding = {model.config.pad_token, model.config.start_token} - {end}
    style = Style(tokenizer, config, end, (*padding, *unknown(model, tokenizer)))
    order = np.argsort([-len(source) for source in sources], kind="stable").tolist()
    answers: dict[int, list[Answer]] = {}
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        context = SourceContext(model, [sources[row] for row in rows], start, config.max_new_tokens)
        found = written(context, [texts[row] for row in rows], style, seed, log_probs)
        answers |= dict(zip(rows, found, strict=True))
    for answer in (answer for row in answers.values() for answer in row):
        answer.text = _spelled(tokenizer, answer, model, config)
    return [answer for row in range(len(texts)) for answer in answers[row]]


def score(
    model: Any,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
    config: GenerationConfig = GREEDY,
    **how: Any,
) -> dict[str, float]:
    """How far the best answer to each source is what it should be: minigpt.overlap's figures.

    A source that occurs several times is read once, and each of its targets is right.  `how` is as in `translate`, whose
    errors this raises too.
    """
    wanted: dict[str, list[str]] = {}
    for source, target in zip(sources, targets, strict=True):
        wanted.setdefault(source, []).append(target)
    answers = translate(model, tokenizer, [*wanted], dataclasses.replace(config, num_return_sequences=1), **how)
    return figures([answer.text for answer in answers], [*wanted.values()])


def encoder_decoder(model: Any) -> EncoderDecoder:
    """The model itself; UserError if it is none that reads one text and writes another."""
    if not isinstance(model, EncoderDecoder):
        raise UserError(f"a {type(model).__name__} does not translate: an encoder-decoder is needed, such as T5")
    return model


def source_ids(tokenizer: Tokenizer, text: str, end: int, length: int | None = None, truncate: bool = False) -> np.ndarray:
    """The tokens of a text in the tokenizer's template, with the end token last in any case.

    UserError for a text without any, and for one of more than `length` tokens unless `truncate`, which keeps its beginning.
    """
    if not text.strip():
        raise UserError("a text to read is empty")
    ids = tokenizer.encode_pair(text).ids
    ids = ids[:-1] if len(ids) and ids[-1] == end else ids
    if length is not None and len(ids) >= length:
        if not truncate:
            raise UserError(
                f"a text has {len(ids) + 1:,} tokens, but the model reads {length:,} at most (truncate cuts such texts): "
                f"{text[:40]}..."
            )
        ids = ids[: length - 1]
    return np.append(ids, end)


def _spelled(tokenizer: Tokenizer, answer: Answer, model: EncoderDecoder, config: GenerationConfig) -> str:
    """The text of an answer as the tokenizer spells it, without control tokens, up to a stop string."""
    special = {model.config.start_token, model.config.end_token, model.config.pad_token, *tokenizer.specials.values()}
    text = tokenizer.decode(token for token in answer.tokens if token not in special)
    if answer.finish == "stop" and answer.tokens[-1] != model.config.end_token:
        text = text[: min(text.rfind(stop) for stop in config.stop_strings if stop in text)]
    return text
