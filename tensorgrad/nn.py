"""Modules: parts of a model that hold Parameters, know their names, and can be called.

Names, argument order and weight layout are PyTorch's.  Randomness is an argument: `rng` for initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Tensor, as_tensor, setting, state, tensor
from .ops import fused, index


class Parameter(Tensor):
    """A leaf that a model learns."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, name: str | None = None):
        super().__init__(tensor(data)._array, requires_grad, name)


class Module:
    """Holds Parameters, other Modules, and lists or dicts of Modules, as attributes; subclasses define `forward`.

    A call is recorded under the module's name, so that drawings and errors can say where in the model an op belongs.
    """

    training: bool = True
    _name: str | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter) and value.name is None:
            value.name = name
        if isinstance(value, Module) and value._name is None:
            object.__setattr__(value, "_name", name)
        object.__setattr__(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's equation."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with setting(scope=(*state.scope, self._name or type(self).__name__)):
            return self.forward(*args, **kwargs)

    # Walking

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(attribute name, module) for each module held directly."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module, named '', and all below it, each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                children = [(f"{name}.{child}" if name else child, m) for child, m in module.named_children()]
                stack.extend(reversed(children))

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self) -> Iterator[tuple[str, Module, str, Tensor]]:
        """(dotted name, owner, attribute, tensor) for every Parameter and buffer, tied ones as often as they occur."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    yield f"{prefix}.{name}" if prefix else name, module, name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), each parameter once, under its first name."""
        seen: set[int] = set()
        for name, _, _, value in self._named_tensors():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer by its dotted name."""
        return {name: np.array(value._array) for name, _, _, value in self._named_tensors()}

    def load_state_dict(self, arrays: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the values of `arrays`.  Raises ValueError listing all names that are missing, unexpected or of another shape;
        when not strict, missing and unexpected names are passed over.  Nothing is changed if it raises."""
        own = {name: value for name, _, _, value in self._named_tensors()}
        given = {name: np.asarray(as_tensor(a)._array) for name, a in arrays.items()}
        faults = []
        if strict:
            faults += [f"missing {name}" for name in own if name not in given]
            faults += [f"unexpected {name}" for name in given if name not in own]
        shared = [name for name in own if name in given]
        faults += [
            f"{name} has shape {given[name].shape}, expected {own[name].shape}" for name in shared if given[name].shape != own[name].shape
        ]
        if faults:
            raise ValueError(f"cannot load into {type(self).__name__}: " + "; ".join(faults))
        for name in shared:
            own[name].data = given[name]

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all below it to training (dropout on, statistics updated), or back."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to inference."""
        return self.train(False)

    def astype(self, dtype: Any) -> Module:
        """Convert every floating-point parameter and buffer to `dtype`, in place."""
        for _, _, _, value in self._named_tensors():
            if value.dtype.kind == "f":
                value._array = value._array.astype(dtype)
                value.changed()
        return self

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for parameter in self.parameters():
            parameter.grad = None

    # Differentiation with respect to a whole module

    def tree_flatten(self) -> tuple[dict[str, Tensor], Callable[[dict[str, Any]], Module]]:
        """Parameters by name, and a function that gives this module with other tensors in their places."""
        where: dict[int, str] = {}
        parts: dict[str, Tensor] = {}
        for name, _, _, value in self._named_tensors():
            if (isinstance(value, Parameter) or value.requires_grad) and id(value) not in where:
                where[id(value)] = name
                parts[name] = Tensor(value._array, name=value.name) if isinstance(value, Parameter) else value
        return parts, lambda new: self._with({i: new[name] for i, name in where.items()}, {})

    def _with(self, tensors: dict[int, Tensor], done: dict[int, Module]) -> Module:
        """A copy of this module, and of those below it, with `tensors` in place of the tensors of those ids."""
        if id(self) not in done:
            copy = object.__new__(type(self))
            done[id(self)] = copy
            for name, value in vars(self).items():
                if isinstance(value, Module):
                    value = value._with(tensors, done)
                elif isinstance(value, Tensor):
                    value = tensors.get(id(value), value)
                object.__setattr__(copy, name, value)
        return done[id(self)]

    def __repr__(self) -> str:
        children = "".join(f"\n({name}): {child!r}" for name, child in self.named_children()).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}{children}{chr(10) if children else ''})"

    def extra_repr(self) -> str:
        """What to show of the module's own settings."""
        return ""


class ModuleList(Module):
    """Modules by number."""

    def __init__(self, modules: Iterable[Module] = ()):
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def __getitem__(self, i: int) -> Module:
        return list(self)[i]


class Sequential(ModuleList):
    """y = f_n(.. f_1(x))."""

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


def _uniform(rng: np.random.Generator | None, bound: float, shape: Sequence[int]) -> np.ndarray:
    return (rng or np.random.default_rng()).uniform(-bound, bound, shape).astype(np.float32)


class Linear(Module):
    """(.., n) -> (.., m);  y = x W^T + b.  weight (m, n) and bias (m,) start uniform in +-1/sqrt(n)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng: np.random.Generator | None = None):
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        rng = rng or np.random.default_rng()
        self.weight = Parameter(_uniform(rng, bound, (out_features, in_features)))
        self.bias = Parameter(_uniform(rng, bound, (out_features,))) if bias else None

    def forward(self, x: Any) -> Tensor:
        return fused.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}{', bias=False' if self.bias is None else ''}"


class Embedding(Module):
    """(..) integers -> (.., embedding_dim): rows of weight (num_embeddings, embedding_dim), which starts standard normal."""

    def __init__(self, num_embeddings: int, embedding_dim: int, rng: np.random.Generator | None = None):
        self.weight = Parameter((rng or np.random.default_rng()).standard_normal((num_embeddings, embedding_dim), np.float32))

    def forward(self, ids: Any) -> Tensor:
        return index.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class LayerNorm(Module):
    """(.., n) -> (.., n);  y = (x - mean) / sqrt(var + eps) * weight + bias."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True):
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, np.float32))
        self.bias = Parameter(np.zeros(normalized_shape, np.float32)) if bias else None

    def forward(self, x: Any) -> Tensor:
        return fused.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class RMSNorm(Module):
    """(.., n) -> (.., n);  y = x / sqrt(mean x^2 + eps) * weight."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, np.float32))

    def forward(self, x: Any) -> Tensor:
        return fused.rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class Dropout(Module):
    """y = x m / (1 - p) when training, x else; the mask comes from the rng given to the call, or to the module."""

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"dropout: p must be in [0, 1], got {p}")
        self.p = p
        self.rng = rng or np.random.default_rng()

    def forward(self, x: Any, rng: np.random.Generator | None = None) -> Tensor:
        return fused.dropout(x, self.p, self.training, rng or self.rng)

    def extra_repr(self) -> str:
        return f"{self.p}"
