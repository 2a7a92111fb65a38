"""GPT-J (Wang and Komatsuzaki 2021): neighbouring features are turned together, both branches share one norm."""

from minigpt.exchange.activations import activation
from minigpt.exchange.family import OPTIONAL_SIZE, Architecture, Family, Row, Setting
from minigpt.models.decoder import Decoder, DecoderConfig

_FORM = {
    "norm": "layer",
    "residual": "shared",
    "rotary_interleaved": True,
    "gated": False,
    "mlp_bias": True,
    "head_bias": True,
}

FAMILY = Family(
    model_type="gptj",
    classes={"GPTJForCausalLM": Architecture(Decoder, (Row("lm_head.{p}", "head.{p}"),), _FORM)},
    config=DecoderConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50400),
        Setting("block_size", "n_positions", 2048),
        Setting("n_layer", "n_layer", 28),
        Setting("n_head", "n_head", 16),
        Setting("n_embd", "n_embd", 4096),
        Setting("n_inner", "n_inner", None, OPTIONAL_SIZE, read=lambda value: value or 0),
        Setting("rotary_size", "rotary_dim", 64),
        Setting("dropout", ("resid_pdrop", "embd_pdrop"), 0.0),
        Setting("attention_dropout", "attn_pdrop", 0.0),
        activation("activation_function", "gelu_new"),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
    ),
    fixed={"tie_word_embeddings": (False,)},
    written={"bos_token_id": None, "eos_token_id": None, "use_cache": True},
    prefix="transformer.",
    names=(
        Row("wte.weight", "wte.weight"),
        Row("h.{i}.ln_1.{p}", "h.{i}.ln_1.{p}"),
        Row("h.{i}.attn.q_proj.weight", "h.{i}.attn.q_proj.weight"),
        Row("h.{i}.attn.k_proj.weight", "h.{i}.attn.k_proj.weight"),
        Row("h.{i}.attn.v_proj.weight", "h.{i}.attn.v_proj.weight"),
        Row("h.{i}.attn.out_proj.weight", "h.{i}.attn.out_proj.weight"),
        Row("h.{i}.mlp.fc_in.{p}", "h.{i}.mlp.up.{p}"),
        Row("h.{i}.mlp.fc_out.{p}", "h.{i}.mlp.down.{p}"),
        Row("ln_f.{p}", "ln_f.{p}"),
    ),
    ignored=("h.{i}.attn.bias", "h.{i}.attn.masked_bias"),
)
