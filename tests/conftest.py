"""Marks the tests that compare with another library as `oracle`; `--definitions` runs any test without a single kernel."""

import inspect
from collections.abc import Iterator
from contextlib import nullcontext

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--definitions", action="store_true", help="ops run their definitions, not their kernels")


@pytest.fixture(autouse=True)
def definitions(request: pytest.FixtureRequest) -> Iterator[None]:
    import tensorgrad as tg

    with tg.definitions() if request.config.getoption("definitions") else nullcontext():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "function", None)
        module = getattr(item, "module", None)
        if function and ("importorskip(" in inspect.getsource(function) or _skips_without_peer(module)):
            item.add_marker(pytest.mark.oracle)


def _skips_without_peer(module: object) -> bool:
    return any(getattr(module, name, None) is not None for name in ("torch", "transformers"))
