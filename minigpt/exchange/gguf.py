"""LLaMA models out of GGUF files: settings, weights and tokenizer, as if they came from a Hugging Face folder.

There the first and second halves of a head's features are turned together, here in GGUF neighbours: the rows of the maps
to queries and keys are put back in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError
from minigpt.exchange.families.llama import FAMILY
from minigpt.exchange.gguf_file import GGUFFile, read
from minigpt.exchange.settings import read_settings
from minigpt.exchange.weights import model_of
from minigpt.tokenizer import Tokenizer, short
from minigpt.tokenizer_file import wrapped
from tensorgrad.nn import Module

ARCHITECTURE = "llama"
_SETTINGS = {  # theirs, and what config.json calls it
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_OPTIONAL = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
_NAMES = {  # theirs, and what Hugging Face calls it
    r"token_embd": "embed_tokens",
    r"output_norm": "norm",
    r"output": "lm_head",
    r"blk\.(\d+)\.attn_norm": r"layers.\1.input_layernorm",
    r"blk\.(\d+)\.attn_([qkv])": r"layers.\1.self_attn.\2_proj",
    r"blk\.(\d+)\.attn_output": r"layers.\1.self_attn.o_proj",
    r"blk\.(\d+)\.ffn_norm": r"layers.\1.post_attention_layernorm",
    r"blk\.(\d+)\.ffn_(gate|up|down)": r"layers.\1.mlp.\2_proj",
}

_WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's words
_SINGLE_DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _WORDS])


def _split(digits: str) -> pre_tokenizers.PreTokenizer:
    """Words, numbers of so many digits, line ends apart; as LLaMA 3 and Qwen 2 have it."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), to_bytes])


# How a text is split before its bytes are joined, by tokenizer.ggml.pre.
SPLITTERS = {
    **dict.fromkeys(("gpt-2", "mpt", "olmo", "jais", "trillion"), _WORDS),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _SINGLE_DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _split("{1,3}")),
    **dict.fromkeys(("qwen2", "stablelm2"), _split("")),
}
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")  # a word of the vocabulary is one token, whatever its merges
_CONTROL, _USER_DEFINED = 3, 4


def from_file(path: Path, dtype: Any = "float32") -> Module:
    """The model in a file; UserError, one sentence, if the file or the model cannot be read."""
    return model_in(read(path), dtype)


def load(path: Path) -> tuple[Any, Tokenizer]:
    """The model and the tokenizer in a file; UserError, one sentence, if either cannot be read."""
    file = read(path)
    tokenizer = tokenizer_in(file)
    return model_in(file), tokenizer


def model_in(file: GGUFFile, dtype: Any = "float32") -> Module:
    """The model in a file, in evaluation mode, its weights dequantised; UserError for what is not a LLaMA of the plain form."""
    config = read_settings(FAMILY, FAMILY.classes["LlamaForCausalLM"], _settings(file), file.path)
    heads = {"q": config.n_head, "k": config.groups}
    stored = {}
    for name, value in file.tensors():
        stem, _, ending = name.rpartition(".")
        if which := re.fullmatch(r"blk\.\d+\.attn_([qk])", stem):
            value = _halves_together(value, heads[which[1]])
        stored[f"{_renamed(stem)}.{ending}"] = value
    model: Any = model_of(config, stored, FAMILY, FAMILY.classes["LlamaForCausalLM"], dtype, file.path)
    model.model_type = FAMILY.model_type
    return model.eval()


