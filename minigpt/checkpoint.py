"""A trained model as a folder in the standard Hugging Face GPT-2 form: config.json, model.safetensors, tokenizer.json.

The weights carry the published names, `transformer.h.0.attn.c_attn.weight` and so on, with GPT-2's (in, out) layout of
the four matrices of a block, and the output head tied to the token embedding. A model without biases is written with
biases of zero, as GPT-2 always has them. Nothing that is read is ever executed: no pickle.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minigpt import snapshots, tensorfile
from minigpt.config import NAMES, TrainConfig
from minigpt.errors import UserError
from minigpt.files import write_whole
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizer import Tokenizer
from minigpt.tokenizer_file import load_tokenizer

PREFIX = "transformer."
WEIGHTS = "model.safetensors"
FILES = ("tokenizer.json", "tokenizer_config.json", "config.json", WEIGHTS)
_LARGEST_CONFIG = 1 << 24  # bytes
Layout = dict[str, tuple[tuple[int, ...], bool]]  # name -> (shape in nn.Linear's layout, whether it is a bias)
_IN_OUT = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
_DERIVED = re.compile(r"(lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias))")  # the tied head, and stored causal masks

# What GPT2Config assumes where a file is silent, and the only values that minigpt.models.gpt computes.
_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_SILENT = _FIXED | {"activation_function": "gelu_new", "model_type": None}


def save(folder: Path | str, model: GPT, tokenizer: Tokenizer, train_config: TrainConfig | None = None) -> None:
    """Write the model's folder, each file whole or not at all; the weights come last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(model, tokenizer, train_config):
        write_whole(folder / name, content)


def contents(model: GPT, tokenizer: Tokenizer, train_config: TrainConfig | None = None) -> Iterator[tuple[str, bytes]]:
    """The names of FILES, in their order, and what belongs into them."""
    yield "tokenizer.json", tokenizer.backend.to_str(pretty=True).encode()
    yield "tokenizer_config.json", _json(_tokenizer_config(model.config))
    yield "config.json", _json(_published_config(model.config, train_config))
    yield WEIGHTS, tensorfile.pack(_published_weights(model))


