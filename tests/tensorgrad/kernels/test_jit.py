"""kernels.jit: what importing costs, IEEE numbers, the two forms of a driver."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from numba import prange, types
from numba.core.dispatcher import Dispatcher

import tensorgrad.kernels
from tensorgrad.kernels import jit


def test_import_brings_in_no_compiler():
    code = "import sys, tensorgrad as tg; tg.tensor([1.0]) + 1; assert 'numba' not in sys.modules; tg.softmax(tg.ones(3))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_of_the_kernels_compiles_nothing():
    code = """
import importlib
from numba.core import event
from tensorgrad import kernels
with event.install_recorder("numba:compile") as recorder:
    for name in kernels.__all__:
        importlib.import_module("tensorgrad.kernels." + name)
assert not recorder.buffer
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@jit.serial
def classify(x, y):
    for i in range(x.size):
        y[0, i] = np.isnan(x[i])
        y[1, i] = np.isinf(x[i])
        y[2, i] = 1 / x[i]
        y[3, i] = x[i] * 0
        y[4, i] = x[i] - x[i]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_ieee(dtype):
    """Case 151."""
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, np.finfo(dtype).tiny / 4, np.finfo(dtype).max] * 8, dtype)
    y = np.empty((5, x.size), dtype)
    classify(x, y)
    with np.errstate(all="ignore"):
        expected = np.array([np.isnan(x), np.isinf(x), 1 / x, x * 0, x - x], dtype)
    np.testing.assert_array_equal(y, expected)
    signed = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y)[signed], np.signbit(expected)[signed])


def test_no_kernel_asks_for_unsafe_arithmetic():
    """Case 151."""
    dispatchers = []
    for module in pkgutil.iter_modules(tensorgrad.kernels.__path__, "tensorgrad.kernels."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, jit.Driver):
                value = jit._compile(value.function, None)
            if isinstance(value, Dispatcher):
                dispatchers.append(value)
    assert len(dispatchers) > 10
    for dispatcher in dispatchers:
        assert dispatcher.targetoptions["fastmath"] <= {"reassoc", "contract"}, dispatcher
        assert dispatcher.targetoptions["error_model"] == "numpy", dispatcher


def reductions(source):
    """The names that a driver's loops over chunks make anew out of what they were, and how many such loops there are."""
    loops = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.For) and "prange" in ast.unparse(n.iter)]
    found = set()
    for node in (node for loop in loops for node in ast.walk(loop)):
        targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets if isinstance(node, ast.Assign) else []
        read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        found |= names if isinstance(node, ast.AugAssign) else names & read
    return found, len(loops)


def test_no_driver_reduces_into_a_scalar():
    """Case 153: one loop over chunks a driver, and what chunks have in common is an array with a place for each."""
    planted = "def f(x):\n total = 1.0\n for i in prange(9):\n  if x[i] > 0:\n   total {}\n return total"
    assert reductions(planted.format("+= x[i]")) == reductions(planted.format("= total + x[i]")) == ({"total"}, 1)
    drivers = [value for module in pkgutil.iter_modules(tensorgrad.kernels.__path__, "tensorgrad.kernels.")
               for value in vars(importlib.import_module(module.name)).values() if isinstance(value, jit.Driver)]  # fmt: skip
    assert len(drivers) > 30
    for driver in drivers:
        assert reductions(inspect.getsource(driver.function)) == (set(), 1), driver.function


@jit.inline
def rounded(x):
    return (x + np.float32(12582912)) - np.float32(12582912)  # to a whole number, by the rounding of the sum


@jit.parallel
def add_one(x, y, chunks):
    for c in prange(chunks):
        for i in range(x.size * c // chunks, x.size * (c + 1) // chunks):
            y[i] = rounded(x[i]) + 1


def test_both_forms_of_a_driver_agree():
    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    threaded, serial = np.empty_like(x), np.empty_like(x)
    add_one.at(jit.SMALL)(x, threaded, 7)
    add_one.at(jit.SMALL - 1)(x, serial, 7)
    np.testing.assert_array_equal(threaded, np.round(x) + 1)
    np.testing.assert_array_equal(serial, threaded)


def test_signature_takes_every_layout_of_a_dtype():
    anything = types.Array(types.float32, 1, "A", readonly=True, aligned=False)
    driver = jit.parallel(lambda x, chunks: x[0] + chunks, (anything, types.int64))
    frozen = np.ones(4, np.float32)
    frozen.flags.writeable = False
    for x in (np.ones(4, np.float32), np.ones(8, np.float32)[::2], frozen):
        assert driver.serial(x, 3) == 4
    with pytest.raises(TypeError):
        driver.serial(np.ones(4), 3)
