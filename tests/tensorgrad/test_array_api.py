"""The array-API standard's namespace: against array_api_strict, name by name, with the arguments that the standard has."""

import inspect
import math

import array_api_compat
import array_api_strict as strict
import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import array_api as xp

RNG = np.random.default_rng(0)
F = RNG.uniform(0.1, 0.9, (3, 4))
G = RNG.normal(size=(3, 4))
N = np.array([[3, -1, 2], [0, 5, -7]])
M = np.array([[1, 2, 3], [1, 1, 2]])
B = np.array([[True, False, True], [False, False, True]])
C = np.array([[True, True, False], [False, True, True]])
S = F @ F.T + np.eye(3)

UNARY = """abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log log1p log2 log10 negative
    positive reciprocal round sign signbit sin sinh sqrt square tan tanh trunc""".split()
BINARY = """add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal logaddexp maximum minimum
    multiply nextafter not_equal pow remainder subtract""".split()
INTEGER = "bitwise_and bitwise_or bitwise_xor add multiply subtract floor_divide remainder equal less maximum minimum".split()
TRUTH = "logical_and logical_or logical_xor equal bitwise_and bitwise_or bitwise_xor".split()

CALLS = [
    *[(name, (F + (1.2 if name == "acosh" else 0),), {}) for name in UNARY],
    *[(name, (F, G), {}) for name in BINARY],
    *[(name, (N, M), {}) for name in INTEGER],
    *[(name, (B, C), {}) for name in TRUTH],
    ("bitwise_invert", (N,), {}),
    ("bitwise_invert", (B,), {}),
    ("logical_not", (B,), {}),
    ("bitwise_left_shift", (M, M), {}),
    ("bitwise_right_shift", (N, M), {}),
    ("floor", (N,), {}),
    ("ceil", (N,), {}),
    ("trunc", (N,), {}),
    ("trunc", (3 * G,), {}),
    ("round", (N,), {}),
    ("clip", (F,), {"min": 0.3, "max": 0.6}),
    ("clip", (N, M), {}),
    ("where", (G > 0, F, G), {}),
    # reductions
    *[(name, (F,), {"axis": 0, "keepdims": True}) for name in ("sum", "prod", "mean", "std", "var", "max", "min")],
    *[(name, (F,), {"axis": (0, 1)}) for name in ("sum", "prod", "mean", "std", "var", "max", "min")],
    ("var", (F,), {"correction": 1.0}),
    ("std", (F,), {"axis": -1, "correction": 1.0}),
    ("sum", (N.astype(np.int8),), {}),
    ("prod", (M.astype(np.int8),), {"axis": 0}),
    ("sum", (M.astype(np.uint8),), {"axis": 0}),
    ("prod", (M.astype(np.uint16),), {}),
    ("sum", (F,), {"dtype": "float32"}),
    ("prod", (N,), {"dtype": "float64"}),
    ("all", (B,), {"axis": 1}),
    ("any", (B,), {"axis": 0, "keepdims": True}),
    ("argmax", (F,), {"axis": 1}),
    ("argmin", (F,), {}),
    ("count_nonzero", (N,), {"axis": 1}),
    ("cumulative_sum", (F,), {"axis": 1}),
    ("cumulative_sum", (F,), {"axis": 0, "include_initial": True}),
    ("cumulative_prod", (M.astype(np.int8),), {"axis": 1, "include_initial": True}),
    ("cumulative_sum", (M.astype(np.int8)[0],), {}),
    ("diff", (F,), {}),
    ("diff", (F,), {"axis": 0, "n": 2, "prepend": G, "append": G}),
    # shape
    ("broadcast_to", (F, (2, 3, 4)), {}),
    ("broadcast_arrays", (F, G[0]), {}),
    ("broadcast_shapes", ((3, 1), (1, 4)), {}),
    ("concat", ([F, G],), {"axis": -1}),
    ("concat", ([F, G],), {"axis": None}),
    ("stack", ([F, G],), {"axis": 1}),
    ("unstack", (F,), {"axis": 1}),
    ("expand_dims", (F,), {"axis": -1}),
    ("squeeze", (F[None],), {"axis": 0}),
    ("flip", (F,), {"axis": 1}),
    ("flip", (F,), {}),
    ("moveaxis", (np.stack([F, G]), 0, -1), {}),
    ("permute_dims", (F, (1, 0)), {}),
    ("repeat", (F, 2), {"axis": 0}),
    ("repeat", (F[0], np.array([1, 0, 2, 1])), {}),
    ("reshape", (F, (2, -1)), {"copy": True}),
    ("roll", (F, 1), {"axis": 1}),
    ("roll", (F, (1, 2)), {"axis": (0, 1)}),
    ("tile", (F, (2, 1)), {}),
    ("tril", (F,), {"k": 1}),
    ("triu", (F,), {"k": -1}),
    ("meshgrid", (F[0], G[:, 0], N[0].astype(float)), {}),
    ("meshgrid", (F[0], G[:, 0]), {"indexing": "ij"}),
    # products
    ("matmul", (F, G.T), {}),
    ("matrix_transpose", (F,), {}),
    ("tensordot", (F, G), {"axes": ((0, 1), (0, 1))}),
    ("vecdot", (F.T, G.T), {"axis": -2}),
    # index, order, sets
    ("take", (F, np.array([2, 0])), {"axis": 0}),
    ("take_along_axis", (F, np.argsort(F, 0)), {"axis": 0}),
    ("nonzero", (N,), {}),
    ("searchsorted", (np.sort(F[0]), G[0]), {"side": "right"}),
    ("searchsorted", (F[0], G[0]), {"sorter": np.argsort(F[0])}),
    ("sort", (F,), {"axis": 0, "descending": True}),
    ("argsort", (N,), {"stable": True}),
    ("unique_values", (N,), {}),
    ("unique_counts", (M,), {}),
    ("unique_inverse", (M,), {}),
    ("unique_all", (M,), {}),
    ("isin", (N, np.array([2, 5])), {}),
    # creation
    ("arange", (1, 7, 2), {"device": None}),
    ("arange", (5,), {"dtype": "float64"}),
    ("linspace", (0.0, 1.0), {"num": 5, "dtype": "float64", "endpoint": False}),
    ("eye", (2, 3), {"k": 1, "dtype": "float64"}),
    ("zeros", ((2, 3),), {"dtype": "int32"}),
    ("ones", (3,), {"dtype": "float64"}),
    ("full", ((2,), 7), {}),
    ("full", ((2,), True), {}),
    ("zeros_like", (N,), {"dtype": "float32"}),
    ("ones_like", (F,), {}),
    ("full_like", (F, 2.0), {}),
    ("asarray", ([[1, 2], [3, 4]],), {}),
    ("asarray", ([1.0, 2.0],), {"dtype": "float64"}),
    ("astype", (F, "float32"), {"copy": True}),
    ("astype", (N, "float64"), {}),
    # the linalg extension
    ("linalg.cholesky", (S,), {"upper": True}),
    ("linalg.cross", (F[:, :3], G[:, 1:]), {}),
    ("linalg.det", (S,), {}),
    ("linalg.diagonal", (F,), {"offset": 1}),
    ("linalg.inv", (S,), {}),
    ("linalg.matmul", (F, G.T), {}),
    *[("linalg.matrix_norm", (F,), {"ord": order, "keepdims": True}) for order in ("fro", 1, -1, math.inf, -math.inf)],
    ("linalg.matrix_power", (S, 5), {}),
    ("linalg.matrix_power", (S, -2), {}),
    ("linalg.matrix_power", (S, 0), {}),
    ("linalg.matrix_transpose", (F,), {}),
    ("linalg.outer", (F[0], G[0]), {}),
    ("linalg.slogdet", (S,), {}),
    ("linalg.solve", (S, F), {}),
    ("linalg.solve", (S, F[:, 0]), {}),
    ("linalg.tensordot", (F, G.T), {"axes": 1}),
    ("linalg.trace", (F,), {"offset": -1, "dtype": "float64"}),
    ("linalg.vecdot", (F, G), {}),
    *[("linalg.vector_norm", (F,), {"ord": order, "axis": 0}) for order in (1, 2, 3, 0, math.inf, -math.inf)],
]

