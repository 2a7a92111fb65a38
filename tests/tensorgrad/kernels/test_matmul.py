"""kernels.matmul against NumPy's float64 product: sizes, layouts, batches, edges of memory, threads, narrow machines."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from tensorgrad.kernels import attention
from tensorgrad.kernels.matmul import matmul

FLOATS = [np.float32, np.float64]
SIZES = [0, 1, 7, 63, 64, 65, 200]


def reference(a, b):
    """The product taken in float64, and the bound on the error of a sum of K products: K eps |a| |b|."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return np.matmul(a64, b64), (2 + a.shape[-1]) * np.finfo(np.result_type(a, b)).eps * np.matmul(abs(a64), abs(b64))


def check(a, b, out=None, known=None):
    exact, bound = known or reference(a, b)
    y = matmul(a, b, out)
    assert y.shape == exact.shape and y.dtype == np.result_type(a, b) and y.flags.c_contiguous
    assert (abs(y - exact) <= bound).all()
    return y


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: np.asfortranarray(x),
    "every third row": lambda x: np.repeat(x, 3, axis=0)[::3],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every other of both": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "rows upside down": lambda x: x[::-1].copy()[::-1],
    "columns reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "transposed, upside down": lambda x: x.T[::-1].copy()[::-1].T,
    "within a wider array": lambda x: np.pad(x, ((2, 1), (3, 5)), constant_values=np.nan)[2:-1, 3:-5],
    "within a wider transposed array": lambda x: np.pad(x.T, ((2, 1), (3, 5)), constant_values=np.nan)[2:-1, 3:-5].T,
    "4096 bytes from row to row": lambda x: np.pad(x, ((0, 0), (0, 1024 - x.shape[1])))[:, : x.shape[1]],
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "one row, repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "one column, repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
}


@pytest.mark.parametrize("dtype", FLOATS)
def test_sizes_and_transposes(dtype):
    rng = np.random.default_rng(0)
    for m, k, n in product(SIZES, repeat=3):
        a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
        known = reference(a, b)
        for x, y in product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
            check(x, y, known=known)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(65, 33, 66), (1, 70, 200), (70, 200, 1), (2, 1, 3)])
def test_layouts(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(1)
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    for left, right in product(LAYOUTS.values(), repeat=2):
        check(left(a), right(b))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(300, 1000, 500), (1000, 40, 300), (5, 800, 450), (1, 900, 700), (900, 700, 1)])
def test_more_than_one_block(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(2)
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    known = reference(a, b)
    for x, y in product((a, np.asfortranarray(a), LAYOUTS["4096 bytes from row to row"](a)), (b, np.asfortranarray(b))):
        check(x, y, known=known)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m", [2, 8, 9])
def test_few_rows(dtype, m):
    rng = np.random.default_rng(12)
    for k, n in product((1, 7, 8, 390, 800), (127, 128, 255, 256, 2049)):
        a, b, bias = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype), normal(rng, (n,), dtype)
        exact, bound = known = reference(a, b)
        y = check(a, b, known=known)
        check(a, np.asfortranarray(b), known=known)
        assert (abs(matmul(a, b, y.copy(), add=True) - 2 * exact) <= 3 * bound).all()
        for x in (b, np.asfortranarray(b)):
            assert (abs(matmul(a, x, bias=bias) - (exact + bias)) <= bound + np.finfo(dtype).eps * (abs(exact) + abs(bias))).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "left, right",
    [
        ((5,), ()),
        ((), (5,)),
        ((5,), (5,)),
        ((2, 3), (3,)),
        ((2, 1), (1, 3)),
        ((1, 1), ()),
        ((0,), (1,)),
        ((4, 1, 2), (3, 1)),
        ((), (1, 1, 1)),
        ((40,), (40,)),
    ],
)
def test_leading_axes_broadcast(dtype, left, right):
    rng = np.random.default_rng(3)
    for m, k, n in [(4, 5, 6), (33, 70, 40), (1, 9, 33), (0, 3, 2), (3, 0, 2)]:
        check(normal(rng, (*left, m, k), dtype), normal(rng, (*right, k, n), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_leading_axes_of_any_layout(dtype):
    rng = np.random.default_rng(4)
    x = normal(rng, (3, 64, 4, 32), dtype)  # (B, T, H, d)
    heads = x.swapaxes(1, 2)
    check(heads, heads.swapaxes(-1, -2))
    check(heads[::-1, ::2], heads.swapaxes(-1, -2)[::-1, ::2])
    check(np.broadcast_to(x[:1], x.shape).swapaxes(1, 2), heads.swapaxes(-1, -2))
    weights = normal(rng, (32, 50), dtype)
    for stack in (x, heads, x[:, ::2], x[::-1], x[:, :1], x[..., ::-1], np.asfortranarray(x)):
        check(stack, weights)
        check(stack, weights[None, None])


@pytest.mark.parametrize("mixed", [(np.float32, np.float64), (np.float64, np.float32)])
def test_mixed_dtypes_give_float64(mixed):
    rng = np.random.default_rng(5)
    check(normal(rng, (9, 40), mixed[0]), normal(rng, (40, 7), mixed[1]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_products_give_zero(dtype):
    assert np.array_equal(matmul(np.empty((3, 0), dtype), np.empty((0, 4), dtype)), np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 70, 70), (13, 20, 33), (70, 70, 1), (25, 390, 400)])
def test_writes_only_its_own_memory(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(6)
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    around = np.full(m * n + 200, 7, dtype)
    for x, y in product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
        out = around[100 : 100 + m * n].reshape(m, n)
        assert check(x, y, out) is out
        assert (around[:100] == 7).all() and (around[100 + m * n :] == 7).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_stay_in_their_rows_and_columns(dtype):
    a, b = np.ones((30, 40), dtype), np.ones((40, 70), dtype)
    a[3, 5], b[6, 33], b[5, 40] = np.inf, np.nan, 0
    y = matmul(a, b)
    exact = np.full((30, 70), 40.0)
    exact[:, 40] = 39
    exact[3], exact[:, 33], exact[3, 40] = np.inf, np.nan, np.nan  # inf 0 = nan
    np.testing.assert_array_equal(y, exact)


def test_out():
    rng = np.random.default_rng(7)
    a, b = normal(rng, (40, 40), np.float32), normal(rng, (40, 40), np.float32)
    exact = matmul(a, b)
    square = a.copy()
    assert matmul(square, b, square) is square  # an operand may be overwritten
    np.testing.assert_array_equal(square, exact)
    columns = np.empty((40, 40), np.float32, order="F")
    assert matmul(a, b, columns) is columns
    np.testing.assert_array_equal(columns, exact)
    frozen = np.empty((40, 40), np.float32)
    frozen.flags.writeable = False
    for bad in (np.empty((40, 41), np.float32), np.empty((40, 40)), frozen):
        with pytest.raises(ValueError, match="out is"):
            matmul(a, b, bad)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 70, 70), (70, 70, 1), (25, 390, 400), (4, 0, 3), (300, 1000, 500)])
