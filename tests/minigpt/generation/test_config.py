"""Every setting refuses what lies outside its interval; NaN lies outside all of them."""

import dataclasses
import math

import pytest

from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig

NUMBERS = [option.name for option in dataclasses.fields(GenerationConfig) if type(option.default) in (int, float)]
EDGES = {
    "temperature": ([0, 1e-300, 1e6], [-1e-9, "1", True]),
    "top_k": ([-1, 0, 10**9], [-2, 2.5, "5", True, 3.0]),
    "top_p": ([1e-9, 1], [0, 1.0001, -0.1]),
    "min_p": ([0, 1], [-0.1, 1.0001]),
    "typical_p": ([1e-9, 1], [0, 1.0001]),
    "repetition_penalty": ([1e-9, 100], [0, -1]),
    "presence_penalty": ([-2, 2], ["x"]),
    "no_repeat_ngram_size": ([0, 3], [-1, 1.5]),
    "max_new_tokens": ([0], [-1, 1.0]),
    "num_beams": ([1], [0, -1]),
    "num_return_sequences": ([1, 3], [0]),
    "prompt_lookup_num_tokens": ([0, 5], [-1]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_may_be_nan_or_infinite(name):
    """Case 246."""
    for value in (math.nan, math.inf, -math.inf, None):
        with pytest.raises(UserError, match=f"^{name} must be"):
            GenerationConfig(**{name: value})


@pytest.mark.parametrize("name", EDGES)
def test_intervals(name):
    """Cases 246, 248 and 249."""
    good, bad = EDGES[name]
    for value in good:
        assert getattr(GenerationConfig(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(UserError, match=f"^{name} must be"):
            GenerationConfig(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_strings": ("",)}, "stop_strings must hold texts that are not empty, not ''"),
        ({"stop_strings": "abc"}, "stop_strings must be a tuple"),
        ({"bad_words": (3,)}, "bad_words must hold texts"),
        ({"sequence_bias": (("a", math.nan),)}, "sequence_bias must add a finite number, not nan"),
        ({"sequence_bias": ("a",)}, "sequence_bias must hold pairs"),
        ({"early_stopping": True}, "early_stopping must be one of no, yes, never"),
        ({"num_beams": 2}, "temperature must be 0, not 1"),
        ({"num_beams": 2, "temperature": 0, "num_return_sequences": 3}, "num_return_sequences 3 is more than num_beams 2"),
        ({"num_beams": 2, "temperature": 0, "prompt_lookup_num_tokens": 3}, "does not go with"),
        ({"temperature": 0, "num_return_sequences": 2}, "would be the same text each time"),
        ({"min_new_tokens": 3, "max_new_tokens": 2}, "min_new_tokens 3 is more than max_new_tokens 2"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    """Case 252."""
    with pytest.raises(UserError, match=message):
        GenerationConfig(**settings)
