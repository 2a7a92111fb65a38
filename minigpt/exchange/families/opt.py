"""OPT (Zhang et al. 2022): positions from the third row on; the 350m model normalises sums and has a narrower table."""

from minigpt.exchange.activations import activation
from minigpt.exchange.changes import after_rows
from minigpt.exchange.family import OPTIONAL_SIZE, Architecture, Family, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

_FORM = {"norm": "layer", "norm_eps": 1e-5, "positions": "learned", "gated": False}

FAMILY = Family(
    model_type="opt",
    classes={
        "OPTForCausalLM": Architecture(Decoder, (Row("lm_head.weight", "head.weight"),), _FORM),
        "OPTModel": Architecture(Decoder, config=_FORM, bare=True),
    },
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50272),
        Setting("block_size", "max_position_embeddings", 2048),
        Setting("n_layer", "num_hidden_layers", 12),
        Setting("n_head", "num_attention_heads", 12),
        Setting("n_embd", "hidden_size", 768),
        Setting("embedding_size", "word_embed_proj_dim", None, OPTIONAL_SIZE),
        Setting("n_inner", "ffn_dim", 3072),
        Setting("residual", "do_layer_norm_before", True, values={True: "pre", False: "post"}),
        Setting("final_norm", "do_layer_norm_before", True),
        Setting("attention_bias", "enable_bias", True),
        Setting("out_bias", "enable_bias", True),
        Setting("mlp_bias", "enable_bias", True),
        Setting("dropout", "dropout", 0.1),
        Setting("attention_dropout", "attention_dropout", 0.0),
        activation("activation_function", "relu"),
        Setting("tied", "tie_word_embeddings", True),
    ),
    fixed={"_remove_final_layer_norm": (False,), "layer_norm_elementwise_affine": (True,), "layerdrop": (0.0,)},
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="model.",
    names=(
        Row("decoder.embed_tokens.weight", "wte.weight"),
        Row("decoder.embed_positions.weight", "wpe.weight", after_rows(2)),
        Row("decoder.project_in.weight", "map_in.weight"),
        Row("decoder.project_out.weight", "map_out.weight"),
        Row("decoder.layers.{i}.self_attn_layer_norm.{p}", "h.{i}.ln_1.{p}"),
        Row("decoder.layers.{i}.self_attn.q_proj.{p}", "h.{i}.attn.q_proj.{p}"),
        Row("decoder.layers.{i}.self_attn.k_proj.{p}", "h.{i}.attn.k_proj.{p}"),
        Row("decoder.layers.{i}.self_attn.v_proj.{p}", "h.{i}.attn.v_proj.{p}"),
        Row("decoder.layers.{i}.self_attn.out_proj.{p}", "h.{i}.attn.out_proj.{p}"),
        Row("decoder.layers.{i}.final_layer_norm.{p}", "h.{i}.ln_2.{p}"),
        Row("decoder.layers.{i}.fc1.{p}", "h.{i}.mlp.up.{p}"),
        Row("decoder.layers.{i}.fc2.{p}", "h.{i}.mlp.down.{p}"),
        Row("decoder.final_layer_norm.{p}", "ln_f.{p}"),
    ),
    copies={"lm_head.weight": "decoder.embed_tokens.weight"},
)
