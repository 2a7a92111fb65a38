"""kernels.cache: under edits, damage and races, on other machines, and where nothing can be written."""

import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

import tensorgrad
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

    def start(code, stdin=None, **environment):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()} | environment
        return subprocess.Popen(
            [sys.executable, "-c", "from kernel import *\n" + code],
            cwd=tmp_path,
            text=True,
            env=environment,
            stdin=stdin,
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
    """Case 145."""
    assert finish(package("print(compiled(whole))")) == "(1, True)"
    assert finish(package("print(compiled(whole))")) == "(1, False)"
    (package.path / "helper.py").write_text(HELPER.format(step=7))
    assert finish(package("print(compiled(whole))")) == "(7, True)"
    names = [file.name.rsplit("-", 1)[0] for file in (package.path / "cache").iterdir()]
    assert len(names) == len(set(names))  # the old code is gone


def test_damaged_files_are_compiled_again(package):
    """Case 142."""
    finish(package("compiled(whole.serial)"))
    for number, file in enumerate(sorted((package.path / "cache").iterdir())):
        content = file.read_bytes()
        file.write_bytes([b"", content[:-100], content[:500] + b"\xff" + content[501:], os.urandom(5000)][number % 4])
    assert finish(package("print(compiled(whole))")) == "(1, True)"
    assert finish(package("print(compiled(whole))")) == "(1, False)"


def test_eight_processes_that_start_together_share_the_work(package):
    """Case 144."""
    processes = [package("print(*compiled(whole), *compiled(whole.serial))") for _ in range(8)]
    results = [finish(process).split() for process in processes]
    assert [result[::2] for result in results] == [["1", "1"]] * 8
    assert [sum(result[i] == "True" for result in results) for i in (1, 3)] == [1, 1]  # each form was compiled once


def test_another_machine_or_another_way_to_compile_is_told_apart(package):
    """Cases 148 and 149."""
    assert finish(package("print(compiled(whole))")) == "(1, True)"
    for other in ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_BOUNDSCHECK": "1"}, {"NUMBA_OPT": "1"}):
        assert finish(package("print(compiled(whole))", **other)) == "(1, True)"
    assert finish(package("print(compiled(whole)[0])", NUMBA_DISABLE_INTEL_SVML="1")) == "1"
    assert finish(package("print(compiled(whole))")) == "(1, False)"


def test_a_process_that_dies_while_it_compiles_holds_nobody_up(package):
    code = "from tensorgrad.kernels import cache\nprint(cache.claim({0!r}, 0)); cache.give_back({1!r}); {2}"
    assert finish(package(code.format("kernel", "other", "import os; sys.stdout.flush(); os._exit(0)"))) == "True"
    holder = package(code.format("kernel", "other", "sys.stdout.flush(); sys.stdin.read()"), stdin=subprocess.PIPE)
    assert holder.stdout.readline() == "True\n"
    assert finish(package(code.format("kernel", "other", "pass"))) == "False"
    assert finish(package(code.format("another kernel", "other", "pass"))) == "True"
    holder.kill()
    holder.wait()
    assert finish(package(code.format("kernel", "other", "pass"))) == "True"


def test_closures_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)

    def adder(step):
        return jit.serial(lambda x: x + step)

    assert [adder(step)(10) for step in (1, 2)] == [11, 12]


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
    """Case 150."""
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
    """Case 150."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    assert not cache._private(tmp_path / "open") and not cache._private(tmp_path / "link")
    assert cache._private(tmp_path / "closed")


FIRST = """
import os, warnings
from pathlib import Path
import numpy as np
import tensorgrad as tg
from tensorgrad.kernels import cache
private = cache._private
cache._private = lambda path: path.is_relative_to(os.environ["TMPDIR"]) and private(path)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y = tg.softmax(tg.zeros(4)).data.tolist() + tg.silu(tg.zeros(1)).data.tolist()
print(y, cache.directory(), len(caught))
"""


@pytest.mark.parametrize("tmp", ["tmp", "missing"])
def test_read_only_install_without_a_home(tmp_path, tmp):
    """Case 139: kernels go to the directory for temporary files, or nowhere, with one warning."""
    (tmp_path / "tmp").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    environment["TMPDIR"] = str(tmp_path / tmp)
    done = subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True)
    place = tmp_path / "tmp" / f"tensorgrad-{os.getuid()}"
    expected = f"{place} 0" if tmp == "tmp" else "None 1"
    assert done.stdout == f"[0.25, 0.25, 0.25, 0.25, 0.0] {expected}\n", done.stderr
    if tmp == "tmp":
        assert place.stat().st_mode & 0o777 == 0o700 and list(place.glob("*.kernel"))


def test_package_in_a_zip_file(tmp_path):
    """Case 140: sources that cannot be read decide no file names, so nothing is kept."""
    root = Path(tensorgrad.__file__).parent
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        for file in root.rglob("*.py"):
            archive.write(file, file.relative_to(root.parent))
    code = "import tensorgrad as tg; print('packages.zip' in tg.__file__, tg.softmax(tg.zeros(4)).data)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "packages.zip"), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "True [0.25 0.25 0.25 0.25]\n", done.stderr


@pytest.mark.parametrize("shell", ["stdin", "notebook"])
def test_kernels_typed_by_hand(shell):
    """Case 140."""
    code = "from tensorgrad.kernels.jit import serial\n@serial\ndef double(x): return 2 * x\nprint(double(4))"
    if shell == "notebook":
        code = f"exec(compile({code!r}, '<ipython-input-1>', 'exec'))"
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True)
    assert done.stdout == "8\n", done.stderr
