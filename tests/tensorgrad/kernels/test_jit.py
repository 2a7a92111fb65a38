"""kernels.jit: IEEE numbers, the disk cache under edits, damage and races, threads and fork."""

import importlib
import os
import pkgutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numba import prange, types
from numba.core.dispatcher import Dispatcher

import tensorgrad.kernels
from tensorgrad.kernels import cache, jit

HELPER = """
from tensorgrad.kernels.jit import inline
@inline
def change(x): return x + {step}
"""
KERNEL = """
import sys
import numpy as np
from numba import prange
from numba.core import event
from helper import change
from tensorgrad.kernels.jit import parallel, serial

@serial
def part(x, y):
    for i in range(x.size):
        y[i] = change(x[i])

@parallel
def whole(x, y, chunks):
    for c in prange(chunks):
        part(x[x.size * c // chunks : x.size * (c + 1) // chunks], y[x.size * c // chunks : x.size * (c + 1) // chunks])

def compiled(kernel):
    with event.install_recorder("numba:compile") as recorder:
        x = np.arange(1000.0)
        y = np.empty_like(x)
        kernel(x, y, 4)
    return int(y[0]), len(recorder.buffer) > 0
"""


@pytest.fixture
def package(tmp_path):
    """Two files of kernels, and a function that runs code beside them with the cache in tmp_path / cache."""
    (tmp_path / "helper.py").write_text(HELPER.format(step=1))
    (tmp_path / "kernel.py").write_text(KERNEL)

    def start(code, **environment):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()} | environment
        return subprocess.Popen(
            [sys.executable, "-c", "from kernel import *\n" + code],
            cwd=tmp_path,
            text=True,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    start.path = tmp_path
    return start


def finish(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip()


def test_compiled_once_and_again_after_a_helper_elsewhere_is_edited(package):
    assert finish(package("print(compiled(whole))")) == "(1, True)"
    assert finish(package("print(compiled(whole))")) == "(1, False)"
    (package.path / "helper.py").write_text(HELPER.format(step=7))
    assert finish(package("print(compiled(whole))")) == "(7, True)"
    names = [file.name.rsplit("-", 1)[0] for file in (package.path / "cache").iterdir()]
    assert len(names) == len(set(names))  # the old code is gone


def test_damaged_files_are_compiled_again(package):
    finish(package("compiled(whole.serial)"))
    for number, file in enumerate(sorted((package.path / "cache").iterdir())):
        content = file.read_bytes()
        file.write_bytes([b"", content[:-100], content[:500] + b"\xff" + content[501:]][number % 3])
    assert finish(package("print(compiled(whole))")) == "(1, True)"
    assert finish(package("print(compiled(whole))")) == "(1, False)"


def test_processes_that_start_together_on_an_empty_cache(package):
    processes = [package("print(compiled(whole)[0], compiled(whole.serial)[0])") for _ in range(4)]
    assert [finish(process) for process in processes] == ["1 1"] * 4


def test_closures_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)

    def adder(step):
        return jit.serial(lambda x: x + step)

    assert [adder(step)(10) for step in (1, 2)] == [11, 12]


def test_forked_child_runs_on_one_thread(package):
    code = """
import os, warnings
compiled(whole)
if os.fork() == 0:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = compiled(whole)[0], compiled(whole)[0]
    print(result, len(caught), "spawn" in str(caught[0].message), flush=True)
    os._exit(0)
os.wait()
"""
    assert finish(package(code, NUMBA_THREADING_LAYER="omp" if sys.platform == "linux" else "default")) == "(1, 1) 1 True"


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


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Run with chosen directories in place of the real ones, each process-wide answer forgotten before and after."""
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forgotten = (cache.directory, cache._warn_uncached)
    for answer in forgotten:
        answer.cache_clear()
    yield tmp_path
    for answer in forgotten:
        answer.cache_clear()


def test_user_directory_where_the_package_is_read_only(places, monkeypatch):
    private = cache._private
    monkeypatch.setattr(cache, "_private", lambda path: path.name != "__pycache__" and private(path))
    assert cache.directory() == places / "tensorgrad"
    assert (places / "tensorgrad").stat().st_mode & 0o777 == 0o700


def plus_one(x):
    return x + 1


def plus_two(x):
    return x + 2


def test_no_directory_at_all_gives_one_warning(places, monkeypatch):
    monkeypatch.setattr(cache, "_private", lambda path: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert jit.serial(plus_one)(1) == 2
        assert jit.serial(plus_two)(1) == 3
    assert len(caught) == 1 and "NUMBA_CACHE_DIR" in str(caught[0].message)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_directory_that_others_can_write_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    assert not cache._private(tmp_path / "open") and not cache._private(tmp_path / "link")
    assert cache._private(tmp_path / "closed")


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
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, np.finfo(dtype).tiny / 4, np.finfo(dtype).max] * 8, dtype)
    y = np.empty((5, x.size), dtype)
    classify(x, y)
    with np.errstate(all="ignore"):
        expected = np.array([np.isnan(x), np.isinf(x), 1 / x, x * 0, x - x], dtype)
    np.testing.assert_array_equal(y, expected)
    signed = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y)[signed], np.signbit(expected)[signed])


def test_no_kernel_asks_for_unsafe_arithmetic():
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