def load(folder: Path | str) -> tuple[GPT, Tokenizer]:
    """The model (in evaluation mode, float32) and the tokenizer of a folder that `save` or transformers wrote.

    Without weights of its own, the folder's newest checkpoint that is undamaged is read. UserError, one sentence, if
    anything is missing, malformed, unsupported, damaged or does not fit together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; a model is a folder that minigpt train has written")
    if not (folder / WEIGHTS).exists():
        folder = snapshots.newest(folder)[0] or folder
        _refuse_pickle(folder)
    config = _read_config(folder / "config.json")
    weights = _read_weights(folder / WEIGHTS, config)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, but the model has {config.vocab_size}")
    model = GPT(config, np.random.default_rng(0))
    model.load_state_dict(weights)
    model.eval()
    return model, tokenizer


def read_train_config(folder: Path) -> TrainConfig:
    """The settings that the model in a folder was trained with; UserError if it does not say, or they are no settings."""
    path = folder / "config.json"
    record = read_json(path).get("minigpt")
    settings = record.get("train") if isinstance(record, dict) else None
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not say how the model was trained")
    unknown = [name for name in settings if name not in NAMES]
    if unknown:
        raise UserError(f"{path} has a setting that is not known here: {unknown[0]!r}")
    try:
        return TrainConfig(**settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _refuse_pickle(folder: Path) -> None:
    pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz")]
    if pickled and not (folder / WEIGHTS).exists():
        raise UserError(
            f"{folder} has {pickled[0]} but no {WEIGHTS}: files that could run code when read are never opened here; "
            "save the model as safetensors with the program that made it"
        )


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _tokenizer_config(config: GPTConfig) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.block_size,
    }


def _published_config(config: GPTConfig, train_config: TrainConfig | None) -> dict[str, Any]:
    record: dict[str, Any] = {"bias": config.bias}
    if train_config is not None:
        record["train"] = dataclasses.asdict(train_config)
    return _FIXED | {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": None,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": None,
        "use_cache": True,
        "torch_dtype": "float32",
        "minigpt": record,
    }


def _published_weights(model: GPT) -> dict[str, np.ndarray]:
    state = model.state_dict()
    published = {}
    for name, (shape, is_bias) in _layout(model.config).items():
        value = state[name] if name in state else np.zeros(shape) if is_bias else None
        assert value is not None, f"the model has no {name}"
        value = value.T if _IN_OUT.fullmatch(name) else value
        published[PREFIX + name] = np.ascontiguousarray(value, dtype=np.float32)
    return published


def _layout(config: GPTConfig) -> Layout:
    """Every tensor of a GPT-2 of this size, by the name it has in the model."""
    width = config.n_embd
    layout: Layout = {
        "wte.weight": ((config.vocab_size, width), False),
        "wpe.weight": ((config.block_size, width), False),
    }
    linears = {"attn.c_attn": (3, 1), "attn.c_proj": (1, 1), "mlp.c_fc": (4, 1), "mlp.c_proj": (1, 4)}
    norms = ["ln_f"]
    for i in range(config.n_layer):
        norms += [f"h.{i}.ln_1", f"h.{i}.ln_2"]
        for name, (out, into) in linears.items():
            layout[f"h.{i}.{name}.weight"] = ((out * width, into * width), False)
            layout[f"h.{i}.{name}.bias"] = ((out * width,), True)
    for name in norms:
        layout[f"{name}.weight"] = ((width,), False)
        layout[f"{name}.bias"] = ((width,), True)
    return layout


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UserError if it is unreadable, too long, malformed or holds anything else."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_LARGEST_CONFIG))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, not a {type(content).__name__}")
    return content


def _read_config(path: Path) -> GPTConfig:
    published = read_json(path)
    for key, wanted in _FIXED.items():
        value = published.get(key, _SILENT[key])
        if value != wanted:
            raise UserError(f"{path} says {key} {value!r}, but only {wanted!r} is supported")
    record = published.get("minigpt", {})
    bias = record.get("bias", True) if isinstance(record, dict) else None
    sizes: dict[str, Any] = {key: published.get(key) for key in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")}
    for key, value in sizes.items():
        if type(value) is not int or not 1 <= value < 2**31:
            raise UserError(f"{path}: {key} must be a positive integer, not {value!r}")
    inner, usual = published.get("n_inner"), 4 * sizes["n_embd"]
    if inner not in (None, usual):
        raise UserError(f"{path} says n_inner {inner!r}, but only 4 n_embd = {usual} is supported")
    dropout = published.get("resid_pdrop", 0.1)
    if type(bias) is not bool or type(dropout) not in (int, float):
        raise UserError(f"{path}: bias must be true or false and resid_pdrop a number")
    sizes["block_size"] = sizes.pop("n_positions")
    try:
        return GPTConfig(**sizes, dropout=dropout, bias=bias)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _read_weights(path: Path, config: GPTConfig) -> dict[str, np.ndarray]:
    """The model's own state, checked against what the configuration calls for before anything is allocated."""
    stored = tensorfile.read(path)
    state = {name.removeprefix(PREFIX): value for name, value in stored.items()}
    head, embedding = state.get("lm_head.weight"), state.get("wte.weight")
    if head is not None and not (embedding is not None and np.array_equal(head, embedding)):
        raise UserError(f"{path}: lm_head.weight differs from wte.weight, but only a tied head is supported")
    state = {name: value for name, value in state.items() if not _DERIVED.fullmatch(name)}
    if config.n_layer > len(state):
        raise UserError(f"{path} has {len(state)} tensors, too few for the {config.n_layer} layers of config.json")
    layout = _layout(config)
    faults = [f"{name} is missing" for name in layout if name not in state]
    faults += [f"{name} is unexpected" for name in state if name not in layout]
    for name in layout.keys() & state.keys():
        value = state[name] = state[name].T if _IN_OUT.fullmatch(name) else state[name]
        if value.shape != layout[name][0] or value.dtype.kind != "f":
            faults.append(f"{name} is {value.dtype} {value.shape}, not float {layout[name][0]}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(f"{path} does not fit config.json: {'; '.join(sorted(faults)[:5])}{more}")
    return _own_weights(state, layout, config.bias, path)


def _own_weights(state: dict[str, np.ndarray], layout: Layout, bias: bool, path: Path) -> dict[str, np.ndarray]:
    """The state in float32 and in one piece; without the zero biases of a model that has none."""
    own = {}
    for name, value in state.items():
        if bias or not layout[name][1]:
            own[name] = np.ascontiguousarray(value, dtype=np.float32)
        elif value.any():
            raise UserError(f"{path}: {name} is not zero, but config.json says that the model has no biases")
    return own
