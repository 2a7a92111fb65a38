"""Low-rank changes of linear maps (Hu et al. 2022, section 4.1): y = x W^T + b + (alpha / r) (x A^T) B^T.

W (m, n) stays as it is; A (r, n) starts uniform as a linear map does and B (m, r) zero, so that nothing changes at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.errors import UserError
from tensorgrad import Tensor
from tensorgrad.nn import Linear, Module, ModuleList, Parameter

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj", "c_attn", "attn.c_proj")  # endings of our names of its maps


class LoRALinear(Linear):
    """A linear map, its weight and bias shared with `base` and frozen, with a change of rank r that is learned."""

    def __init__(self, base: Linear, rank: int, alpha: float, rng: np.random.Generator):
        self.weight, self.bias = base.weight, base.bias
        (out, into), dtype = base.weight.shape, base.weight.dtype
        bound = 1 / math.sqrt(into)
        self.lora_A = Parameter(rng.uniform(-bound, bound, (rank, into)).astype(dtype))
        self.lora_B = Parameter(np.zeros((out, rank), dtype))
        self.scale = alpha / rank

    def forward(self, x: Any, residual: Any = None) -> Tensor:
        change = tg.linear(tg.linear(x, self.lora_A), self.lora_B)  # (.., r), then (.., m)
        return super().forward(x, residual) + self.scale * change

    def merged_weight(self) -> np.ndarray:
        """W + (alpha / r) B A."""
        return self.weight.data + (self.scale * self.lora_B.data) @ self.lora_A.data

    def merged(self) -> Linear:
        """A plain linear map with the change added."""
        out, into = self.weight.shape
        plain = Linear(into, out, bias=self.bias is not None)
        plain.astype(self.weight.dtype)
        plain.weight.data = self.merged_weight()
        if self.bias is not None:
            plain.bias = self.bias
        return plain


def add_lora(model: Module, rank: int, alpha: float, targets: str, rng: np.random.Generator) -> list[str]:
    """Freeze the model and put a LoRALinear in the place of each target, whose names are returned.

    Targets are "attention", "all" linear maps of the layers, or ends of names with commas between them. UserError if there
    are none, or a matrix is of lower rank.
    """
    chosen = list(_targets(model, targets))
    for name, linear in chosen:
        if rank > min(linear.weight.shape):
            raise UserError(f"lora_rank {rank} is more than the {min(linear.weight.shape)} that {name} can have")
    model.requires_grad_(False)
    for name, linear in chosen:
        replace(model, name, LoRALinear(linear, rank, alpha, rng))
    return [name for name, _ in chosen]


def adapted(model: Module) -> dict[str, LoRALinear]:
    """The linear maps with a low-rank change, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def merge(model: Module) -> None:
    """Add every low-rank change to its matrix, and let the model be as if there never was one."""
    for name, module in adapted(model).items():
        replace(model, name, module.merged())


def _targets(model: Module, targets: str) -> Iterator[tuple[str, Linear]]:
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    inside = {name: module for name, module in linears.items() if ".h." in f".{name}"}
    if targets == "all":
        return iter(inside.items())
    endings = ATTENTION if targets == "attention" else tuple(ending.strip() for ending in targets.split(","))
    if targets != "attention":
        for ending in endings:
            if not any(_ends(name, ending) for name in linears):
                kinds = sorted({name.rpartition(".")[2] for name in inside})
                raise UserError(f"lora_targets: no linear map is named {ending!r}; those of the layers are {', '.join(kinds)}")
    return ((name, module) for name, module in linears.items() if any(_ends(name, ending) for ending in endings))


def _ends(name: str, ending: str) -> bool:
    return f".{name}".endswith(f".{ending}")


def replace(model: Module, name: str, module: Module) -> None:
    """Put a module in the place of the one of this name."""
    *path, last = name.split(".")
    holder: Any = model
    for part in path:
        holder = dict(holder.named_children())[part]
    if isinstance(holder, ModuleList):
        holder[int(last)] = module
    else:
        setattr(holder, last, module)
