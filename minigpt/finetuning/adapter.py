"""Low-rank changes as a folder of their own, in the format of the PEFT library: adapter_config.json, adapter_model.safetensors.

Tensors have the names of transformers' modules: "base_model.model.<module>.lora_A.weight" (r, n) and "..lora_B.weight" (m, r),
and those of a new head "base_model.model.<name>". Where one stored matrix holds several of ours (a fused query, key and
value), their A are stacked and their B stand in blocks: the rank is the sum of theirs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigpt import tensorfile
from minigpt.errors import UserError
from minigpt.exchange.changes import TRANSPOSED
from minigpt.exchange.pretrained import read_config, table_of
from minigpt.exchange.storage import has_weights, read_json
from minigpt.exchange.weights import Entry, layout
from minigpt.finetuning.headed import with_head
from minigpt.finetuning.lora import LoRALinear, adapted, replace
from tensorgrad.nn import Linear, Module, Parameter

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
TASKS = {  # our class beside PEFT's name of what it does
    "GPT": "CAUSAL_LM", "Decoder": "CAUSAL_LM", "T5": "SEQ_2_SEQ_LM", "Bart": "SEQ_2_SEQ_LM", "SequenceClassifier": "SEQ_CLS",
    "TokenClassifier": "TOKEN_CLS", "AnswerExtractor": "QUESTION_ANS", "BERT": "FEATURE_EXTRACTION",
}  # fmt: skip
_FIXED: dict[str, tuple[Any, ...]] = {  # what PEFT may ask for, and what is computed here
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
}


def contents(model: Module, base: str) -> Iterator[tuple[str, bytes]]:
    """The adapter's files: the changes of an adapted model, and whatever else of it is trained; `base` is its origin."""
    entries = _entries(model)
    changes = {name: parts for name, entry in entries.items() if (parts := _parts(model, entry))}
    tensors: dict[str, np.ndarray] = {}
    ranks, scales = {}, {}
    for name, parts in changes.items():
        a, b = _stored(entries[name], parts, model)
        module = _module(name)
        tensors[_tensor(module, "A")], tensors[_tensor(module, "B")] = a, b
        ranks[module] = len(a)
        scales[module] = next(iter(parts.values())).scale
    parameters = dict(model.named_parameters())
    heads = {n: e for n, e in entries.items() if n not in changes and any(parameters[p].requires_grad for p in e.parameters)}
    for name, entry in heads.items():
        values = [parameters[p].data for p in entry.parameters]
        tensors[PREFIX + name] = np.ascontiguousarray(entry.row.change.write(values, _config(model)))
    others = [module for name in entries if (module := _module(name)) not in ranks]
    settings = _settings(type(model).__name__, base, ranks, scales, others, sorted({_module(name) for name in heads}))
    settings["fan_in_fan_out"] = any(entries[name].row.change is TRANSPOSED for name in changes)
    yield CONFIG, (json.dumps(settings, indent=2, allow_nan=False) + "\n").encode()
    yield WEIGHTS, tensorfile.pack(tensors)


def _settings(
    kind: str, base: str, ranks: dict[str, int], scales: dict[str, float], others: list[str], heads: list[str]
) -> dict[str, Any]:
    rank = Counter(ranks.values()).most_common(1)[0][0]
    scale = next(iter(scales.values()))
    return {
        "peft_type": "LORA",
        "task_type": TASKS[kind],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": scale * rank,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: scale * r for name, r in ranks.items() if r != rank},
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({_ending(name, others) for name in ranks}),
        "modules_to_save": sorted({_ending(name, []) for name in heads}) or None,
        "inference_mode": True,
    }


def _ending(name: str, others: list[str]) -> str:
    """The shortest end of a dotted name that none of the others has."""
    parts = name.split(".")
    endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next(ending for ending in endings if not any(f".{other}".endswith(f".{ending}") for other in others))


def base_of(folder: Path) -> str | None:
    """The model that the adapter in a folder was made for; None for a folder of another kind."""
    if has_weights(folder) or not (folder / CONFIG).exists():
        return None
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not (Path(base).is_file() or has_weights(Path(base))):
        raise UserError(f"{folder} changes the model {base!r}, which is not there")
    return base


def adapt(model: Module, folder: Path) -> Module:
    """A model with the adapter in a folder, under its head if the config.json beside it says so."""
    if (folder / "config.json").exists():
        _, architecture, config = read_config(folder / "config.json")
        if type(model) is not architecture.model or getattr(config, "labels", ()) != getattr(_config(model), "labels", ()):
            model = with_head(model, architecture.model, getattr(config, "labels", ()), np.random.default_rng(0))
    load_adapter(model, folder)
    return model.eval()


def load_adapter(model: Module, folder: Path | str) -> None:
    """Put an adapter's changes, and its head if it has one, into the model that it was made for.

    UserError, one sentence, if it is malformed, asks for what is not known here, or does not fit: all tensors are listed.
    """
    folder = Path(folder)
    settings = read_json(folder / CONFIG)
    for name, supported in _FIXED.items():
        if settings.get(name, supported[-1]) not in supported:
            raise UserError(f"{folder / CONFIG} says {name} {settings[name]!r}, but only {supported[0]!r} is supported")
    stored = tensorfile.read(folder / WEIGHTS)
    changes, heads = _matched(stored, model, folder / WEIGHTS)
    scales = {module: _scale(settings, module, len(stored[_tensor(module, "A")]), folder) for module in changes}
    for module, entry in changes.items():
        _adapt(model, entry, stored[_tensor(module, "A")], stored[_tensor(module, "B")], scales[module])
    parameters = dict(model.named_parameters())
    for name, entry in heads.items():
        arrays = entry.row.change.read(stored[name], [*entry.parameters.values()], _config(model))
        for parameter, value in zip(entry.parameters, arrays, strict=True):
            parameters[parameter].data = np.ascontiguousarray(value)