def _settings(file: GGUFFile) -> dict[str, Any]:
    """What config.json would say."""
    said = file.metadata
    if said.get("general.architecture") != ARCHITECTURE:
        raise UserError(f"{file.path} has a model of the architecture {said.get('general.architecture')!r}, not {ARCHITECTURE!r}")
    shapes = {block.name: block.shape for block in file.blocks}
    theirs: dict[str, Any] = {"tie_word_embeddings": "output.weight" not in shapes, "rope_scaling": None}
    theirs["vocab_size"] = shapes.get("token_embd.weight", (0,))[0]
    theirs["attention_bias"] = "blk.0.attn_q.bias" in shapes
    theirs["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    for key, name in (_SETTINGS | _OPTIONAL).items():
        value = said.get(f"{ARCHITECTURE}.{key}")
        if value is not None:
            theirs[name] = float(str(np.float32(value))) if isinstance(value, float) else value
        elif key in _SETTINGS:
            raise UserError(f"{file.path} does not say {ARCHITECTURE}.{key}")
    _refuse(file, theirs, shapes)
    return theirs


def _refuse(file: GGUFFile, theirs: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    """UserError for forms of LLaMA that are not computed here."""
    said, prefix = file.metadata, f"{ARCHITECTURE}."
    if said.get(f"{prefix}expert_count"):
        raise UserError(f"{file.path} has a mixture of {said[f'{prefix}expert_count']} experts, which is not supported")
    scaling = said.get(f"{prefix}rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in shapes:
        kind = "by factors for each feature" if scaling == "none" else repr(scaling)
        raise UserError(f"{file.path} scales rotary positions ({kind}), which is not supported")
    turned = said.get(f"{prefix}rope.dimension_count")
    width, heads = theirs["hidden_size"], theirs["num_attention_heads"]
    if type(width) is int and type(heads) is int and heads and turned not in (None, theirs.get("head_dim", width // heads)):
        raise UserError(f"{file.path} turns only {turned} features of a head, which is not supported")


def _halves_together(rows: np.ndarray, heads: int) -> np.ndarray:
    """(H d, ..) -> (H d, ..): of each head, rows 0, 2, 4, .. and then 1, 3, 5, .."""
    if rows.shape[0] % (2 * heads):
        return rows  # of the wrong shape, as will be said
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _renamed(stem: str) -> str:
    for pattern, name in _NAMES.items():
        if match := re.fullmatch(pattern, stem):
            return match.expand(name)
    return stem


def tokenizer_in(file: GGUFFile) -> Tokenizer:
    """The tokenizer in a file, byte-level BPE; UserError for another kind, or one that is malformed."""
    said = file.metadata
    kind, splitter = (said.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2":
        raise UserError(f"{file.path} has a tokenizer of the kind {kind!r}, but only 'gpt2', byte-level BPE, is supported")
    if splitter not in SPLITTERS:
        raise UserError(f"{file.path} splits texts as {splitter!r} does, but only {', '.join(SPLITTERS)} are known")
    tokens, merges = (said.get(f"tokenizer.ggml.{key}") for key in ("tokens", "merges"))
    kinds = said.get("tokenizer.ggml.token_type", [])
    if not isinstance(tokens, list) or not isinstance(merges, list) or len(kinds) not in (0, len(tokens)):
        raise UserError(f"{file.path}: the tokenizer must have tokens, as many types of tokens, and merges")
    try:
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        backend = Backend(models.BPE(vocabulary, pairs, ignore_merges=splitter in _WHOLE_WORDS))
        backend.pre_tokenizer = SPLITTERS[splitter]
        backend.decoder = decoders.ByteLevel()
        for token, sort in zip(tokens, kinds, strict=False):
            if sort in (_CONTROL, _USER_DEFINED):
                backend.add_tokens([AddedToken(token, special=bool(sort == _CONTROL), normalized=False)])
        return wrapped(backend, _tokenizer_settings(said, tokens))
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the tokenizers library raises bare Exception, and where it panics not even that
        raise UserError(f"{file.path} has a tokenizer that cannot be used: {short(error)}") from None


def _tokenizer_settings(said: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """What tokenizer_config.json would say."""
    settings: dict[str, Any] = {}
    for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        token = said.get(f"tokenizer.ggml.{key}_token_id")
        if type(token) is int and 0 <= token < len(tokens):
            settings[f"{name}_token"] = tokens[token]
    if isinstance(template := said.get("tokenizer.chat_template"), str):
        settings["chat_template"] = template
    return settings
