"""M2M-100 (Fan et al. 2020), and NLLB, which says that it is one: pre-norm, with fairseq's sinusoidal positions."""

from minigpt.exchange.families.bart import ASSUMED, COPIES, FIXED, NAMES, WRITTEN, settings
from minigpt.exchange.family import Architecture, Family
from minigpt.models.bart import Bart, BartConfig

_FORM = {"positions": "sinusoidal_after_padding", "pre_norm": True, "embedding_norm": False, "output_bias": False}

FAMILY = Family(
    model_type="m2m_100",
    classes={"M2M100ForConditionalGeneration": Architecture(Bart, config=_FORM)},
    config=BartConfig,
    settings=settings(
        ASSUMED
        | {"attention_dropout": 0.1, "scale_embedding": True, "activation": "relu", "vocab_size": 128112, "block_size": 1024}
        | {"n_layer": 12, "n_decoder_layer": 12, "n_head": 16, "n_decoder_head": 16, "n_embd": 1024}
        | {"n_inner": 4096, "n_decoder_inner": 4096, "start_token": 2, "end_token": 2, "pad_token": 1}
    ),
    fixed=FIXED,
    written=WRITTEN,
    prefix="model.",
    names=NAMES,
    copies=COPIES,
    ignored=("encoder.embed_positions.weights", "decoder.embed_positions.weights"),
)
