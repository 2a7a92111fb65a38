"""LLaMA (Touvron et al. 2023) and models of its form: RMS norm, rotary positions, SwiGLU, grouped heads."""

from minigpt.exchange.activations import activation
from minigpt.exchange.family import OPTIONAL_SIZE, Architecture, Family, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

FAMILY = Family(
    model_type="llama",
    classes={"LlamaForCausalLM": Architecture(Decoder, (Row("lm_head.weight", "head.weight"),))},
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 32000),
        Setting("block_size", "max_position_embeddings", 2048),
        Setting("n_layer", "num_hidden_layers", 32),
        Setting("n_head", "num_attention_heads", 32),
        Setting("n_group", "num_key_value_heads", None, OPTIONAL_SIZE),
        Setting("head_size", "head_dim", None, OPTIONAL_SIZE),
        Setting("n_embd", "hidden_size", 4096),
        Setting("n_inner", "intermediate_size", 11008),
        Setting("rotary_base", ("rope_parameters.rope_theta", "rope_theta"), 10000.0),
        Setting("attention_bias", "attention_bias", False),
        Setting("out_bias", "attention_bias", False),
        Setting("mlp_bias", "mlp_bias", False),
        Setting("attention_dropout", "attention_dropout", 0.0),
        activation("hidden_act", "silu"),
        Setting("norm_eps", "rms_norm_eps", 1e-6),
        Setting("tied", "tie_word_embeddings", False),
    ),
    fixed={"rope_parameters.rope_type": ("default",), "rope_scaling": (None,)},
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="model.",
    names=(
        Row("embed_tokens.weight", "wte.weight"),
        Row("layers.{i}.input_layernorm.weight", "h.{i}.ln_1.weight"),
        Row("layers.{i}.self_attn.q_proj.{p}", "h.{i}.attn.q_proj.{p}"),
        Row("layers.{i}.self_attn.k_proj.{p}", "h.{i}.attn.k_proj.{p}"),
        Row("layers.{i}.self_attn.v_proj.{p}", "h.{i}.attn.v_proj.{p}"),
        Row("layers.{i}.self_attn.o_proj.{p}", "h.{i}.attn.out_proj.{p}"),
        Row("layers.{i}.post_attention_layernorm.weight", "h.{i}.ln_2.weight"),
        Row("layers.{i}.mlp.gate_proj.{p}", "h.{i}.mlp.gate.{p}"),
        Row("layers.{i}.mlp.up_proj.{p}", "h.{i}.mlp.up.{p}"),
        Row("layers.{i}.mlp.down_proj.{p}", "h.{i}.mlp.down.{p}"),
        Row("norm.weight", "ln_f.weight"),
    ),
    copies={"lm_head.weight": "embed_tokens.weight"},
    ignored=("layers.{i}.self_attn.rotary_emb.inv_freq",),
)
