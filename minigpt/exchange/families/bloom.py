"""BLOOM (Scao et al. 2022): biases that grow with distance, and a norm after the embedding."""

from minigpt.exchange.changes import INTERLEAVED
from minigpt.exchange.family import Architecture, Family, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

_FORM = {
    "norm": "layer",
    "embedding_norm": True,
    "positions": "alibi",
    "activation": "gelu_tanh",
    "gated": False,
    "attention_bias": True,
    "out_bias": True,
    "mlp_bias": True,
}

FAMILY = Family(
    model_type="bloom",
    classes={
        "BloomForCausalLM": Architecture(Decoder, (Row("lm_head.weight", "head.weight"),), _FORM),
        "BloomModel": Architecture(Decoder, config=_FORM, bare=True),
    },
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 250880),
        Setting("block_size", "seq_length", 2048),  # nothing limits it but what it was trained on
        Setting("n_layer", ("n_layer", "num_hidden_layers"), 2),
        Setting("n_head", ("n_head", "num_attention_heads"), 8),
        Setting("n_embd", ("hidden_size", "n_embed"), 64),
        Setting("dropout", "hidden_dropout", 0.0),
        Setting("attention_dropout", "attention_dropout", 0.0),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
        Setting("tied", "tie_word_embeddings", True),
    ),
    fixed={"apply_residual_connection_post_layernorm": (False,)},
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="transformer.",
    names=(
        Row("word_embeddings.weight", "wte.weight"),
        Row("word_embeddings_layernorm.{p}", "ln_e.{p}"),
        Row("h.{i}.input_layernorm.{p}", "h.{i}.ln_1.{p}"),
        Row("h.{i}.self_attention.query_key_value.{p}", "h.{i}.attn.{q,k,v}_proj.{p}", INTERLEAVED),
        Row("h.{i}.self_attention.dense.{p}", "h.{i}.attn.out_proj.{p}"),
        Row("h.{i}.post_attention_layernorm.{p}", "h.{i}.ln_2.{p}"),
        Row("h.{i}.mlp.dense_h_to_4h.{p}", "h.{i}.mlp.up.{p}"),
        Row("h.{i}.mlp.dense_4h_to_h.{p}", "h.{i}.mlp.down.{p}"),
        Row("ln_f.{p}", "ln_f.{p}"),
    ),
    copies={"lm_head.weight": "word_embeddings.weight"},
)
