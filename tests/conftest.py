"""Marks the tests that compare with another library, wherever they ask for it, as `oracle`."""

import inspect

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "function", None)
        module = getattr(item, "module", None)
        if function and ("importorskip(" in inspect.getsource(function) or _skips_without_peer(module)):
            item.add_marker(pytest.mark.oracle)


def _skips_without_peer(module: object) -> bool:
    return any(getattr(module, name, None) is not None for name in ("torch", "transformers"))
