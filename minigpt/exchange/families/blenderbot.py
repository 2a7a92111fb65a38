"""Blenderbot (Roller et al. 2020): a BART that normalises what each branch reads."""

from minigpt.exchange.families.bart import ASSUMED, COPIES, FIXED, NAMES, OUTPUT_BIAS, POSITIONS, WRITTEN, settings
from minigpt.exchange.family import Architecture, Family, Row
from minigpt.models.bart import Bart, BartConfig

_FORM = {"positions": "learned", "pre_norm": True, "embedding_norm": False, "output_bias": True}

FAMILY = Family(
    model_type="blenderbot",
    classes={"BlenderbotForConditionalGeneration": Architecture(Bart, OUTPUT_BIAS, _FORM)},
    config=BartConfig,
    settings=settings(
        ASSUMED
        | {"vocab_size": 8008, "block_size": 128, "n_layer": 2, "n_decoder_layer": 24, "n_head": 32, "n_decoder_head": 32}
        | {"n_embd": 2560, "n_inner": 10240, "n_decoder_inner": 10240, "start_token": 1, "end_token": 2, "pad_token": 0}
    ),
    fixed=FIXED,
    written=WRITTEN | {"encoder_no_repeat_ngram_size": 0},
    prefix="model.",
    names=(*NAMES, *(Row(theirs, ours) for theirs, ours in POSITIONS.items())),
    copies=COPIES,
)
