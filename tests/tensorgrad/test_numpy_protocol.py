"""Tensors among NumPy's: its functions and operators, np.asarray, DLPack, pickle, einops; and what is refused."""

import copy
import math
import pickle

import einops
import einops.array_api
import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.numpy_protocol import FUNCTIONS, LOOKING, POSITIONAL, REDUCTIONS, UFUNCS

A = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
B = np.random.default_rng(1).normal(size=(3, 4))
S = A @ A.T + np.eye(3)
I = np.array([[1, 2, 3], [4, 5, 6]])  # noqa: E741


def name_of(function):
    return f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}"


def as_tensors(tree):
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(as_tensors, tree))
    return tg.tensor(tree) if isinstance(tree, np.ndarray) else tree


def assert_same(given, wanted):
    if isinstance(wanted, (list, tuple)):
        assert len(given) == len(wanted)
        for a, b in zip(given, wanted, strict=True):
            assert_same(a, b)
        return
    assert isinstance(given, tg.Tensor)
    assert given.shape == np.shape(wanted)
    np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-12, atol=1e-14)


# Universal functions

ARGUMENTS = {np.arccosh: (A + 1.5,), np.matmul: (A, B.T), np.power: (A, B), np.float_power: (A, B)}
INTEGERS = {np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.bitwise_not, np.left_shift, np.right_shift}


@pytest.mark.parametrize("ufunc", UFUNCS, ids=name_of)
def test_a_ufunc_of_tensors_is_our_op(ufunc):
    arrays = ARGUMENTS.get(ufunc, (I, I) if ufunc in INTEGERS else (A, B))[: ufunc.nin]
    assert_same(ufunc(*as_tensors(arrays)), ufunc(*arrays))


@pytest.mark.parametrize(("ufunc", "method"), REDUCTIONS, ids=str)
def test_a_ufuncs_reduction_is_our_reduction(ufunc, method):
    assert_same(getattr(ufunc, method)(tg.tensor(A)), getattr(ufunc, method)(A))
    assert_same(getattr(ufunc, method)(tg.tensor(A), axis=1), getattr(ufunc, method)(A, axis=1))


def test_arithmetic_with_arrays_in_either_order():
    t = tg.tensor(A, requires_grad=True)
    for function in (
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
        lambda x, y: x**y,
        lambda x, y: x @ y.T,
        lambda x, y: x < y,
        lambda x, y: x == y,
        lambda x, y: x[0] * y,
        lambda x, y: np.float64(2) * y + x,
    ):
        for given in (function(A, t), function(t, A)):
            assert_same(given, function(A, A))
            assert given.requires_grad == (given.dtype == np.float64)


def test_numbers_keep_float32_and_numpys_own_scalars_promote_as_arrays_do():
    t = tg.tensor([1.0, 2.0])
    assert (2.0 * t).dtype == np.float32
    assert (np.float32(2) * t).dtype == (t * np.float32(2)).dtype == np.float32
    assert (np.float64(2) * t).dtype == (np.float64(2) * t.numpy()).dtype == np.float64
    assert (np.ones(2, np.float32) * t).dtype == np.float32


def test_numpys_functions_are_differentiable():
    def f(x):
        y = np.exp(x) * B + np.where(B > 0, x, np.sqrt(x))
        z = np.concatenate([y, np.maximum(y, A)], axis=1)
        return np.sum(np.einsum("ij,kj->ik", z, z)) / np.linalg.norm(np.cumsum(y, axis=0)) + np.linalg.det(np.dot(y, A.T))

    tg.check.check_grads(f, (tg.tensor(A),))


# Other functions

