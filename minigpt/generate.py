"""Text from a model: one token at a time, with a key-value cache, past the end of the context too.

The context is a window on the sequence. While the sequence fits, the window is all of it and each step runs the model
on one token. Positions are learned, so a full window cannot simply be moved: when the sequence outgrows it, the window
starts again with the newest half and is filled from there (`window_start`). Each token is thus predicted from between
half and the whole of the context, whether or not there is a cache.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import tensorgrad as tg
from minigpt.errors import MinigptError, UserError
from minigpt.models.gpt import GPT
from minigpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: temperature 0 is greedy, top_k 0 (or -1) and top_p 1 are off; UserError on a bad value."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be a number from 0 up, not {self.temperature}")
        if type(self.top_k) is not int or not -1 <= self.top_k:
            raise UserError(f"top_k must be a positive integer, or 0 for no limit, not {self.top_k}")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be in (0, 1], not {self.top_p}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def choose(logits: np.ndarray, sampling: Sampling, rng: np.random.Generator) -> int:
    """(V,) -> one token: softmax(logits / temperature), cut to the top k and to the nucleus of mass top_p, and drawn.

    Ties with the k-th logit are kept; the nucleus (Holtzman et al. 2020, section 3.1) keeps at least one token.
    """
    if np.isnan(logits).any() or not np.isfinite(logits.max()):
        raise MinigptError("the model produced logits that are not numbers; its weights may be damaged")
    if sampling.temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, as it should
        scores = (logits.astype(np.float64) - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores[scores < np.partition(scores, -sampling.top_k)[-sampling.top_k]] = -np.inf
    weights = np.exp(scores)
    if sampling.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p * weights.sum()]] = 0
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative / cumulative[-1], rng.random(), side="right"))


def window_start(length: int, block_size: int) -> int:
    """Where the context begins that predicts the token after `length` tokens; it moves by half a block at a time."""
    if length <= block_size:
        return 0
    step = max(1, block_size // 2)
    return -(-(length - block_size) // step) * step


def generate(
    model: GPT,
    ids: Sequence[int] | np.ndarray,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Yield max_new_tokens tokens that continue ids (n,), drawn with `rng`; without one, from a fresh seed."""
    sampling = sampling or Sampling()
    rng = rng or np.random.default_rng()
    block = model.config.block_size
    sequence = [int(token) for token in ids]
    start = 0
    cache = None
    for _ in range(max_new_tokens):
        moved = window_start(len(sequence), block)
        if cache is None or moved != start:
            start, cache = moved, model.new_cache()
            fresh = sequence[start:]
        else:
            fresh = sequence[-1:]
        with tg.no_grad():
            logits = model(np.array([fresh]), cache=cache).numpy()[0, -1]  # (V,)
        sequence.append(choose(logits, sampling, rng))
        yield sequence[-1]


def start_ids(model: GPT, tokenizer: Tokenizer, prompt: str, truncate: bool = False) -> np.ndarray:
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


def generate_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str = "",
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    rng: np.random.Generator | None = None,
    truncate: bool = False,
) -> Iterator[str]:
    """Yield the continuation of a prompt piece by piece, never half a character; what stays half at the end is U+FFFD.

    UserError as in start_ids, before anything is generated.
    """
    ids = start_ids(model, tokenizer, prompt, truncate)
    return _stream(tokenizer, generate(model, ids, max_new_tokens, sampling, rng))


def _stream(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        if text := decoder.decode(tokenizer.piece(token)):
            yield text
    if rest := decoder.decode(b"", final=True):
        yield rest
