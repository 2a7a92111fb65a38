"""What holds for every kernel: it equals its definition at awkward sizes, its bits depend on nothing, and it takes any array."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from kernel_checks import misaligned, readonly, reversed_, stretched
from numba.core.dispatcher import Dispatcher

import tensorgrad as tg
import tensorgrad.kernels
from tensorgrad.kernels import jit

SIZES = (1, 7, 63, 64, 65, 1000)


def _targets(n, m):
    return np.arange(n) ** 2 % max(m, 1)


def _classification(n, m, **how):
    return lambda x: tg.cross_entropy(x, _targets(n, m), reduction="none", **how), [(n if m else 0, m)]


def _feed_forward(k, m):
    """With weights of about 1 / sqrt(inputs), as models have them: hidden units of size 30, between which GELU bends within 3,
    would multiply what the first sum loses in rounding by as much.  The factors are powers of two, so exact."""
    small, smaller = (2.0 ** -(n.bit_length() // 2) for n in (k, m))
    return lambda x, w, v, *others: tg.feed_forward(x, w * small, v * smaller, *others)


ONE, TWO = ["exp", "log", "tanh", "sigmoid", "relu"], ["add", "subtract", "multiply", "divide"]

# name -> (the sizes) -> (a function of tensors, the shapes of its inputs)
REGISTRY = {
    **{name: lambda n, m, name=name: (getattr(tg, name), [(n, m)])
       for name in [*ONE, "erf", "erfc", "softmax", "log_softmax", "gelu", "silu"]},
    **{name: lambda n, m, name=name: (getattr(tg, name), [(n, m), (n, m)]) for name in TWO},
    "gelu tanh": lambda n, m: (lambda x: tg.gelu(x, approximate="tanh"), [(n, m)]),
    "layer_norm": lambda n, m: (tg.layer_norm, [(n, m), (m,), (m,)]),
    "rms_norm": lambda n, m: (tg.rms_norm, [(n, m), (m,)]),
    "cross_entropy": lambda n, m: _classification(n if m else 0, m),
    "cross_entropy smooth": lambda n, m: _classification(n if m else 0, m, label_smoothing=0.1),
    "embedding": lambda n, m: (lambda w: tg.embedding(_targets(n if m else 0, m), w), [(m, 5)]),
    "linear": lambda n, k, m: (tg.linear, [(n, k), (m, k), (m,)]),
    "linear residual": lambda n, k, m: (tg.linear, [(n, k), (m, k), (m,), (n, m)]),
    "feed_forward": lambda n, k, m: (_feed_forward(k, m), [(n, k), (m, k), (k, m), (m,), (k,), (n, k)]),
    "matmul": lambda n, k, m: (tg.matmul, [(n, k), (k, m)]),
    "attention": lambda h, t, d: (lambda q, k, v: tg.attention(q, k, v, causal=True), [(1, h, t, d)] * 3),
    "attention whole": lambda h, t, d: (tg.attention, [(1, h, t, d)] * 3),
    "attention biased": lambda h, t, d: (lambda q, k, v, b: tg.attention(q, k, v, bias=b), [(1, h, t, d)] * 3 + [(1, h, t, t)]),
    "rotary": lambda n, t, d: (tg.rotary, [(n, t, 2 * d)]),
    "dropout": lambda n, m: (lambda x: tg.dropout(x, 0.1, rng=np.random.default_rng(3)), [(n, m)]),
    "self_attention": lambda b, t, d: (lambda x: tg.self_attention(x, heads=2, causal=True), [(b, t, 6 * d)]),
}  # fmt: skip
names = pytest.mark.parametrize("name", REGISTRY)


@pytest.fixture(autouse=True)
def kernels_for_few_elements_too(monkeypatch):
    for name in ONE + TWO:
        monkeypatch.setattr(getattr(tg, name), "least", 0)


def dimensions(name):
    return len([p for p in inspect.signature(REGISTRY[name]).parameters.values() if p.default is p.empty])


def inputs(shapes, dtype, seed=0, positive=False):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    return [(np.abs(a) + 0.5 if positive else a).astype(dtype) for a in arrays]


def first_order(f, arrays):
    """[value, gradients] along fixed cotangents."""
    y, pull_back = tg.vjp(f, *[tg.Tensor(a) for a in arrays])
    (g,) = inputs([y.shape], y.dtype, seed=9)
    return [y.data, *[t.data for t in pull_back(tg.Tensor(g))]]


def steepness(name, width):
    """The size of terms that can cancel to nothing in gradients, beside the largest entry: 1 / sqrt(eps) times a row of one
    entry; for a query that sees one key, the products <g, v> of as many terms as a head is wide."""
    if name == "layer_norm" and width == 1:
        return 320
    return width**0.5 if "attention" in name else 1


def check_size(name, sizes):
    if "attention" in name and 0 in (sizes[0], sizes[-1]):
        return  # no heads, or heads of no width
    f, shapes = REGISTRY[name](*sizes)
    wide, single = (inputs(shapes, dtype, positive=name in ("log", "divide")) for dtype in (np.float64, np.float32))
    with tg.definitions():
        wanted = first_order(f, wide)
    steep = steepness(name, sizes[-1])
    length = max(1, *shapes[0][-1:]) if name not in ("exp", "log", "tanh", "relu") else 1
    for k, (a, b, w) in enumerate(zip(first_order(f, wide), first_order(f, single), wanted, strict=True)):
        size = np.abs(w).max(initial=0)
        np.testing.assert_allclose(a, w, rtol=1e-12, atol=1e-12 * max(size, steep), err_msg=f"{name} {sizes} {k}")
        rtol, floor = (1.3e-6 * length**0.5, size) if k == 0 else (1e-4, max(size, steep))
        np.testing.assert_allclose(b, w, rtol=rtol, atol=1e-6 * floor, err_msg=f"{name} {sizes} {k} float32")


@names
def test_equals_its_definition_at_every_size_of_each_dimension(name):
    count = dimensions(name)
    others = 3 if "attention" in name else 7
    for axis in range(count):
        for size in (0, *SIZES):
            check_size(name, [size if i == axis else others for i in range(count)])


@pytest.mark.slow
@names
def test_equals_its_definition_on_the_whole_grid(name):
    count = dimensions(name)
    for sizes in np.ndindex(*[len(SIZES) + 1] * count):
        chosen = [(0, *SIZES)[i] for i in sizes]
        scores = chosen[0] * chosen[1] ** 2 if "attention" in name else 0
        if max(np.prod(chosen), scores) <= 2_000_000:
            check_size(name, chosen)


# As plain Python, for a debugger


def small_numbers():
    """By name and precision: value, gradients, and the tangents of the gradients of the sum."""
    found = {}
    for name in REGISTRY:
        f, shapes = REGISTRY[name](*[3] * dimensions(name))
        for dtype in (np.float32, np.float64):
            arrays, ts = (inputs(shapes, dtype, seed, positive=True) for seed in (0, 5))
            slope = tg.grad(lambda *xs, f=f: tg.sum(f(*xs)), tuple(range(len(shapes))))
            second = tg.jvp(slope, tuple(map(tg.Tensor, arrays)), tuple(map(tg.Tensor, ts)))[1]
            for k, a in enumerate([*first_order(f, arrays), *[t.data for t in second]]):
                found[f"{name}, {k}, {np.dtype(dtype)}"] = a
    return found


def test_without_compiling_the_numbers_are_the_same(tmp_path):
    """Under NUMBA_DISABLE_JIT. Case 160."""
    path = str(tmp_path / "plain.npz")
    in_python(f"""
