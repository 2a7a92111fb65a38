"""Modules that hold modules: by number, by name, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .module import Module


class ModuleList(Module):
    """Modules by number.  It is not called itself; its modules are recorded as `name.0`, `name.1`, .."""

    def __init__(self, modules: Iterable[Module] = ()):
        self._items: list[Module] = []
        self.extend(modules)

    def _called(self, name: str) -> None:
        super()._called(name)
        for i, module in enumerate(self._items):
            module._called(f"{self._name}.{i}")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(number, module) for each module."""
        return ((str(i), module) for i, module in enumerate(self._items))

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        self.insert(len(self), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, i: int, module: Module) -> None:
        """Add a module before number i."""
        self._items.insert(i, _module(module))
        if self._name is not None:
            self._called(self._name)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items)

    def __getitem__(self, i: int | slice) -> Any:
        return ModuleList(self._items[i]) if isinstance(i, slice) else self._items[i]

    def __setitem__(self, i: int, module: Module) -> None:
        self._items[i] = _module(module)


class Sequential(ModuleList):
    """y = f_n(.. f_1(x))."""

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def _called(self, name: str) -> None:
        Module._called(self, name)

    def insert(self, i: int, module: Module) -> None:
        """Add a module before number i."""
        super().insert(i, module)
        module._called(str(i))

    def __getitem__(self, i: int | slice) -> Any:
        return Sequential(*self._items[i]) if isinstance(i, slice) else self._items[i]

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleDict(Module):
    """Modules by name.  It is not called itself; its modules are recorded as `name.key`."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        self._items: dict[str, Module] = {}
        self.update(modules)

    def _called(self, name: str) -> None:
        super()._called(name)
        for key, module in self._items.items():
            module._called(f"{self._name}.{key}")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(key, module) for each module."""
        return iter(self._items.items())

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for key, module in dict(modules).items():
            self[key] = module

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._items.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._items.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) for each."""
        return self._items.items()

    def pop(self, key: str) -> Module:
        """Take a module out."""
        return self._items.pop(key)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __getitem__(self, key: str) -> Module:
        return self._items[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if not isinstance(key, str) or not key or "." in key:
            raise ValueError(f"the name of a module must be a string without dots, got {key!r}")
        self._items[key] = _module(module)
        if self._name is not None:
            self._called(self._name)

    def __delitem__(self, key: str) -> None:
        del self._items[key]


def _module(value: Any) -> Module:
    if not isinstance(value, Module):
        raise TypeError(f"expected a Module, got {type(value).__name__}")
    return value