def test_adding_to_an_array(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(9)
    a, b, c = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype), normal(rng, (m, n), dtype)
    exact, bound = reference(a, b)
    for layout in (np.copy, lambda x: x.copy(order="F"), lambda x: np.repeat(x, 2, axis=1)[:, ::2]):
        out = layout(c)
        assert matmul(a, b, out, add=True) is out
        assert (abs(out - (c + exact)) <= bound + np.finfo(dtype).eps * (abs(exact) + abs(c))).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 70, 70), (70, 70, 1), (25, 390, 400), (4, 0, 3), (0, 3, 4), (300, 1000, 500)])
def test_bias(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(11)
    a, b, bias = normal(rng, (2, m, k), dtype), normal(rng, (k, n), dtype), normal(rng, (2 * n,), dtype)[::2]
    exact, bound = reference(a, b)
    bound += np.finfo(dtype).eps * (abs(exact) + abs(bias))
    assert (abs(matmul(a, b, bias=bias) - (exact + bias)) <= bound).all()
    out = np.full((2, m, n), 7, dtype)
    assert (abs(matmul(a, b, out, bias=bias) - (exact + bias)) <= bound).all()
    assert (abs(matmul(a, b, out, add=True, bias=bias) - 2 * (exact + bias)) <= 4 * bound).all()
    residual = normal(rng, (2, m, 2 * n), dtype)[..., ::2]
    wanted = exact + bias + residual
    bound += 2 * np.finfo(dtype).eps * (abs(wanted) + abs(residual))
    assert (abs(matmul(a, b, bias=bias, residual=residual) - wanted) <= bound).all()
    twice = exact + bias + 2 * residual
    assert (abs(matmul(a, b, residual.copy(), add=True, bias=bias, residual=residual) - twice) <= 4 * bound).all()
    with pytest.raises(ValueError, match="residual is"):
        matmul(a, b, residual=residual[0])
    with pytest.raises(ValueError, match="bias is"):
        matmul(a, b, bias=np.ones(n + 1, dtype))


def test_adding_to_an_operand():
    rng = np.random.default_rng(10)
    a, b = normal(rng, (40, 40), np.float64), normal(rng, (40, 40), np.float64)
    wanted = a + a @ b
    np.testing.assert_allclose(matmul(a, b, a, add=True), wanted, rtol=1e-12, atol=1e-12)


def test_read_only_operands():
    a = np.ones((4, 5), np.float32)
    a.flags.writeable = False
    np.testing.assert_array_equal(matmul(a, a.T), np.full((4, 4), 5))


@pytest.mark.parametrize(
    "left, right, message",
    [((3, 4), (5, 6), r"\(3, 4\) and \(5, 6\)"), ((4,), (4, 5), r"\(4,\)"), ((2, 3, 4), (3, 4, 5), "broadcast")],
)
def test_shapes_that_do_not_fit(left, right, message):
    with pytest.raises(ValueError, match=message):
        matmul(np.ones(left), np.ones(right))


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex64, ">f4"])
def test_other_dtypes(dtype):
    with pytest.raises(TypeError, match="expected float32 or float64"):
        matmul(np.ones((2, 2), dtype), np.ones((2, 2), np.float32))


