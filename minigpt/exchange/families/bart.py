"""BART (Lewis et al. 2020), and what the families of its shape have in common with it."""

from collections.abc import Mapping
from typing import Any

from minigpt.exchange.activations import activation
from minigpt.exchange.changes import ROW, after_rows
from minigpt.exchange.family import TOKEN, Architecture, Family, Row, Setting
from minigpt.models.bart import Bart, BartConfig

_THEIRS = {
    "vocab_size": "vocab_size",
    "block_size": "max_position_embeddings",
    "n_layer": "encoder_layers",
    "n_decoder_layer": "decoder_layers",
    "n_head": "encoder_attention_heads",
    "n_decoder_head": "decoder_attention_heads",
    "n_embd": "d_model",
    "n_inner": "encoder_ffn_dim",
    "n_decoder_inner": "decoder_ffn_dim",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "scale_embedding": "scale_embedding",
}
_TOKENS = {"start_token": "decoder_start_token_id", "end_token": "eos_token_id", "pad_token": "pad_token_id"}
ASSUMED = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0, "scale_embedding": False, "activation": "gelu"}


def settings(assumed: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The settings of a family, given what it assumes where a file is silent, by our names."""
    return (
        *(Setting(ours, theirs, assumed[ours]) for ours, theirs in _THEIRS.items()),
        *(Setting(ours, theirs, assumed[ours], TOKEN) for ours, theirs in _TOKENS.items()),
        activation("activation_function", assumed["activation"]),
    )


def _attention(theirs: str, ours: str, norm: str) -> tuple[Row, ...]:
    """An attention and the norm beside it."""
    maps = (Row(f"{theirs}.{name}_proj.{{p}}", f"{ours}.{name}_proj.{{p}}") for name in ("q", "k", "v", "out"))
    return (*maps, Row(f"{theirs}_layer_norm.{{p}}", f"{norm}.{{p}}"))


def _stack(stack: str) -> tuple[Row, ...]:
    """What an encoder and a decoder have in common, in any of the families."""
    theirs, ours = f"{stack}.layers.{{i}}", f"{stack}.h.{{i}}"
    return (
        Row(f"{stack}.layernorm_embedding.{{p}}", f"{stack}.ln.{{p}}"),
        *_attention(f"{theirs}.self_attn", f"{ours}.attn", f"{ours}.ln_1"),
        Row(f"{theirs}.fc1.{{p}}", f"{ours}.mlp.up.{{p}}"),
        Row(f"{theirs}.fc2.{{p}}", f"{ours}.mlp.down.{{p}}"),
        Row(f"{theirs}.final_layer_norm.{{p}}", f"{ours}.ln_2.{{p}}"),
        Row(f"{stack}.layer_norm.{{p}}", f"{stack}.ln_f.{{p}}"),
    )


NAMES = (
    Row("shared.weight", "wte.weight"),
    *_stack("encoder"),
    *_stack("decoder"),
    *_attention("decoder.layers.{i}.encoder_attn", "decoder.h.{i}.cross", "decoder.h.{i}.ln_cross"),
)
POSITIONS = {f"{stack}.embed_positions.weight": f"{stack}.positions.table.weight" for stack in ("encoder", "decoder")}
COPIES = dict.fromkeys(("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight")
OUTPUT_BIAS = (Row("final_logits_bias", "output_bias", ROW),)
FIXED = {"is_encoder_decoder": (True,), "tie_word_embeddings": (True,)}
WRITTEN = {
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "use_cache": True,
}
_FORM = {"positions": "learned", "pre_norm": False, "embedding_norm": True}

FAMILY = Family(
    model_type="bart",
    classes={
        "BartForConditionalGeneration": Architecture(Bart, OUTPUT_BIAS, _FORM | {"output_bias": True}),
        "BartModel": Architecture(Bart, config=_FORM | {"output_bias": False}, bare=True),
    },
    config=BartConfig,
    settings=settings(
        ASSUMED
        | {"vocab_size": 50265, "block_size": 1024, "n_layer": 12, "n_decoder_layer": 12, "n_head": 16, "n_decoder_head": 16}
        | {"n_embd": 1024, "n_inner": 4096, "n_decoder_inner": 4096, "start_token": 2, "end_token": 2, "pad_token": 1}
    ),
    fixed=FIXED,
    written=WRITTEN,
    prefix="model.",
    names=(*NAMES, *(Row(theirs, ours, after_rows(2)) for theirs, ours in POSITIONS.items())),
    copies=COPIES,
    ignored=("encoder.version", "decoder.version"),
)