for name in ONE + TWO:
    getattr(tg, name).least = 0
with np.errstate(all="ignore"):
    np.savez({path!r}, **small_numbers())
""", NUMBA_DISABLE_JIT="1")  # fmt: skip
    compiled = small_numbers()
    with np.load(path) as plain:
        assert set(plain) == set(compiled)
        for name, wanted in compiled.items():
            rtol = 1e-4 if wanted.dtype == np.float32 else 1e-11
            np.testing.assert_allclose(plain[name], wanted, rtol=rtol, atol=rtol * max(1, np.abs(wanted).max()), err_msg=name)
            assert plain[name].dtype == wanted.dtype


def in_python(code, **environment):
    """Run code that knows this file, in a process of its own."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2]), os.getcwd()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)} | environment
    code = f"import pytest\nfrom test_every_kernel import *\n{code}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Infinities and nan


@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in ("attention", "self_attention")])  # see test_attention
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_goes_where_the_definition_sends_it(name, dtype):
    """One nan in each input in turn: the same entries of values and gradients are nan, and all the others as without kernels.

    Case 151.
    """
    f, shapes = REGISTRY[name](*[5] * dimensions(name))
    for k in range(len(shapes)):
        arrays = inputs(shapes, dtype, positive=True)
        arrays[k].reshape(-1)[0] = np.nan
        with tg.definitions():
            wanted = first_order(f, arrays)
        assert any(np.isnan(w).any() for w in wanted)
        for a, w in zip(first_order(f, arrays), wanted, strict=True):
            np.testing.assert_allclose(a, w, rtol=1e-4 if dtype == np.float32 else 1e-11, atol=1e-6)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "erfc", "relu", "gelu", "gelu tanh", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values_are_those_of_the_definition(name, dtype):
    f, _ = REGISTRY[name](1, 1)
    tiny = np.finfo(dtype).smallest_subnormal
    edges = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, tiny, -tiny, np.finfo(dtype).max, np.finfo(dtype).min], dtype
    )
    many = np.resize(edges, (1 << 16) + 3)  # enough for a kernel
    y = f(tg.Tensor(many)).data
    with tg.definitions():
        wanted = f(tg.Tensor(many)).data
    np.testing.assert_allclose(y, wanted, rtol=3e-7 if dtype == np.float32 else 1e-15, atol=2 * tiny)
    if name in ("tanh", "erf"):
        np.testing.assert_array_equal(np.signbit(y[many == 0]), np.signbit(many[many == 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_division_by_zero_is_infinite_or_nan(dtype):
    """Case 162."""
    x, zero = np.resize(np.array([1, -1, 0], dtype), 1 << 16), np.zeros(1 << 16, dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(tg.divide(tg.Tensor(x), tg.Tensor(zero)).data, x / zero)
    row = tg.tensor(np.ones((2, 3), dtype))
    assert np.isnan(tg.layer_norm(row, eps=0).data).all()
    assert np.isnan(tg.rms_norm(tg.zeros_like(row), eps=0).data).all()


# Bits


def optimized(dtype):
    """Two clipped steps of AdamW."""
    params = [tg.tensor(a, requires_grad=True) for a in inputs([(300, 300), (7,), (0,), (50_000,)], dtype)]
    optimizer = tg.optim.AdamW(params, lr=0.1)
    for step in range(2):
        for p, g in zip(params, inputs([p.shape for p in params], dtype, seed=step), strict=True):
            p.grad = tg.tensor(g)
        tg.optim.clip_grad_norm(params, 1.0)
        optimizer.step()
    return [p.numpy() for p in params]


def overwritten(dtype):
    """Gradients of hidden units that are written over them."""
    x, weight = inputs([(1100, 65), (90, 65)], dtype)
    found = []
    for approximate in ("none", "tanh"):
        w = tg.tensor(weight, requires_grad=True)
        tg.sum(tg.gelu(tg.linear(tg.tensor(x), w), approximate=approximate)).backward()
        found.append(w.grad.numpy())
    return found


LARGE = {1: (70_000,), 2: (1100, 65), 3: (130, 70, 90)}


def everything(name, dtype):
    """Value, gradients and the tangents of both, at a size for threads."""
    f, shapes = REGISTRY[name](*(LARGE[3] if "attention" not in name else (4, 130, 16))[: dimensions(name)]
                               if dimensions(name) == 3 else LARGE[2])  # fmt: skip
    arrays = inputs(shapes, dtype, positive=name in ("log", "divide"))
    xs = [tg.Tensor(a) for a in arrays]
    ts = [tg.Tensor(t) for t in inputs(shapes, dtype, seed=5)]
    every = tuple(range(len(xs)))
    (g,) = inputs([f(*xs).shape], dtype, seed=9)
    slope = tg.grad(lambda *xs: tg.sum(f(*xs) * tg.Tensor(g)), every)
    pushed = tg.jvp(f, tuple(xs), tuple(ts))[1]
    return [*first_order(f, arrays), pushed.data, *[t.data for t in tg.jvp(slope, tuple(xs), tuple(ts))[1]]]


def all_calls():
    calls = {f"{name} {np.dtype(dtype)}": (lambda name=name, dtype=dtype: everything(name, dtype))
             for name in REGISTRY for dtype in (np.float32, np.float64)}  # fmt: skip
    others = {"adamw": optimized, "overwritten": overwritten}
    return calls | {f"{name} {np.dtype(dtype)}": (lambda f=f, dtype=dtype: f(dtype))
                    for name, f in others.items() for dtype in (np.float32, np.float64)}  # fmt: skip


def compare_with_serial(calls, repeats, counts, monkeypatch):
    """Every call has on every number of threads, each time, the bits that its serial form has; returns the drivers that ran."""
    ran = set()
    threaded = jit.Driver.__call__

    def recording(driver, *args):
        ran.add(driver)
        return threaded(driver, *args)

    for name, call in calls.items():
        with monkeypatch.context() as patch:
            patch.setattr(jit.Driver, "at", lambda driver, work: driver.serial)
            alone = [a.tobytes() for a in call()]
        monkeypatch.setattr(jit.Driver, "at", lambda driver, work: driver)
        monkeypatch.setattr(jit.Driver, "__call__", recording)
        for threads in counts:
            numba.set_num_threads(threads)
            for _ in range(repeats):
                assert [a.tobytes() for a in call()] == alone, (name, threads)
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    return ran


def drivers():
    """Every driver of the package."""
    found = {}
    for module in pkgutil.iter_modules(tensorgrad.kernels.__path__, "tensorgrad.kernels."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, jit.Driver):
                found[value] = f"{module.name}.{name}"
    return found


@pytest.mark.parametrize("dtype", ["float32"])
def test_same_bits_on_any_number_of_threads(monkeypatch, dtype):
    """Case 152."""
    calls = {name: call for name, call in all_calls().items() if name.endswith(dtype)}
    ran = compare_with_serial(calls, 2, sorted({1, min(2, numba.config.NUMBA_NUM_THREADS)}), monkeypatch)
    assert not {name for driver, name in drivers().items() if driver not in ran}


@pytest.mark.slow
def test_same_bits_a_hundred_times_on_two_threads_and_some_on_one_and_four():
    """Case 152."""
    in_python("""
with pytest.MonkeyPatch.context() as patch:
    compare_with_serial(all_calls(), 100, [2], patch)
    compare_with_serial(all_calls(), 3, [1, 4], patch)
""", NUMBA_NUM_THREADS="4")  # fmt: skip


# Any array


def signatures():
    """The combinations of types that have been compiled, or read from disk, of all kernels."""
    found = set()
    for module in pkgutil.iter_modules(tensorgrad.kernels.__path__, "tensorgrad.kernels."):
        for name, value in vars(importlib.import_module(module.name)).items():
            kept = vars(value) if isinstance(value, jit.Driver) else {"": value}
            found |= {(value.__module__, name, form, types) for form, kernel in kept.items() if isinstance(kernel, Dispatcher)
                      for types in kernel.signatures}  # fmt: skip
    return found


def mapped(x, folder):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r")


@names
def test_arrays_of_any_kind_are_taken_by_the_same_code(name, tmp_path):
    """Attention compiles its few helpers once more for inputs that it must copy first; nothing is compiled for each kind.

    Case 161.
    """
    f, shapes = REGISTRY[name](*[5] * dimensions(name))
    arrays = inputs(shapes, np.float32, positive=True)
    wanted = first_order(f, arrays)
    before = signatures()
    for layout in (stretched, reversed_, misaligned, readonly, lambda x: mapped(x, tmp_path)):
        for a, w in zip(first_order(f, [layout(x) for x in arrays]), wanted, strict=True):
            np.testing.assert_array_equal(a, w)
    assert len(signatures() - before) <= (3 if "attention" in name else 0)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64, np.uint8])
def test_ids_of_any_integer_type_are_taken_without_compiling_again(kind, tmp_path):
    """Case 161."""
    table, ids = tg.tensor(inputs([(7, 5)], np.float32)[0]), np.arange(7)[::-1]
    for layout in (np.array, readonly, lambda x: mapped(x, tmp_path)):
        tg.embedding(ids, table), tg.cross_entropy(table, ids % 5)
        before = signatures()
        given = layout(ids.astype(kind))
        np.testing.assert_array_equal(tg.embedding(given, table).data, table.data[::-1])
        assert tg.cross_entropy(table, given % kind(5)).item() == tg.cross_entropy(table, ids % 5).item()
        assert signatures() == before
