"""How text is generated: one dataclass, named as in transformers' GenerationConfig, is also the flags of the command line.

Only the standard library is imported here, so that help and mistaken flags are answered at once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from minigpt.errors import UserError
from minigpt.options import check_value, option

EarlyStopping = Literal["no", "yes", "never"]


@dataclass(frozen=True)
class GenerationConfig:
    """All settings of one generation; raises UserError on a value of the wrong type or outside its interval.

    Strategies: temperature 0 is greedy; num_beams above 1 is beam search; else tokens are drawn. Texts are given, and
    become tokens when the tokenizer is known.
    """

    max_new_tokens: int = option(500, "tokens to add", "[0, 1000000000]")
    min_new_tokens: int = option(0, "tokens before which nothing may end the text", "[0, 1000000000]")
    temperature: float = option(1.0, "divides the logits; 0 is greedy", "[0, inf)")
    top_k: int = option(0, "draw from the K likeliest; 0 for all", "[-1, inf)")
    top_p: float = option(1.0, "draw from the likeliest of mass P", "(0, 1]")
    min_p: float = option(0.0, "draw from those at least P times as likely as the likeliest", "[0, 1]")
    typical_p: float = option(1.0, "draw from the most typical of mass P", "(0, 1]")
    repetition_penalty: float = option(
        1.0, "positive logits of tokens that occurred are divided by it, negative ones multiplied", "(0, inf)"
    )
    presence_penalty: float = option(0.0, "taken from the logits of tokens that were generated", "(-inf, inf)")
    frequency_penalty: float = option(0.0, "the same, for each time", "(-inf, inf)")
    no_repeat_ngram_size: int = option(0, "no N tokens in a row occur twice; 0 for off", "[0, 1000000000]")
    bad_words: tuple[str, ...] = option((), "a text that must not be written")
    sequence_bias: tuple[tuple[str, float], ...] = option((), "a text, and what is added to the logit that would complete it")
    stop_strings: tuple[str, ...] = option((), "end before this text")
    num_beams: int = option(1, "beams of a beam search; 1 for none", "[1, 1000]")
    length_penalty: float = option(1.0, "a beam's log-probability is divided by its length to this power", "(-inf, inf)")
    early_stopping: EarlyStopping = option(  # noqa: RUF009
        "no", "beams end when enough are done and no better one is likely; at once; or when no better one can come"
    )
    num_return_sequences: int = option(1, "texts for each prompt", "[1, 100000]")
    prompt_lookup_num_tokens: int = option(0, "tokens guessed from what was written before, verified in one step", "[0, 10000]")
    max_matching_ngram_size: int = option(2, "longest ending that is looked up for a guess", "[1, 10000]")

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if isinstance(f.default, tuple):
                _check_texts(f.name, getattr(self, f.name))
            else:
                check_value(self, f.name)
        self._check_together()

    def _check_together(self) -> None:
        beams, returned = self.num_beams, self.num_return_sequences
        if beams > 1 and self.temperature > 0:
            raise UserError(f"num_beams {beams} draws nothing at random, so temperature must be 0, not {self.temperature}")
        if beams > 1 and self.prompt_lookup_num_tokens:
            raise UserError(f"num_beams {beams} does not go with prompt_lookup_num_tokens {self.prompt_lookup_num_tokens}")
        if beams > 1 and returned > beams:
            raise UserError(f"num_return_sequences {returned} is more than num_beams {beams}")
        if beams == 1 and self.temperature == 0 and returned > 1:
            raise UserError(f"num_return_sequences {returned} would be the same text each time, as temperature is 0")
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens {self.max_new_tokens}")


def _check_texts(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)):
        raise UserError(f"{name} must be a tuple, not {value!r}")
    for item in value:
        text = item
        if name == "sequence_bias":
            if not (isinstance(item, (tuple, list)) and len(item) == 2 and type(item[1]) in (int, float)):
                raise UserError(f"{name} must hold pairs of a text and a number, not {item!r}")
            text = item[0]
            if not math.isfinite(item[1]):
                raise UserError(f"{name} must add a finite number, not {item[1]}")
        if not isinstance(text, str) or not text:
            raise UserError(f"{name} must hold texts that are not empty, not {text!r}")
