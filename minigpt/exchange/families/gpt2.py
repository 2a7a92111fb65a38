"""GPT-2 (Radford et al. 2019)."""

from minigpt.exchange.changes import TRANSPOSED
from minigpt.exchange.family import OPTIONAL_SIZE, Architecture, Family, Row, Setting
from minigpt.models.gpt import GPT, GPTConfig

FAMILY = Family(
    model_type="gpt2",
    classes={"GPT2LMHeadModel": Architecture(GPT), "GPT2Model": Architecture(GPT, bare=True)},
    config=GPTConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50257),
        Setting("block_size", ("n_positions", "n_ctx"), 1024),
        Setting("n_layer", "n_layer", 12),
        Setting("n_head", "n_head", 12),
        Setting("n_embd", "n_embd", 768),
        Setting("n_inner", "n_inner", None, OPTIONAL_SIZE),
        Setting("dropout", ("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1),
        Setting(
            "activation",
            "activation_function",
            "gelu_new",
            values={
                "gelu_new": "gelu_tanh",
                "gelu_pytorch_tanh": "gelu_tanh",
                "gelu": "gelu",
                "relu": "relu",
                "silu": "silu",
                "swish": "silu",
                "tanh": "tanh",
            },
        ),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
        Setting("bias", "minigpt.bias", True),
    ),
    fixed={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    },
    written={"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.02, "use_cache": True},
    prefix="transformer.",
    names=(
        Row("wte.weight", "wte.weight"),
        Row("wpe.weight", "wpe.weight"),
        Row("h.{i}.ln_{j}.{p}", "h.{i}.ln_{j}.{p}"),
        Row("h.{i}.attn.c_attn.{p}", "h.{i}.attn.c_attn.{p}", TRANSPOSED),
        Row("h.{i}.attn.c_proj.{p}", "h.{i}.attn.c_proj.{p}", TRANSPOSED),
        Row("h.{i}.mlp.c_fc.{p}", "h.{i}.mlp.c_fc.{p}", TRANSPOSED),
        Row("h.{i}.mlp.c_proj.{p}", "h.{i}.mlp.c_proj.{p}", TRANSPOSED),
        Row("ln_f.{p}", "ln_f.{p}"),
    ),
    copies={"lm_head.weight": "wte.weight"},
    ignored=("h.{i}.attn.bias", "h.{i}.attn.masked_bias"),
    full={"bias": True},
)
