"""Marks the tests that compare with another library as `oracle`; `--definitions` runs any test without a single kernel."""

import inspect
import signal
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

# Tests about the kernels themselves: that they are used, their range, and threads and processes, which begin with kernels;
# and about graphs in which a fused op is one node
ABOUT_KERNELS = (
    "tests/tensorgrad/kernels/",
    "test_cost.py",
    "test_draw.py",
    "test_gradients_that_nobody_wants_are_not_computed",
    "test_a_hessian_vector_product_computes_no_gradient",
    "test_modules_are_comments_and_parameters_inputs",
    "test_case_116_layer_norm_of_huge_rows",
    "test_definitions_is_a_switch_that_turns_kernels_off",
    "test_threads_with_their_own_graphs_and_shared_weights_give_the_serial_answer",
    "test_spare.py",
    "test_warmup.py",
    "test_no_blas.py",
    "test_killed_in_the_middle_of_training_and_resumed",
    "test_a_planted_fault_fails_its_line[approximate_kernel]",
    "test_a_planted_fault_fails_its_line[imprecise_single]",
)
MANY = 1000
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would the tests' processes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--definitions", action="store_true", help="ops run their definitions, not their kernels")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before many tests, kernels are compiled by several processes, instead of one by one where they are first needed."""
    if len(session.items) > MANY and not session.config.option.collectonly:
        from tensorgrad.warmup import warm

        warm()


@pytest.fixture(autouse=True)
def definitions(request: pytest.FixtureRequest) -> Iterator[None]:
    import tensorgrad as tg

    with tg.definitions() if request.config.getoption("definitions") else nullcontext():
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("definitions"):
        items[:] = [item for item in items if not any(name in item.nodeid for name in ABOUT_KERNELS)]
    for item in items:
        function = getattr(item, "function", None)
        module = getattr(item, "module", None)
        if function and ("importorskip(" in inspect.getsource(function) or _skips_without_peer(module)):
            item.add_marker(pytest.mark.oracle)


def _skips_without_peer(module: object) -> bool:
    return any(getattr(module, name, None) is not None for name in ("torch", "transformers"))