LEFT_OUT = {  # complex numbers, other devices' and decompositions' names
    *"complex64 complex128 conj imag real fft Device".split(),
    *[f"linalg.{name}" for name in "eig eigh eigvals eigvalsh matrix_rank pinv qr svd svdvals".split()],
}


def _lookup(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _converted(tree, make, dtypes):
    if isinstance(tree, np.ndarray):
        return make(tree)
    if isinstance(tree, list) and any(isinstance(item, np.ndarray) for item in tree):
        return [make(item) for item in tree]
    return getattr(dtypes, tree) if isinstance(tree, str) and tree.startswith(("float", "int")) else tree


@pytest.fixture(autouse=True)
def newest_standard():
    with strict.ArrayAPIStrictFlags(api_version="2025.12"):
        yield


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=[f"{i}-{call[0]}" for i, call in enumerate(CALLS)])
def test_values_and_dtypes_are_those_of_the_reference_implementation(name, args, kwargs):
    results = []
    for module in (xp, strict):
        call = [_converted(a, module.asarray, module) for a in args]
        results.append(_lookup(module, name)(*call, **{k: _converted(v, module.asarray, module) for k, v in kwargs.items()}))
    ours, theirs = results
    if name == "broadcast_shapes":
        assert ours == theirs
        return
    for y, z in zip(*[r if isinstance(r, (tuple, list)) else (r,) for r in results], strict=True):
        assert isinstance(y, tg.Tensor)
        assert y.shape == z.shape
        assert str(y.dtype) == str(z.dtype).rpartition(".")[2]
        np.testing.assert_allclose(y.numpy(), np.from_dlpack(z), rtol=1e-6 if y.dtype == np.float32 else 1e-12, atol=1e-14)
    assert getattr(ours, "_fields", None) == getattr(theirs, "_fields", None)