PARTED = [
    ((97, 800), (800, 129)),
    ((1, 1500), (1500, 700)),
    ((1500, 700), (700, 1)),
    ((7, 900), (900, 400)),
    ((2, 900), (900, 2000)),
    ((9, 900), (900, 500)),
    ((17, 900), (900, 300)),
    ((13, 500), (500, 65)),
    ((5, 60, 70), (70, 33)),
    ((7, 64, 60), (7, 60, 49)),
    ((3, 400, 300), (300, 17)),
]


def products_digest():
    """A hash of products large enough for threads, where parts could end in a single row or column."""
    rng = np.random.default_rng(8)
    digest = hashlib.sha256()
    for dtype, (left, right) in product(FLOATS, PARTED):
        a, b = normal(rng, left, dtype), normal(rng, right, dtype)
        columns = np.swapaxes(np.swapaxes(b, -1, -2).copy(), -1, -2)
        digest.update(matmul(a, b).tobytes() + matmul(a, columns).tobytes())
    return digest.hexdigest()


def run(code, **environment):
    """The last line that the code prints in a process of its own, this file imported as `t`."""
    here = os.path.dirname(__file__)
    code = f"import sys; sys.path.insert(0, {here!r}); import {os.path.basename(__file__)[:-3]} as t\n{code}"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2]


def test_number_of_threads_changes_no_bit():
    digests = {threads: run("print(t.products_digest())", NUMBA_NUM_THREADS=str(threads)) for threads in (1, 2, 3, 8)}
    assert set(digests.values()) == {products_digest()}


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_several_python_threads_at_once(layer):
    """Case 168."""
    assert run("print(t.products_in_threads())", NUMBA_THREADING_LAYER=layer) == "True"


def products_in_threads():
    rng = np.random.default_rng(9)
    a, b = normal(rng, (200, 300), np.float32), normal(rng, (300, 400), np.float32)
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda _: matmul(a, b), range(50)))
    return all(np.array_equal(y, results[0]) for y in results) and np.allclose(results[0], a @ b, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", ["4", "8"])
def test_narrower_vectors(lanes):
    names = "sizes or layouts or blocks or few or writes or infinity"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", names]
    environment = os.environ | {"TENSORGRAD_LANES": lanes, "OPENBLAS_NUM_THREADS": "1"}  # its threads hinder ours
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def largest_error():
    """Of a few products, in units of the bound on the error."""
    rng = np.random.default_rng(13)
    errors = []
    for m, k, n in [(65, 33, 66), (1, 70, 300), (70, 200, 1), (5, 800, 450), (13, 40, 90)]:
        a, b = normal(rng, (m, k), np.float32), normal(rng, (k, n), np.float32)
        exact, bound = reference(a, b)
        errors += [(abs(matmul(a, y) - exact) / bound).max() for y in (b, np.asfortranarray(b))]
    return max(errors)


@pytest.mark.slow
def test_a_processor_of_which_nothing_is_known():
    lanes = "from tensorgrad.kernels.simd import LANES; "
    machine = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(lanes + "print(LANES, t.largest_error() < 1)", **machine) == "4 True"


def attention_and_product():
    """What two kernels return that call the product of a block."""
    rng = np.random.default_rng(14)
    q, k, v, g = (normal(rng, (1, 2, 5, 3), np.float64) for _ in range(4))
    y, saved = attention.forward(q, k, v, causal=True, scale=0.6)
    results = [y, *attention.backward(g, y, saved, q, k, v, causal=True, scale=0.6), matmul(q[0], k[0].swapaxes(1, 2))]
    return [x.tolist() for x in results]


def test_without_compiling():
    plain = json.loads(run("print(t.json.dumps(t.attention_and_product()))", NUMBA_DISABLE_JIT="1"))
    for ours, theirs in zip(attention_and_product(), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_lanes_must_be_known():
    code = "import tensorgrad.kernels.simd"
    environment = os.environ | {"TENSORGRAD_LANES": "5"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode and "TENSORGRAD_LANES is '5'; expected 4, 8 or 16" in done.stderr
