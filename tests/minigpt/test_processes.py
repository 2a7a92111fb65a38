"""One training run in processes of many kinds: the same bits from any number of threads, right or refused, never a hang."""

import importlib
import os
import subprocess
import sys

import pytest

RUN = """
import hashlib, os, signal, sys, threading, time, warnings
import numpy as np
import tensorgrad as tg
from minigpt.models.gpt import GPT, GPTConfig

def trained(steps):
    config = GPTConfig(65, 64, 2, 4, 64, dropout=0.1)
    rng = np.random.default_rng(0)
    model = GPT(config, rng)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-3)
    for _ in range(steps):
        ids = rng.integers(0, config.vocab_size, (12, config.block_size))
        optimizer.zero_grad()
        model.loss(ids, ids, rng=rng).backward()
        optimizer.clipped_step(1.0)
    return np.concatenate([p.data.ravel() for p in model.parameters()])

def digest(steps):
    return hashlib.sha256(trained(steps).tobytes()).hexdigest()

if hasattr(signal, "alarm"):
    signal.alarm(300)  # a hang is a failure
"""


def run(code, **environment):
    """What the code prints after RUN in a process of its own."""
    environment = {"NUMBA_NUM_THREADS": "2"} | environment
    done = subprocess.run([sys.executable, "-c", RUN + code], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def alone():
    return run("print(digest(3))")


def test_threads_hash_seeds_and_repetitions_change_no_bit():
    """Cases 157, 166 and 167."""
    runs = [run("print(digest(20))", NUMBA_NUM_THREADS=str(n), PYTHONHASHSEED=str(n)) for n in (1, 2, 4)]
    runs.append(run("import numba; numba.set_num_threads(3); print(digest(20))", NUMBA_NUM_THREADS="4"))
    assert runs == [runs[0]] * 4


def _has_tbb():
    try:
        importlib.import_module("numba.np.ufunc.tbbpool")
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_two_python_threads_train_at_once(alone, layer):
    """Case 155: without a lock the workqueue layer ends the process."""
    if layer == "tbb" and not _has_tbb():
        pytest.skip("the TBB library is not installed")
    code = """
found = []
threads = [threading.Thread(target=lambda: found.append(digest(3))) for _ in range(2)]
[t.start() for t in threads], [t.join() for t in threads]
print(*found)
import numba
print(numba.threading_layer())
"""
    assert run(code, NUMBA_THREADING_LAYER=layer) == alone * 2 + [layer]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_a_child_forked_after_training_trains_on_one_thread(alone, layer):
    """Case 156: without care a child of the omp layer is killed at its first launch."""
    if layer == "tbb" and not _has_tbb():
        pytest.skip("the TBB library is not installed")
    code = """
before = digest(3)
child = os.fork()
if child == 0:
    signal.alarm(300)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(digest(3), len(caught), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], before)
"""
    assert run(code, NUMBA_THREADING_LAYER=layer) == alone + ["1", "0"] + alone


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's list of threads")
def test_a_step_starts_its_own_threads_and_wakes_no_others():
    """Case 165: NumPy's matrix products have threads of their own, which a training step must leave asleep; so have SciPy's,
    which Numba loads where it is installed."""
    code = """
import importlib.util
if importlib.util.find_spec("scipy"):
    import scipy.linalg
def ticks():
    stats = {task: open(f"/proc/self/task/{task}/stat").read().rsplit(")")[-1].split() for task in os.listdir("/proc/self/task")}
    return {task: int(stat[11]) + int(stat[12]) for task, stat in stats.items() if int(task) != os.getpid()}
np.ones((300, 300)) @ np.ones((300, 300))
time.sleep(1)  # after a product they stay awake a while
before = ticks()
trained(40)
after = ticks()
print(len(after) - len(before), max([after[task] - before[task] for task in before], default=0))
"""
    started, woken = map(int, run(code))
    assert started <= 1 and woken <= 1  # hundredths of a second


def test_errors_leave_no_memory_behind():
    """Case 158."""
    code = """
import resource
x, wrong = tg.ones((8, 8)), tg.ones((7, 7))
calls = [lambda: tg.embedding(np.array([9]), x), lambda: x @ wrong, lambda: tg.cross_entropy(x, np.full(8, 8)),
         lambda: tg.layer_norm(x, tg.ones(7)), lambda: tg.linear(x, wrong)]

def fail(times):
    for i in range(times):
        try:
            calls[i % len(calls)]()
        except (IndexError, ValueError):
            continue
        raise SystemExit("no error")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

first = fail(10_000)
print((fail(100_000) - first) // 1024)
"""
    assert int(run(code)[0]) <= 2  # MiB
