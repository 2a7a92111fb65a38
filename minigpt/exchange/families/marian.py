"""Marian (Junczys-Dowmunt et al. 2018): the transformer of its first paper, without a norm of the embeddings."""

from minigpt.exchange.families.bart import ASSUMED, COPIES, FIXED, NAMES, OUTPUT_BIAS, WRITTEN, settings
from minigpt.exchange.family import Architecture, Family
from minigpt.models.bart import Bart, BartConfig

_FORM = {"positions": "sinusoidal", "pre_norm": False, "embedding_norm": False, "output_bias": True}

FAMILY = Family(
    model_type="marian",
    classes={"MarianMTModel": Architecture(Bart, OUTPUT_BIAS, _FORM)},
    config=BartConfig,
    settings=settings(
        ASSUMED
        | {"vocab_size": 58101, "block_size": 1024, "n_layer": 12, "n_decoder_layer": 12, "n_head": 16, "n_decoder_head": 16}
        | {"n_embd": 1024, "n_inner": 4096, "n_decoder_inner": 4096, "start_token": 58100, "end_token": 0, "pad_token": 58100}
    ),
    fixed=FIXED | {"share_encoder_decoder_embeddings": (True,)},
    written=WRITTEN,
    prefix="model.",
    names=NAMES,
    copies=COPIES,
    ignored=("encoder.embed_positions.weight", "decoder.embed_positions.weight"),
)
