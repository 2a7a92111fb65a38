"""Modules: parts of a model that hold Parameters and buffers, know their names, and can be called.

Names and the layout of a state are PyTorch's.  Nothing here knows a layer; layers are written in the other files.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from ..graph import Tensor, as_tensor, state, tensor


class Parameter(Tensor):
    """A leaf that a model learns, holding a copy of `data` in its own dtype, or another."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, name: str | None = None, dtype: Any = None):
        array = _blank(np.asarray(data), dtype) if state.unfilled else tensor(data, dtype)._array
        super().__init__(array, requires_grad, name)

    @property
    def data(self) -> np.ndarray:
        """The values, as a read-only view.  Assigning a new array replaces them; not where they are still to come."""
        return Tensor.data.fget(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, values: Any) -> None:
        if not state.unfilled:
            Tensor.data.fset(self, values)  # type: ignore[attr-defined]


def _blank(like: np.ndarray, dtype: Any) -> np.ndarray:
    """Zeros of a shape and dtype, without memory."""
    return np.broadcast_to(np.zeros((), dtype or like.dtype), like.shape)


class HookHandle:
    """A registered hook; `remove()` takes it away again, as does leaving a with-block."""

    _numbers = itertools.count()

    def __init__(self, hooks: dict[int, Callable], hook: Callable):
        self._hooks, self._number = hooks, next(HookHandle._numbers)
        hooks[self._number] = hook

    def remove(self) -> None:
        """Call the hook no more.  Removing twice is no error."""
        self._hooks.pop(self._number, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """Holds Parameters, buffers and other Modules as attributes; subclasses define `forward`.

    A call is recorded under the module's name, so that drawings and errors can say where in the model an op belongs.
    """

    training: bool
    _name: str | None
    _parameter_names: dict[str, None]  # attributes that are parameters; in the copies of tree_flatten not by type
    _buffer_names: dict[str, bool]  # attributes that are buffers, and whether they belong to the state
    _pre_hooks: dict[int, Callable]
    _hooks: dict[int, Callable]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        vars(self).update(training=True, _name=None, _parameter_names={}, _buffer_names={}, _pre_hooks={}, _hooks={})
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._parameter_names[name] = None
            self._buffer_names.pop(name, None)
            value.name = value.name or name
        elif isinstance(value, Module):
            value._called(name)
        elif isinstance(value, Tensor) and name in self._parameter_names:
            raise TypeError(f"{name} is a parameter of {type(self).__name__}: assign a Parameter, or delete it first")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._parameter_names.pop(name, None)
        self._buffer_names.pop(name, None)

    def _called(self, name: str) -> None:
        """Take a name, unless there is one: a shared module is known by its first."""
        if self._name is None:
            self._name = name

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Hold a Tensor that is not learned, or None in its place; it belongs to state_dict() if `persistent`."""
        self._buffer_names[name] = persistent
        object.__setattr__(self, name, value if value is None else as_tensor(value))

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Hold a Parameter, or None in the place of one."""
        setattr(self, name, value)

    # Calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's equation."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outside = state.scope
        state.scope = (*outside, self._name or type(self).__name__)
        try:
            for hook in list(self._pre_hooks.values()):
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            out = self.forward(*args, **kwargs)
            for hook in list(self._hooks.values()):
                changed = hook(self, args, out)
                out = out if changed is None else changed
            return out
        finally:
            state.scope = outside

    def register_forward_pre_hook(self, hook: Callable) -> HookHandle:
        """Call hook(module, args) before each call; what it returns, unless None, replaces the positional arguments."""
        return HookHandle(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable) -> HookHandle:
        """Call hook(module, args, output) after each call; what it returns, unless None, replaces the output."""
        return HookHandle(self._hooks, hook)

    # Walking

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for each module held directly."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        """Each module held directly."""
        return (child for _, child in self.named_children())

    def _all(self, prefix: str, inside: tuple[Module, ...] = ()) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module and all below it, shared ones under each of their names."""
        if self in inside:
            raise ValueError(f"{type(self).__name__} contains itself, as {prefix!r}")
        yield prefix, self
        for name, child in self.named_children():
            yield from child._all(f"{prefix}.{name}" if prefix else name, (*inside, self))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module, named '', and all below it, each once under its first name."""
        seen: set[int] = set()
        for name, module in self._all(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call function(module) for this module and all below it."""
        for module in self.modules():
            function(module)
        return self

    def _named(self, *kinds: str, once: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, tensor) for every tensor of the kinds; tied ones once, or under each of their names."""
        seen: set[int] = set()
        for prefix, module in self._all(""):
            for name in [name for kind in kinds for name in module._own(kind)]:
                value = getattr(module, name)
                if isinstance(value, Tensor) and id(value) not in seen:
                    if once:
                        seen.add(id(value))
                    yield f"{prefix}.{name}" if prefix else name, value

    def _own(self, kind: str) -> list[str]:
        """Names of this module's own 'parameter's, 'buffer's, or buffers that are part of the 'state'."""
        if kind == "parameter":
            return list(self._parameter_names)
        return [name for name, persistent in self._buffer_names.items() if persistent or kind == "buffer"]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, parameter), each parameter once, under its first name."""
        return self._named("parameter")

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer), each buffer once, under its first name."""
        return self._named("buffer")

    def buffers(self) -> Iterator[Tensor]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers())

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and persistent buffer by its dotted name, tied ones under each of theirs."""
        return {name: np.array(value._array) for name, value in self._named("parameter", "state", once=False)}

    def load_state_dict(self, arrays: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the values of `arrays`; when not strict, missing and unexpected names are passed over.

        Raises ValueError listing all names that are missing, unexpected or of another shape; nothing is changed then.
        """
        own = dict(self._named("parameter", "state", once=False))
        given = {name: a._array if isinstance(a, Tensor) else np.asarray(a) for name, a in arrays.items()}
        pairs = [(name, own[name], given[name]) for name in own if name in given]
        faults = []
        if strict:
            faults += [f"missing {name}" for name in own if name not in given]
            faults += [f"unexpected {name}" for name in given if name not in own]
        faults += [f"{name} has shape {a.shape}, expected {x.shape}" for name, x, a in pairs if a.shape != x.shape]
        faults += [f"{name} has dtype {a.dtype}, not numbers" for name, _, a in pairs if a.dtype.kind not in "fiub"]
        if faults:
            raise ValueError(f"cannot load into {type(self).__name__}: " + "; ".join(faults))
        for _, x, a in pairs:
            x.data = a

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training (dropout on, statistics updated), or back."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to inference."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let backward() compute gradients for all parameters, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert every floating-point parameter and buffer to `dtype`, in place."""
        for _, value in self._named("parameter", "buffer"):
            if value.dtype.kind == "f":
                value._array = _blank(value._array, dtype) if state.unfilled else value._array.astype(dtype)
                value.changed()
        return self

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for parameter in self.parameters():
            parameter.grad = None

    # Differentiation with respect to a whole module

    def tree_flatten(self) -> tuple[dict[str, Tensor], Callable[[dict[str, Any]], Module]]:
        """Parameters by name, and a function that gives this module with other tensors in their places."""
        named = list(self.named_parameters())
        parts = {name: Tensor(p._array, name=p.name) if isinstance(p, Parameter) else p for name, p in named}
        return parts, lambda new: _replaced(self, {id(p): new[name] for name, p in named}, {})

    def __repr__(self) -> str:
        children = "".join(f"\n({name}): {child!r}" for name, child in self.named_children()).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}{children}{chr(10) if children else ''})"

    def extra_repr(self) -> str:
        """What to show of the module's own settings."""
        return ""


def _replaced(value: Any, tensors: dict[int, Any], done: dict[int, Module]) -> Any:
    """`value` with `tensors` in place of the tensors of those ids; Modules and containers of them are copied."""
    if isinstance(value, Module):
        if id(value) not in done:
            done[id(value)] = copy = object.__new__(type(value))
            vars(copy).update({name: _replaced(part, tensors, done) for name, part in vars(value).items()})
        return done[id(value)]
    if isinstance(value, Tensor):
        return tensors.get(id(value), value)
    if type(value) in (list, tuple):
        parts = [_replaced(part, tensors, done) for part in value]
        return value if all(map(operator.is_, parts, value)) else type(value)(parts)
    if type(value) is dict:
        parts = [_replaced(part, tensors, done) for part in value.values()]
        return value if all(map(operator.is_, parts, value.values())) else dict(zip(value, parts, strict=True))
    return value
