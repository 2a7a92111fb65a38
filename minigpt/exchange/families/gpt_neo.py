"""GPT-Neo (Black et al. 2021): queries of every other layer see the last 256 keys, and scores are not scaled."""

from typing import Any

from minigpt.exchange.activations import activation
from minigpt.exchange.family import OPTIONAL_SIZE, Architecture, Family, Kind, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

_FORM = {
    "norm": "layer",
    "positions": "learned",
    "gated": False,
    "attention_scale": 1.0,
    "out_bias": True,
    "mlp_bias": True,
}
_HEADS = (Row("lm_head.weight", "head.weight"),)


def _layers(groups: list[Any]) -> tuple[bool, ...]:
    """[[["global", "local"], 12]] -> whether each of the 24 layers is local."""
    try:
        kinds = [kind for names, times in groups for kind in [*names] * times]
    except (TypeError, ValueError):
        raise ValueError("a list of [names of layers, times] is expected") from None
    if not {*kinds} <= {"global", "local"}:
        raise ValueError("only global and local layers are supported")
    return tuple(kind == "local" for kind in kinds)


FAMILY = Family(
    model_type="gpt_neo",
    classes={
        "GPTNeoForCausalLM": Architecture(Decoder, _HEADS, _FORM),
        "GPTNeoModel": Architecture(Decoder, config=_FORM, bare=True),
    },
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50257),
        Setting("block_size", "max_position_embeddings", 2048),
        Setting("n_layer", "num_layers", 24),
        Setting("n_head", "num_heads", 16),
        Setting("n_embd", "hidden_size", 2048),
        Setting("n_inner", "intermediate_size", None, OPTIONAL_SIZE, read=lambda value: value or 0),
        Setting("dropout", ("resid_dropout", "embed_dropout"), 0.0),
        Setting("attention_dropout", "attention_dropout", 0.0),
        activation("activation_function", "gelu_new"),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
        Setting("window", "window_size", 256),
        Setting(
            "local",
            "attention_types",
            [[["global", "local"], 12]],
            kind=Kind(lambda value: isinstance(value, list), "a list"),
            read=_layers,
            write=lambda local: [[["local" if one else "global" for one in local], 1]],
        ),
        Setting("tied", "tie_word_embeddings", True),
    ),
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="transformer.",
    names=(
        Row("wte.weight", "wte.weight"),
        Row("wpe.weight", "wpe.weight"),
        Row("h.{i}.ln_{j}.{p}", "h.{i}.ln_{j}.{p}"),
        Row("h.{i}.attn.attention.q_proj.{p}", "h.{i}.attn.q_proj.{p}"),
        Row("h.{i}.attn.attention.k_proj.{p}", "h.{i}.attn.k_proj.{p}"),
        Row("h.{i}.attn.attention.v_proj.{p}", "h.{i}.attn.v_proj.{p}"),
        Row("h.{i}.attn.attention.out_proj.{p}", "h.{i}.attn.out_proj.{p}"),
        Row("h.{i}.mlp.c_fc.{p}", "h.{i}.mlp.up.{p}"),
        Row("h.{i}.mlp.c_proj.{p}", "h.{i}.mlp.down.{p}"),
        Row("ln_f.{p}", "ln_f.{p}"),
    ),
    copies={"lm_head.weight": "wte.weight"},
    ignored=("h.{i}.attn.attention.bias", "h.{i}.attn.attention.masked_bias"),
)
