"""Tiny random models of every family made with transformers, and what must be equal when they change sides.

A family takes part by its rows in CASES; tests/minigpt/exchange/test_parity.py and benchmarks/parity.py go through them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import minigpt
import tensorgrad as tg
from minigpt.generation.context import Context
from minigpt.generation.source import SourceContext

VOCABULARY = 96
NEW = 12  # tokens that are generated
LIMITS = {"float32": 1e-4, "float64": 1e-9}  # of the relative error, the greatest difference over the greatest logit
_SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}


@dataclass(frozen=True)
class Case:
    """A class of transformers, and how its configuration differs from the default."""

    family: str
    name: str
    settings: dict[str, Any]
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.note}".strip()


_GPT2 = {"vocab_size": VOCABULARY, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}
_NEO = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
    "attention_types": [[["global", "local"], 1]], "window_size": 5,
}  # fmt: skip
_GPTJ = {"vocab_size": VOCABULARY, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
_NEOX = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 80,
}  # fmt: skip
_BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}
_LLAMA = _NEOX | {"num_key_value_heads": 2}
_OPT = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "hidden_size": 32, "word_embed_proj_dim": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 80,
}  # fmt: skip
_BERT = _NEOX | {"type_vocab_size": 2}
_DISTILBERT = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 80,
}  # fmt: skip
_ROBERTA = _NEOX | {"type_vocab_size": 1, "max_position_embeddings": 42}
_T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "decoder_start_token_id": 0,
}  # fmt: skip
_BART = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 80, "decoder_ffn_dim": 64,
    "decoder_start_token_id": 2,
}  # fmt: skip
_LABELS = {"id2label": {0: "bad", 1: "so-so", 2: "good"}, "label2id": {"bad": 0, "so-so": 1, "good": 2}}


def _heads(family: str, prefix: str, settings: dict[str, Any]) -> list[Case]:
    """An encoder alone and with each of its heads."""
    tasks = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
    labelled = ("ForSequenceClassification", "ForTokenClassification")
    return [Case(family, prefix + task, settings | (_LABELS if task in labelled else {})) for task in tasks]


CASES = [
    Case("gpt2", "GPT2LMHeadModel", _GPT2),
    Case("gpt2", "GPT2LMHeadModel", _GPT2 | {"activation_function": "gelu", "n_inner": 72, "layer_norm_epsilon": 1e-2}, "gelu"),
    Case("gpt2", "GPT2LMHeadModel", _GPT2 | {"activation_function": "relu"}, "relu"),
    Case("gpt_neo", "GPTNeoForCausalLM", _NEO),
    Case("gptj", "GPTJForCausalLM", _GPTJ),
    Case("gpt_neox", "GPTNeoXForCausalLM", _NEOX),
    Case("gpt_neox", "GPTNeoXForCausalLM", _NEOX | {"use_parallel_residual": False}, "one after the other"),
    Case("bloom", "BloomForCausalLM", _BLOOM),
    Case("bloom", "BloomForCausalLM", _BLOOM | {"hidden_size": 36, "n_head": 6}, "6 heads"),
    Case("llama", "LlamaForCausalLM", _LLAMA),
    Case(
        "llama",
        "LlamaForCausalLM",
        _LLAMA | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 12, "rms_norm_eps": 1e-3},
        "tied, with biases",
    ),
    Case("opt", "OPTForCausalLM", _OPT),
    Case("opt", "OPTForCausalLM", _OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 24}, "post-norm, narrow table"),
    *_heads("bert", "Bert", _BERT),
    *_heads("distilbert", "DistilBert", _DISTILBERT),
    *_heads("roberta", "Roberta", _ROBERTA),
    Case("t5", "T5ForConditionalGeneration", _T5),
    Case("t5", "T5ForConditionalGeneration", _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "1.1"),
    Case("bart", "BartForConditionalGeneration", _BART),
    Case("blenderbot", "BlenderbotForConditionalGeneration", _BART),
    Case("m2m_100", "M2M100ForConditionalGeneration", _BART),
    Case("marian", "MarianMTModel", _BART | {"scale_embedding": True, "activation_function": "swish"}),
]


@dataclass
class Parity:
    """What was found of one case: relative errors of the logits, by dtype, of theirs from ours after the way back, the same
    tokens (None where nothing is generated), and the names that were missing or unexpected on the way back."""

    errors: dict[str, float]
    generation: bool | None
    returned: float
    faults: list[str]


class Pair:
    """A model of theirs with no weight at its initial zero or one, so that nothing can hide, and ours, read from its folder."""

    def __init__(self, case: Case, folder: Path):
        import torch
        import transformers

        self.case, self.folder = case, folder
        torch.manual_seed(len(str(case)))
        special = {"pad_token_id": 0, "eos_token_id": 1} if case.family == "t5" else _SPECIAL
        self.config = transformers.AutoConfig.for_model(case.family, **special | case.settings)
        self.theirs = getattr(transformers, case.name)(self.config).eval()
        with torch.no_grad():
            for p in self._learned().values():
                p.add_(0.15 * torch.randn(p.shape))
        with _quiet():
            self.theirs.save_pretrained(folder)
        rng = np.random.default_rng(1)
        self.ids = rng.integers(4, VOCABULARY, (2, 11))
        self.segments = np.sort(rng.integers(0, 2, self.ids.shape), 1)
        self.decoder_ids = rng.integers(4, VOCABULARY, (2, 7))
        self.mask = np.arange(11) < np.array([[11], [8]])

    @cached_property
    def kind(self) -> str:
        """What a model of this kind is asked."""
        if getattr(self.theirs.config, "is_encoder_decoder", False):
            return "sequence to sequence"
        return "causal" if self.theirs.can_generate() else "encoder"

    def their_double(self) -> Any:
        """Theirs in float64 from the first: tables of positions, too, which are rounded when a model is only converted."""
        with in_double():
            made = type(self.theirs)(self.config).eval()
        made.load_state_dict(self._learned(), strict=False)
        return made

    def _learned(self) -> dict[str, Any]:
        """Their tensors by name, without what is stored but never trained, such as sinusoids."""
        frozen = {name for name, p in self.theirs.named_parameters() if not p.requires_grad}
        return {name: p for name, p in self.theirs.state_dict().items() if name not in frozen and p.is_floating_point()}

    def ours(self, dtype: str = "float32") -> Any:
        return minigpt.from_pretrained(self.folder, dtype)

    def our_logits(self, model: Any) -> np.ndarray:
        with tg.no_grad():
            if self.kind == "causal":
                return model(self.ids).numpy()
            if self.kind == "encoder":
                return model(self.ids, self._segments(), self.mask).numpy()
            return model(self.ids, self.decoder_ids, self.mask).numpy()

    def their_logits(self, model: Any) -> np.ndarray:
        import torch

        ids, mask, decoder_ids = map(torch.from_numpy, (self.ids, self.mask.astype(np.int64), self.decoder_ids))
        with torch.no_grad():
            if self.kind == "causal":
                out = model(ids)
            elif self.kind == "encoder":
                segments = self._segments()
                more = {} if segments is None else {"token_type_ids": torch.from_numpy(segments)}
                out = model(ids, attention_mask=mask, **more)
            else:
                out = model(ids, attention_mask=mask, decoder_input_ids=decoder_ids)
            if "start_logits" in out:
                return torch.stack([out.start_logits, out.end_logits], -1).numpy()
            return (out.logits if "logits" in out else out.last_hidden_state).numpy()

    def _segments(self) -> np.ndarray | None:
        return self.segments if getattr(self.theirs.config, "type_vocab_size", 0) > 1 else None

    def error(self, ours: np.ndarray, theirs: np.ndarray) -> float:
        """The greatest difference over the greatest logit, where there are tokens."""
        if self.kind == "encoder" and ours.shape[:2] == self.mask.shape:
            ours, theirs = ours[self.mask], theirs[self.mask]
        return float(np.abs(ours - theirs).max() / np.abs(theirs).max()) if ours.shape == theirs.shape else np.inf

    def our_tokens(self, model: Any) -> list[list[int]]:
        """Greedily, all rows at once, of unequal length."""
        rows = [ids[mask].tolist() for ids, mask in zip(self.ids, self.mask, strict=True)]
        if self.kind == "causal":
            context = Context(model, rows, NEW)
        else:
            context = SourceContext(model, rows, [model.config.start_token], NEW)
        for _ in range(NEW):
            context.extend(context.logits()[:, 0].argmax(1).tolist())
        return [sequence[-NEW:] for sequence in context.sequences]

    def their_tokens(self) -> list[list[int]]:
        """Greedily, one row after the other."""
        import torch
        import transformers

        start = {"decoder_start_token_id": self.theirs.config.decoder_start_token_id} if self.kind != "causal" else {}
        config = transformers.GenerationConfig(
            max_new_tokens=NEW, do_sample=False, num_beams=1, pad_token_id=0, use_cache=False, **start
        )
        self.theirs.generation_config = config
        found = []
        for ids, mask in zip(self.ids, self.mask, strict=True):
            row = torch.from_numpy(ids[mask][None])
            with torch.no_grad(), _quiet():
                found.append(self.theirs.generate(row, attention_mask=torch.ones_like(row), generation_config=config))
        return [row[0, -NEW:].tolist() for row in found]


def parity(case: Case, folder: Path) -> Parity:
    """Their model read by us, asked the same, written by us and read by them."""
    pair = Pair(case, folder / "theirs")
    ours = pair.ours()
    errors = {"float32": pair.error(pair.our_logits(ours), pair.their_logits(pair.theirs))}
    double = pair.their_double()
    with in_double():
        errors["float64"] = pair.error(pair.our_logits(pair.ours("float64")), pair.their_logits(double))
    minigpt.save_pretrained(ours, folder / "ours")
    with _quiet():
        again, report = type(pair.theirs).from_pretrained(folder / "ours", output_loading_info=True)
    returned = pair.error(pair.their_logits(again.eval()), pair.their_logits(pair.theirs))
    same = None if pair.kind == "encoder" else pair.our_tokens(ours) == pair.their_tokens()
    return Parity(errors, same, returned, [f"{what}: {name}" for what, names in report.items() for name in sorted(names)])


@contextlib.contextmanager
def in_double() -> Any:
    """Within it, what their models do in float32 whatever the weights are (softmax, norms, angles) they do in float64."""
    import torch
    from torch.overrides import TorchFunctionMode

    def lifted(value: Any) -> Any:
        return torch.float64 if value is torch.float32 else value

    class Lifted(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.float:
                return args[0].double()
            return func(*map(lifted, args), **{name: lifted(value) for name, value in (kwargs or {}).items()})

    torch.set_default_dtype(torch.float64)
    try:
        with Lifted(), mock.patch.object(torch, "FloatTensor", torch.DoubleTensor):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without progress bars and advice."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