CALLS = {
    np.sum: [((A,), {"axis": 0, "keepdims": True})],
    np.mean: [((A,), {"axis": (0, 1)})],
    np.var: [((A,), {"ddof": 1, "axis": 1}), ((A,), {"correction": 1})],
    np.std: [((A, 1), {"ddof": 1})],
    np.max: [((A, 0), {})],
    np.argmax: [((A, 1), {}), ((A,), {"keepdims": True})],
    np.cumsum: [((A,), {}), ((A, 1), {})],
    np.reshape: [((A, (4, 3)), {}), ((A, -1), {})],
    np.transpose: [((A,), {}), ((A, (1, 0)), {})],
    np.swapaxes: [((A, 0, 1), {})],
    np.moveaxis: [((A, 0, 1), {})],
    np.expand_dims: [((A, 1), {})],
    np.squeeze: [((A[None],), {}), ((A[None], 0), {})],
    np.broadcast_to: [((A, (2, 3, 4)), {})],
    np.flip: [((A,), {}), ((A, 0), {})],
    np.roll: [((A, 2), {}), ((A, 1), {"axis": 0})],
    np.stack: [(([A, B],), {"axis": 1})],
    np.split: [((A, 2), {"axis": 1}), ((A, [1]), {})],
    np.tile: [((A, (2, 1)), {})],
    np.repeat: [((A, 2), {"axis": 1})],
    np.pad: [((A, 1), {}), ((A, ((1, 2), (0, 1))), {"constant_values": 3.0})],
    np.tril: [((A, 1), {})],
    np.diagonal: [((np.stack([A, B]),), {}), ((A, 1), {})],
    np.trace: [((np.stack([A, B]),), {}), ((A, 1), {})],
    np.vstack: [(([A, B],), {}), (([A[0], B[0]],), {})],
    np.hstack: [(([A, B],), {}), (([A[0], B[0]],), {})],
    np.take: [((A, [0, 2]), {"axis": 0}), ((A, I), {})],
    np.take_along_axis: [((A, np.argsort(B, 1), 1), {})],
    np.sort: [((B,), {}), ((B, 0), {})],
    np.argsort: [((B,), {}), ((B, 0), {})],
    np.clip: [((A, 0.2, 0.5), {}), ((A,), {"min": 0.3}), ((A, 0.2, None), {})],
    np.tensordot: [((A, B.T, 1), {}), ((A, B), {})],
    np.outer: [((A[0], B[1]), {})],
    np.full_like: [((A, 2.0), {})],
    np.linalg.norm: [((A,), {}), ((A, 1), {}), ((A,), {"axis": 1, "ord": 3}), ((A, -1), {"keepdims": True})],
    np.linalg.matrix_norm: [((A,), {"ord": 1})],
    np.linalg.vector_norm: [((A,), {"axis": 0})],
    np.linalg.inv: [((S,), {})],
    np.linalg.det: [((S,), {})],
    np.linalg.slogdet: [((S,), {})],
    np.linalg.solve: [((S, A), {}), ((S, A[:, 0]), {})],
    np.linalg.cholesky: [((S,), {}), ((S,), {"upper": True})],
    np.linalg.matrix_power: [((S, 3), {}), ((S, 0), {}), ((S, -2), {})],
    np.concatenate: [(([A, B],), {}), (([A, B], 1), {}), (([A, B],), {"axis": None})],
    np.where: [((A > 0.5, A, B), {}), ((A > 0.5,), {})],
    np.dot: [((A, B.T), {}), ((A[0], B[0]), {}), ((A, B[0]), {}), ((np.stack([A, B]), np.stack([A.T, B.T])), {}), ((2.0, A), {})],
    np.inner: [((A, B), {}), ((A[0], B[0]), {})],
    np.einsum: [(("ij,kj->ik", A, B), {}), (("ij->j", A), {})],
    np.searchsorted: [((np.sort(A[0]), B[0]), {"side": "right"})],
    np.cross: [((A[:, :3], B[:, 1:]), {})],
    np.linalg.cross: [((A[:, :3], B[:, 1:]), {})],
    np.linalg.outer: [((A[0], B[0]), {})],
    np.linalg.tensordot: [((A, B.T), {"axes": 1})],
    np.linalg.vecdot: [((A, B), {}), ((A, B), {"axis": 0})],
    np.linalg.matmul: [((A, B.T), {})],
}


@pytest.mark.parametrize("function", [*FUNCTIONS, *POSITIONAL], ids=name_of)
def test_a_function_of_tensors_is_our_op(function):
    for args, kwargs in CALLS.get(function, [((A,), {})]):
        assert_same(function(*as_tensors(args), **kwargs), function(*args, **kwargs))


@pytest.mark.parametrize(
    "function", sorted(LOOKING - {np.save, np.savez, np.savez_compressed, np.savetxt}, key=name_of), ids=name_of
)
def test_functions_that_only_look_answer_as_numpy_does(function):
    t = tg.tensor(A, requires_grad=True)
    two = {np.allclose, np.isclose, np.array_equal, np.array_equiv, np.may_share_memory, np.shares_memory}
    given, wanted = (
        (function(x, B) if function in two else function(x, np.float64) if function is np.can_cast else function(x))
        for x in (t, A)
    )
    assert type(given) is type(wanted) and np.array_equal(given, wanted)


def test_saving(tmp_path):
    np.save(tmp_path / "t.npy", tg.tensor(A))
    np.savez(tmp_path / "t.npz", t=tg.tensor(A))
    assert np.array_equal(np.load(tmp_path / "t.npy"), A) and np.array_equal(np.load(tmp_path / "t.npz")["t"], A)


