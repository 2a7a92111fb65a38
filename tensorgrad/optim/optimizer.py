"""What all optimizers share: parameter groups, the state of each parameter, and how both are saved.

`params` is a list of Parameters or of (name, Parameter), or of groups {"params": [..], "lr": .., ..} whose settings
override the defaults, as in PyTorch.  Steps are taken outside the graph: a parameter's values are replaced, in place where
nobody else can see them, and results recorded before can no longer be differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..graph import Tensor
from .gradients import clipping
from .sharing import own_arrays

Params = Iterable[Any]
Group = dict[str, Any]
State = dict[str, Any]


def not_negative(group: Group, *names: str) -> None:
    """Raise ValueError unless the settings are numbers >= 0."""
    for name in names:
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be a number >= 0, got {group[name]}")


def fractions(name: str, *values: float) -> None:
    """Raise ValueError unless the values are in [0, 1)."""
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


class Optimizer:
    """Holds parameter groups and each parameter's state; a subclass defines `check`, and `update` or `move`."""

    def __init__(self, params: Params, **defaults: Any):
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        groups = list(params)
        if not groups:
            raise ValueError("an optimizer needs at least one parameter")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: Group) -> None:
        """Optimize more parameters, with the settings of `group` where it has them, else the defaults."""
        given = list(group["params"])
        named = [p for p in given if isinstance(p, tuple)]
        if named and len(named) < len(given):
            raise ValueError("either all parameters of a group have names or none")
        group = {**self.defaults, **group, "params": [p for _, p in named] if named else given}
        if named:
            group["param_names"] = [name for name, _ in named]
        self.check(group)
        seen = {id(p) for p in self.parameters()}
        for p in group["params"]:
            self.check_parameter(p)
            if id(p) in seen:
                raise ValueError(f"parameter {p.name} of shape {p.shape} was given twice")
            seen.add(id(p))
        self.param_groups.append(group)

    def check(self, group: Group) -> None:
        """Raise ValueError for settings that make no sense."""

    def check_parameter(self, p: Any) -> None:
        """Raise TypeError or ValueError for a parameter that cannot be optimized."""
        if not isinstance(p, Tensor):
            raise TypeError(f"an optimizer needs Parameters, got {type(p).__name__}")
        if p.dtype not in (np.float32, np.float64) or not p.is_leaf:
            what = f"a tensor of {p.dtype}" if p.is_leaf else f"the result of {p.op.name}"  # type: ignore[union-attr]
            raise TypeError(f"an optimizer needs float32 or float64 leaves, got {what}, of shape {p.shape}")

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters():
            p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self._step(1.0)

    def clipped_step(self, max_norm: float) -> float:
        """Move as after `clip_grad_norm(self.parameters(), max_norm)`, with one pass less over the gradients.

        They stay as they are; their norm is returned.  If it is inf or nan, nothing moves.
        """
        norm, factor = clipping(self.parameters(), max_norm)
        if math.isfinite(norm):
            self._step(factor)
        return norm

    def _step(self, scale: float) -> None:
        for group in self.param_groups:
            self.check(group)
            moving = [p for p in group["params"] if p.grad is not None]
            for p in moving:
                if p.grad.shape != p.shape:
                    raise ValueError(f"parameter {p.name} of shape {p.shape} has a gradient of shape {p.grad.shape}")
            gradients = [np.ascontiguousarray(p.grad._array, p.dtype).reshape(p.shape) for p in moving]
            values = own_arrays(moving)
            self.move(values, gradients, [self.state.setdefault(p, {}) for p in moving], group, scale)
            for p, array in zip(moving, values, strict=True):
                p._array = array
                p.changed()

    def move(self, ps: list[np.ndarray], gs: list[np.ndarray], states: list[State], group: Group, scale: float) -> None:
        """Change the values `ps` of parameters in place by their gradients, `scale` times `gs`."""
        for p, g, state in zip(ps, gs, states, strict=True):
            self.update(p, g if scale == 1 else g * g.dtype.type(scale), state, group)

    def update(self, p: np.ndarray, g: np.ndarray, state: State, group: Group) -> None:
        """Change the values `p` of one parameter in place by its gradient `g`."""
        raise NotImplementedError

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: state}, "param_groups": [settings and numbers]}, arrays copied.

        As in PyTorch, parameters are numbered in the order of the groups.
        """
        number = {id(p): i for i, p in enumerate(self.parameters())}
        state = {
            number[id(p)]: {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in entry.items()}
            for p, entry in self.state.items()
            if entry
        }
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state_dict(), ours or PyTorch's.

        Parameters are matched by name if both sides know names, else by order.  Raises ValueError if groups, names,
        settings or shapes do not match; nothing is changed then.
        """
        numbered = self._matched(saved["param_groups"])
        state = {}
        for i, entry in saved["state"].items():
            p = numbered[int(i)]
            state[p] = {k: _restored(k, value, p) for k, value in entry.items() if value is not None}
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            lacking = [name for name in self.defaults if name not in other]
            if lacking:
                raise ValueError(f"the saved optimizer has no {', '.join(lacking)}: is it another kind of optimizer?")
            self.check(group | {name: other[name] for name in self.defaults})
        self.state = state
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update({name: _tupled(other[name]) for name in self.defaults})

    def _matched(self, saved: list[Group]) -> dict[int, Tensor]:
        """For each number in the saved groups, our parameter."""
        sizes, given = ([len(g["params"]) for g in groups] for groups in (self.param_groups, saved))
        if sizes != given:
            raise ValueError(f"the saved optimizer has parameter groups of sizes {given}, this one {sizes}")
        numbered = {}
        for group, other in zip(self.param_groups, saved, strict=True):
            ours, theirs = group.get("param_names"), other.get("param_names")
            order = group["params"]
            if ours and theirs:
                by_name = dict(zip(ours, order, strict=True))
                if by_name.keys() != set(theirs):
                    raise ValueError(f"the saved optimizer moves {sorted(theirs)}, this one {sorted(ours)}")
                order = [by_name[name] for name in theirs]
            numbered.update({int(i): p for i, p in zip(other["params"], order, strict=True)})
        return numbered


def _restored(name: str, value: Any, p: Tensor) -> Any:
    """A saved part of the state of `p`: the number of steps, or an array like p."""
    if name == "step":
        return int(value)
    array = np.asarray(value).astype(p.dtype, order="C")
    if array.shape != p.shape:
        raise ValueError(f"the saved {name} of a parameter {p.name} has shape {array.shape}, expected {p.shape}")
    return array


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
