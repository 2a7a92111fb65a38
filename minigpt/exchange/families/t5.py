"""T5 and T5 1.1 (Raffel et al. 2020; Shazeer 2020), Flan-T5 and others of their shape."""

from minigpt.exchange.family import OPTIONAL_SIZE, TOKEN, Architecture, Family, Row, Setting
from minigpt.models.t5 import T5, T5Config

_EMBEDDING = "shared.weight"


def _gated(config: T5Config) -> bool:
    return config.feed_forward != "relu"


def _attention(theirs: str, ours: str) -> tuple[Row, ...]:
    return tuple(
        Row(f"{theirs}.{their}.weight", f"{ours}.{our}_proj.weight")
        for their, our in zip("qkvo", ("q", "k", "v", "out"), strict=True)
    )


def _stack(stack: str, feed_forward: int) -> tuple[Row, ...]:
    """What an encoder and a decoder have in common; `feed_forward` is the number of that layer in a block."""
    theirs, ours = f"{stack}.block.{{i}}.layer", f"{stack}.h.{{i}}"
    network = f"{theirs}.{feed_forward}.DenseReluDense"
    return (
        Row(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{stack}.distance.weight"),
        *_attention(f"{theirs}.0.SelfAttention", f"{ours}.attn"),
        Row(f"{theirs}.0.layer_norm.weight", f"{ours}.ln_1.weight"),
        Row(f"{network}.wi_0.weight", f"{ours}.mlp.gate.weight"),
        Row(f"{network}.wi_1.weight", f"{ours}.mlp.up.weight", when=_gated),
        Row(f"{network}.wi.weight", f"{ours}.mlp.up.weight"),
        Row(f"{network}.wo.weight", f"{ours}.mlp.down.weight"),
        Row(f"{theirs}.{feed_forward}.layer_norm.weight", f"{ours}.ln_2.weight"),
        Row(f"{stack}.final_layer_norm.weight", f"{stack}.ln_f.weight"),
    )


FAMILY = Family(
    model_type="t5",
    classes={"T5ForConditionalGeneration": Architecture(T5)},
    config=T5Config,
    settings=(
        Setting("vocab_size", "vocab_size", 32128),
        Setting("n_layer", "num_layers", 6),
        Setting("n_decoder_layer", "num_decoder_layers", None, OPTIONAL_SIZE, read=lambda value: value or 0),
        Setting("n_head", "num_heads", 8),
        Setting("n_embd", "d_model", 512),
        Setting("n_inner", "d_ff", 2048),
        Setting("head_size", "d_kv", 64),
        Setting("n_buckets", "relative_attention_num_buckets", 32),
        Setting("farthest", "relative_attention_max_distance", 128),
        Setting("dropout", "dropout_rate", 0.1),
        Setting(
            "feed_forward",
            "feed_forward_proj",
            "relu",
            values={"relu": "relu", "gated-gelu": "gated_gelu", "gated-silu": "gated_silu"},
        ),
        Setting("tied", ("scale_decoder_outputs", "tie_word_embeddings"), True),  # newer files say the second of all
        Setting("norm_eps", "layer_norm_epsilon", 1e-6),
        Setting("start_token", "decoder_start_token_id", 0, TOKEN),
        Setting("end_token", "eos_token_id", 1, TOKEN),
        Setting("pad_token", "pad_token_id", 0, TOKEN),
    ),
    fixed={"is_encoder_decoder": (True,)},
    written={"use_cache": True},
    names=(
        Row(_EMBEDDING, "wte.weight"),
        Row("lm_head.weight", "head.weight"),
        *_stack("encoder", 1),
        *_stack("decoder", 2),
        *_attention("decoder.block.{i}.layer.1.EncDecAttention", "decoder.h.{i}.cross"),
        Row("decoder.block.{i}.layer.1.layer_norm.weight", "decoder.h.{i}.ln_cross.weight"),
    ),
    copies=dict.fromkeys(("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), _EMBEDDING),
    alike={"lm_head.weight": _EMBEDDING},
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