UNSUPPORTED = {
    "np.median has no counterpart for tensors; use a tg function, or np.median(tensor.numpy())": lambda t: np.median(t),
    "np.fft.fft has no counterpart": lambda t: np.fft.fft(t),
    "np.linalg.eigh has no counterpart": lambda t: np.linalg.eigh(t),
    "np.heaviside has no counterpart": lambda t: np.heaviside(t, 0.0),
    "np.add.outer has no counterpart": lambda t: np.add.outer(t, t),
    "np.frexp has no counterpart": lambda t: np.frexp(t),
    "np.exp: the argument dtype is not supported on tensors": lambda t: np.exp(t, dtype=np.float32),
    "np.add: the argument where is not supported": lambda t: np.add(t, t, where=A > 0),
    "np.sum: the argument where is not supported": lambda t: np.sum(t, where=A > 0),
    "np.sum: the argument dtype is not supported": lambda t: np.sum(t, dtype=np.float32),
    "np.sum: the argument out is not supported": lambda t: np.sum(t, out=np.zeros(())),
    "np.sort: the argument kind is not supported": lambda t: np.sort(t, kind="heapsort"),
    "np.round: the argument decimals is not supported": lambda t: np.round(t, 2),
    "np.pad: the argument mode is not supported": lambda t: np.pad(t, 1, mode="edge"),
    "np.concatenate: the argument dtype is not supported": lambda t: np.concatenate([t, t], dtype=np.float32),
    "np.exp cannot write a tensor into an array in place": lambda t: np.exp(t, out=np.zeros((3, 4))),
}


