"""What is done to the scores of the next token before one is chosen, whether drawn, greedy or by beam search.

A processor maps (V,) scores, logits or log-probabilities, to (V,) scores, given the sequence so far and the length of
its prompt. It may change the array it is given. Their order is that of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from minigpt.generation.config import GenerationConfig
from minigpt.tokenizer import Tokenizer

Processor = Callable[[np.ndarray, Sequence[int], int], np.ndarray]
Biases = Sequence[tuple[tuple[int, ...], float]]


def processors(
    config: GenerationConfig, tokenizer: Tokenizer, end: int | None = None, never: Sequence[int] = ()
) -> list[Processor]:
    """The processors that a configuration asks for; `end` is the token that ends a text, `never` those that no text has."""
    made: list[Processor] = []
    if config.sequence_bias:
        made.append(partial(sequence_bias, biases=[(_ids(tokenizer, text), bias) for text, bias in config.sequence_bias]))
    if config.repetition_penalty != 1:
        made.append(partial(repetition_penalty, penalty=config.repetition_penalty))
    if config.presence_penalty or config.frequency_penalty:
        made.append(partial(count_penalty, presence=config.presence_penalty, frequency=config.frequency_penalty))
    if config.no_repeat_ngram_size:
        made.append(partial(no_repeat_ngram, size=config.no_repeat_ngram_size))
    if config.bad_words:
        made.append(partial(sequence_bias, biases=[(_ids(tokenizer, word), -np.inf) for word in config.bad_words]))
    if config.min_new_tokens and end is not None:
        made.append(partial(min_new_tokens, least=config.min_new_tokens, end=end))
    if never:
        made.append(partial(without, tokens=np.array(never)))
    return made


def _ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text).tolist())


def sequence_bias(scores: np.ndarray, ids: Sequence[int], prompt: int, biases: Biases) -> np.ndarray:
    """s_w += b for every sequence (v.., w) whose v.. the text ends with; b = -inf bans it.

    transformers' SequenceBiasLogitsProcessor; for single tokens the `logit_bias` of OpenAI's API.
    """
    for (*before, token), bias in biases:
        if not before or list(ids[-len(before) :]) == before:
            scores[token] += bias
    return scores


def repetition_penalty(scores: np.ndarray, ids: Sequence[int], prompt: int, penalty: float) -> np.ndarray:
    """s_w / penalty if s_w > 0, else s_w penalty, for every w in prompt or text (Keskar et al. 2019, CTRL, section 4.1)."""
    seen = np.unique(ids)
    old = scores[seen]
    scores[seen] = np.where(old < 0, old * penalty, old / penalty)
    return scores


def count_penalty(scores: np.ndarray, ids: Sequence[int], prompt: int, presence: float, frequency: float) -> np.ndarray:
    """s_w - presence [c_w > 0] - frequency c_w, c_w being how often w was generated (OpenAI API, "Frequency penalties")."""
    tokens, counts = np.unique(np.array(ids[prompt:], np.int64), return_counts=True)
    scores[tokens] -= presence + frequency * counts
    return scores


def no_repeat_ngram(scores: np.ndarray, ids: Sequence[int], prompt: int, size: int) -> np.ndarray:
    """-inf for every token that would make `size` tokens in a row occur again (Paulus et al. 2017, section 2.5)."""
    if len(ids) >= size:
        windows = np.lib.stride_tricks.sliding_window_view(np.array(ids), size)
        ending = ids[len(ids) - size + 1 :]
        scores[windows[(windows[:, :-1] == ending).all(axis=1), -1]] = -np.inf
    return scores


def min_new_tokens(scores: np.ndarray, ids: Sequence[int], prompt: int, least: int, end: int) -> np.ndarray:
    """-inf for the token that ends the text, until `least` tokens were generated."""
    if len(ids) - prompt < least:
        scores[end] = -np.inf
    return scores


def without(scores: np.ndarray, ids: Sequence[int], prompt: int, tokens: np.ndarray) -> np.ndarray:
    """-inf for some tokens."""
    scores[tokens] = -np.inf
    return scores