def _matched(stored: Mapping[str, np.ndarray], model: Module, where: Path) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """What is changed by its module, and what is replaced by its tensor's name; UserError that lists all that does not fit."""
    entries, modules = _entries(model), dict(model.named_modules())
    changes: dict[str, Entry] = {}
    heads: dict[str, Entry] = {}
    faults = []
    for name in sorted(stored):
        plain = name.removeprefix(PREFIX)
        module, _, part = plain.rpartition(".lora_")
        entry = entries.get(f"{module}.weight" if module else plain)
        partner = _tensor(module, "B" if part == "A.weight" else "A")
        if entry is None or (module and not all(type(modules.get(_module(p))) is Linear for p in entry.parameters)):
            faults.append(f"{name} is unexpected")
        elif not module and stored[name].shape != entry.shape(_config(model)):
            faults.append(f"{name} is {stored[name].shape}, not {entry.shape(_config(model))}")
        elif not module:
            heads[name] = entry
        elif partner not in stored:
            faults.append(f"{partner} is missing")
        elif part == "A.weight":
            changes[module] = entry
            faults += _misshaped(name, stored[name].shape, stored[partner].shape, [*entry.parameters.values()])
    if faults or not changes:
        raise UserError(f"{where} does not fit the model: {'; '.join(faults) or 'it has no lora_A and lora_B'}")
    return changes, heads


def _misshaped(name: str, a: tuple[int, ...], b: tuple[int, ...], shapes: list[tuple[int, ...]]) -> list[str]:
    """The fault of A (r, n) and B (m, r), if they have one, m being the sum over several maps."""
    out, into = sum(shape[0] for shape in shapes), shapes[0][1]
    if len(a) == 2 and a[0] > 0 and a[1] == into and b == (out, a[0]):
        return []
    return [f"{name} is {a} and its lora_B {b}, not (r, {into}) and ({out}, r)"]


def _adapt(model: Module, entry: Entry, a: np.ndarray, b: np.ndarray, scale: float) -> None:
    rank = len(a)
    shapes = [(shape[0], rank) for shape in entry.parameters.values()]
    parts = [b] if entry.row.change is TRANSPOSED else entry.row.change.read(b, shapes, _config(model))
    modules = dict(model.named_modules())
    for parameter, part in zip(entry.parameters, parts, strict=True):
        base = modules[_module(parameter)]
        assert isinstance(base, Linear)
        new = LoRALinear(base, rank, scale * rank, np.random.default_rng(0))
        dtype = base.weight.dtype
        new.lora_A, new.lora_B = Parameter(a.astype(dtype)), Parameter(np.ascontiguousarray(part, dtype))
        replace(model, _module(parameter), new)


def _scale(settings: Mapping[str, Any], module: str, rank: int, folder: Path) -> float:
    """alpha / r of a module: an entry of a pattern counts for modules that end in its name."""
    alpha, r = settings.get("lora_alpha", 8), settings.get("r", 8)
    for patterns, what in ((settings.get("alpha_pattern"), "alpha"), (settings.get("rank_pattern"), "rank")):
        if not isinstance(patterns or {}, dict):
            raise UserError(f"{folder / CONFIG}: {what}_pattern must be an object, not {patterns!r}")
        for name, value in (patterns or {}).items():
            if f".{module}".endswith(f".{name}"):
                alpha, r = (value, r) if what == "alpha" else (alpha, value)
    if type(alpha) not in (int, float) or r != rank:
        raise UserError(f"{folder / CONFIG} says r {r!r} and lora_alpha {alpha!r}, but {module} has rank {rank}")
    return alpha / rank


def _parts(model: Module, entry: Entry) -> dict[str, LoRALinear]:
    """The changes of the parameters that one stored tensor holds."""
    changes = adapted(model)
    return {p: changes[_module(p)] for p in entry.parameters if p.endswith(".weight") and _module(p) in changes}


def _stored(entry: Entry, parts: Mapping[str, LoRALinear], model: Any) -> tuple[np.ndarray, np.ndarray]:
    """A (r, n) and B (m, r) of one stored matrix."""
    every = [part.lora_A.data for part in parts.values()]
    shared = all(np.array_equal(a, every[0]) for a in every)
    a = every[0] if shared else np.concatenate(every)
    starts = dict(zip(parts, np.cumsum([0, *(len(a) for a in every)])[:-1].tolist(), strict=True))
    blocks = []
    for parameter, shape in entry.parameters.items():
        block = np.zeros((shape[0], len(a)), a.dtype)
        if parameter in parts:
            start = 0 if shared else starts[parameter]
            b = parts[parameter].lora_B.data
            block[:, start : start + b.shape[1]] = b
        blocks.append(block)
    whole = blocks[0] if entry.row.change is TRANSPOSED else entry.row.change.write(blocks, _config(model))
    return np.ascontiguousarray(a), np.ascontiguousarray(whole)


def _entries(model: Module) -> dict[str, Entry]:
    """Every stored tensor of the model's family by the name that transformers has for it."""
    family, name = table_of(model)
    found = layout(family, family.classes[name], _config(model))
    return {(family.prefix if entry.prefixed else "") + entry.name: entry for entry in found}


def _config(model: Any) -> Any:
    return model.config


def _tensor(module: str, part: str) -> str:
    """The name of A or B of a module."""
    return f"{PREFIX}{module}.lora_{part}.weight"


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]