@pytest.mark.parametrize(("words", "call"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_what_is_not_supported_is_a_type_error(words, call):
    with pytest.raises(TypeError) as caught:
        call(tg.tensor(A, requires_grad=True))
    assert words in str(caught.value)


# Values out


def test_asarray_is_a_read_only_view():
    t = tg.tensor(A)
    array = np.asarray(t)
    assert np.shares_memory(array, t.numpy()) and not array.flags.writeable
    assert np.array(t).flags.writeable and not np.shares_memory(np.array(t), array)
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    np.testing.assert_allclose(t, A)
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.asarray(t, dtype=np.float32, copy=False)


def test_case_54_an_array_does_not_take_in_a_tensor_that_requires_grad():
    t, out = tg.tensor(A, requires_grad=True), np.zeros((4, 4))
    with pytest.raises(TypeError, match=r"use t.numpy\(\) or t.detach\(\) for its values, or a tg function"):
        out[:3] = t
    with pytest.raises(TypeError, match=r"write array = array \+ tensor"):
        out[:3] += t
    with pytest.raises(TypeError, match=r"a tensor of shape \(3, 4\) with requires_grad would lose its derivative"):
        np.asarray(2 * t)
    out[:3] = t.detach()
    out[:3] += t.numpy()
    with tg.no_grad():
        out[:3] += np.asarray(t)
    np.testing.assert_allclose(out[:3], 3 * A)


def test_case_59_a_list_of_tensors_is_no_array():
    t = tg.tensor(A, requires_grad=True)
    for tensors in ([t, t], [t[0, 0], t[0, 1]], (t, A)):
        with pytest.raises(TypeError, match="would lose its derivative"):
            np.array(tensors)
        with pytest.raises(TypeError, match=r"use tg.stack or tg.concat"):
            tg.tensor(tensors)
    assert np.stack([t, t]).requires_grad
    constants = np.array([tg.tensor(A), tg.tensor(B)])
    assert constants.dtype == np.float64 and np.array_equal(constants, [A, B])


def test_numpys_loops_over_a_tensor():
    t = tg.tensor(A)
    assert [len(row) for row in t] == [4, 4, 4]
    assert math.isclose(sum(float(x) for row in t for x in row), A.sum())
    assert A[tg.tensor(1)].tolist() == A[1].tolist() and A[tg.tensor([0, 2])].tolist() == A[[0, 2]].tolist()


# DLPack


def test_dlpack_shares_memory_with_numpy():
    t = tg.tensor(A)
    array = np.from_dlpack(t)
    assert np.shares_memory(array, t.numpy()) and not array.flags.writeable
    source = np.arange(6.0).reshape(2, 3)
    back = tg.from_dlpack(source)
    source[0, 0] = 9
    assert back.tolist() == [[9, 1, 2], [3, 4, 5]]
    assert np.shares_memory(tg.from_dlpack(t).numpy(), t.numpy())
    assert not np.shares_memory(tg.from_dlpack(source, copy=True).numpy(), source)


def test_dlpack_shares_memory_with_torch():
    torch = pytest.importorskip("torch")
    t = tg.tensor(A)
    theirs = torch.from_dlpack(t)
    assert theirs.data_ptr() == t.numpy().ctypes.data and np.array_equal(theirs.numpy(), A)
    source = torch.arange(6.0).reshape(2, 3)[:, ::2]
    ours = tg.from_dlpack(source)
    source[0, 0] = 9
    assert ours.tolist() == [[9, 2], [3, 5]] and ours.dtype == np.float32
    with pytest.raises(TypeError, match="got dtype complex64"):
        tg.from_dlpack(torch.zeros(2, dtype=torch.complex64))


def test_dlpack_refuses_a_tensor_that_requires_grad():
    t = tg.tensor(A, requires_grad=True)
    with pytest.raises(BufferError, match=r"t.detach\(\)"):
        np.from_dlpack(t)
    assert np.from_dlpack(t.detach()).shape == (3, 4)
    with pytest.raises(ValueError, match="device must be 'cpu', got 'cuda'"):
        tg.from_dlpack(A, device="cuda")


# Copies

COPIES = {"pickle": lambda t: pickle.loads(pickle.dumps(t)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_case_60_a_copy_is_a_leaf_of_its_own(duplicate):
    x = tg.tensor(A, requires_grad=True, name="x")
    for t in (x, tg.exp(x)):
        y = duplicate(t)
        assert y.is_leaf and y.requires_grad and y.grad is None and y.name == t.name
        assert np.array_equal(y.numpy(), t.numpy()) and not np.shares_memory(y.numpy(), t.numpy())
        tg.sum(y).backward()
        assert y.grad.shape == t.shape and t.grad is None
    constant = duplicate(tg.tensor([1, 2]))
    assert not constant.requires_grad and constant.dtype == np.int64


def test_case_60_copies_of_modules_keep_types_and_ties():
    layer = tg.nn.Linear(3, 2)
    layer.tied = layer.weight
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other.weight) is tg.nn.Parameter and other.tied is other.weight is not layer.weight
        x = tg.tensor(A[:, :3])
        np.testing.assert_array_equal(other(x).numpy(), layer(x).numpy())
        tg.sum(other(x)).backward()
        assert other.weight.grad is not None and layer.weight.grad is None


# einops


@pytest.mark.parametrize("module", [einops, einops.array_api], ids=["backend", "array_api"])
def test_einops(module):
    t = tg.tensor(A, requires_grad=True)
    assert_same(module.rearrange(t, "a (b c) -> c a b", c=2), einops.rearrange(A, "a (b c) -> c a b", c=2))
    assert_same(module.repeat(t, "a b -> a k b", k=2), einops.repeat(A, "a b -> a k b", k=2))
    for reduction in ("mean", "sum", "max", "min", "prod"):
        assert_same(module.reduce(t, "a (b c) -> c b", reduction, c=2), einops.reduce(A, "a (b c) -> c b", reduction, c=2))
    packed, shapes = module.pack([t, tg.tensor(B[:, 0])], "a *")
    assert_same(packed, np.concatenate([A, B[:, :1]], 1))
    assert [part.shape for part in module.unpack(packed, shapes, "a *")] == [(3, 4), (3,)]
    tg.check.check_grads(
        lambda x: module.reduce(module.rearrange(x, "a (b c) -> c a b", c=2), "c a b -> b", "mean"), (tg.tensor(A),)
    )


def test_einops_einsum_lists_and_shapes():
    t = tg.tensor(A, requires_grad=True)
    y = einops.einsum(t, tg.tensor(B), "a b, c b -> a c")
    assert_same(y, A @ B.T)
    assert y.requires_grad
    assert_same(einops.rearrange([t, t], "n a b -> a (n b)"), np.concatenate([A, A], 1))
    assert einops.parse_shape(t, "a _") == {"a": 3}
    with pytest.raises(einops.EinopsError, match=r"\(3, 4\)|can't divide"):
        einops.rearrange(t, "a (b c) -> a b c", b=3)


# Comparisons


def test_comparisons_answer_for_tensors_only():
    t = tg.tensor([1.0, 2.0])
    assert (t == t.numpy()).tolist() == [True, True] and (t != 1).tolist() == [False, True]
    assert (t == None) is False and (t == "cpu") is False  # noqa: E711
    assert tg.logical_xor(t > 1, True).tolist() == [True, False]
    assert tg.isnan([1.0, math.nan]).tolist() == [False, True]
    with pytest.raises(TypeError, match="bitwise_and is not defined for float32 and float32"):
        t & t
