"""GPT-NeoX (Black et al. 2022) and Pythia: a fraction of each head is turned, both branches read the same."""

from minigpt.exchange.activations import activation
from minigpt.exchange.changes import INTERLEAVED
from minigpt.exchange.family import Architecture, Family, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

_FORM = {"norm": "layer", "gated": False, "mlp_bias": True}

FAMILY = Family(
    model_type="gpt_neox",
    classes={"GPTNeoXForCausalLM": Architecture(Decoder, (Row("embed_out.weight", "head.weight"),), _FORM)},
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50432),
        Setting("block_size", "max_position_embeddings", 2048),
        Setting("n_layer", "num_hidden_layers", 44),
        Setting("n_head", "num_attention_heads", 64),
        Setting("n_embd", "hidden_size", 6144),
        Setting("n_inner", "intermediate_size", 24576),
        Setting("rotary_fraction", ("rope_parameters.partial_rotary_factor", "rotary_pct"), 0.25),
        Setting("rotary_base", ("rope_parameters.rope_theta", "rotary_emb_base"), 10000.0),
        Setting("residual", "use_parallel_residual", True, values={True: "parallel", False: "pre"}),
        Setting("attention_bias", "attention_bias", True),
        Setting("out_bias", "attention_bias", True),
        Setting("dropout", "hidden_dropout", 0.0),
        Setting("attention_dropout", "attention_dropout", 0.0),
        activation("hidden_act", "gelu"),
        Setting("norm_eps", "layer_norm_eps", 1e-5),
        Setting("tied", "tie_word_embeddings", False),
    ),
    fixed={"rope_parameters.rope_type": ("default",), "rope_scaling": (None,)},
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="gpt_neox.",
    names=(
        Row("embed_in.weight", "wte.weight"),
        Row("layers.{i}.input_layernorm.{p}", "h.{i}.ln_1.{p}"),
        Row("layers.{i}.attention.query_key_value.{p}", "h.{i}.attn.{q,k,v}_proj.{p}", INTERLEAVED),
        Row("layers.{i}.attention.dense.{p}", "h.{i}.attn.out_proj.{p}"),
        Row("layers.{i}.post_attention_layernorm.{p}", "h.{i}.ln_2.{p}"),
        Row("layers.{i}.mlp.dense_h_to_4h.{p}", "h.{i}.mlp.up.{p}"),
        Row("layers.{i}.mlp.dense_4h_to_h.{p}", "h.{i}.mlp.down.{p}"),
        Row("final_layer_norm.{p}", "ln_f.{p}"),
    ),
    copies={"embed_out.weight": "embed_in.weight"},
    ignored=("layers.{i}.attention.bias", "layers.{i}.attention.masked_bias", "layers.{i}.attention.rotary_emb.inv_freq"),
    older={"lm_head.weight": "embed_out.weight"},
)