def test_every_name_of_the_standard_is_there():
    names = [n for n in strict.__all__ if not n.startswith(("_", "get_", "set_", "reset_", "ArrayAPI"))]
    names += [f"linalg.{n}" for n in strict.linalg.__all__]
    missing = {n for n in names if not hasattr(_lookup(xp, n.rpartition(".")[0]) if "." in n else xp, n.rpartition(".")[2])}
    assert missing == LEFT_OUT & set(names)
    called = {call[0] for call in CALLS}
    functions = {n for n in names if inspect.isroutine(_lookup(strict, n))}
    assert functions - called - LEFT_OUT <= {
        "can_cast",
        "result_type",
        "isdtype",
        "finfo",
        "iinfo",
        "empty",
        "empty_like",
        "from_dlpack",
    }


def test_questions_about_dtypes():
    x = xp.asarray([1.0, 2.0])
    assert x.dtype == xp.float32 and xp.asarray([1]).dtype == xp.int64 and xp.asarray([True]).dtype == xp.bool
    assert xp.result_type(x, xp.float64) == xp.float64 and xp.result_type(x, 2.0) == xp.float32
    assert xp.can_cast(xp.int32, xp.int64) and not xp.can_cast(x, xp.int32)
    assert xp.isdtype(xp.float32, "real floating") and not xp.isdtype(xp.int8, ("bool", "unsigned integer"))
    assert xp.finfo(x).bits == 32 and xp.finfo(xp.float64).eps == 2.0**-52
    assert xp.iinfo(xp.int8).max == 127
    info = xp.__array_namespace_info__()
    assert info.default_dtypes()["real floating"] == xp.float32
    assert set(info.dtypes(kind="unsigned integer")) == {"uint8", "uint16", "uint32", "uint64"}
    assert info.devices() == [info.default_device()] == [x.device]
    assert info.capabilities()["boolean indexing"]


def test_isin_inverted():
    assert xp.isin(tg.tensor([1, 2, 3]), tg.tensor([2, 5]), invert=True).tolist() == [True, False, True]


def test_a_tensor_says_where_its_functions_are():
    x = tg.tensor([[1.0, 2.0]])
    assert x.__array_namespace__() is xp is x.__array_namespace__(api_version="2023.12")
    with pytest.raises(ValueError, match=r"api_version must be .* got '1999.01'"):
        x.__array_namespace__(api_version="1999.01")
    assert array_api_compat.array_namespace(x, x) is xp
    assert array_api_compat.is_array_api_obj(x)
    assert array_api_compat.size(x) == 2
    assert array_api_compat.to_device(x, array_api_compat.device(x)) is x
    with pytest.raises(ValueError, match="device must be 'cpu', got 'gpu'"):
        x.to_device("gpu")
    with pytest.raises(ValueError, match="device must be 'cpu'"):
        xp.zeros(3, device="tpu")


def test_code_written_for_the_standard_is_differentiable():
    def loss(x):
        xp = x.__array_namespace__()
        y = xp.concat([xp.cumulative_sum(x, axis=1, include_initial=True), xp.diff(x, axis=1)], axis=1)
        z = xp.meshgrid(y[0, :], x[:, 0])[0] * xp.copysign(xp.asarray(2.0), x[0, 0]) + xp.sum(xp.trunc(x))
        return xp.sum(xp.where(xp.isfinite(z), z, 0) ** 2) / xp.prod(x, dtype=xp.float64)

    tg.check.check_grads(loss, (tg.tensor(F + np.array([[1.0], [2], [3]])),))


def test_results_without_a_derivative_are_refused():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for function in (xp.unique_values, xp.unique_all, lambda x: xp.nextafter(x, x), lambda x: xp.remainder(x, x)):
        with pytest.raises(TypeError, match=r"has no derivative; call .detach\(\)"):
            function(x)


def test_asarray_copies_unless_told_otherwise():
    array = np.arange(3.0)
    t = xp.asarray(array)
    shared = xp.asarray(array, copy=False)
    array[0] = 9
    assert t.tolist() == [0, 1, 2] and shared.tolist() == [9, 1, 2]
    assert xp.asarray(t) is t
    assert xp.asarray(t, dtype=xp.float32).dtype == xp.float32
    with pytest.raises(ValueError, match="cannot become float32 without a copy"):
        xp.asarray(t, dtype=xp.float32, copy=False)
    with pytest.raises(ValueError, match="a list cannot become a tensor of its dtype without a copy"):
        xp.asarray([1.0], copy=False)
    with pytest.raises(TypeError, match="got dtype complex128"):
        xp.asarray(np.zeros(2, complex))


def test_operators_in_place_make_a_new_tensor():
    x = y = tg.tensor([1.0, 2.0])
    x += 1
    x *= 2
    assert y.tolist() == [1, 2] and x.tolist() == [4, 6]
    n = tg.tensor([1, 2])
    n <<= 2
    assert (n | 1).tolist() == [5, 9] and (~n).tolist() == [-5, -9] and (1 << n // 4).tolist() == [2, 4]
