"""Every op of the table in samples.py, on every sample: values, derivatives of second or third order in both modes, manners."""

import operator
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from samples import TABLE, Sample, op_of, public_ops

import tensorgrad as tg
from tensorgrad import tree
from tensorgrad.ops.kinds import elementwise

EVERY = pytest.mark.parametrize("name", sorted(TABLE))
DIFFERENTIABLE = pytest.mark.parametrize("name", sorted(n for n, row in TABLE.items() if row.differentiable))
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.flip(np.flip(x).copy()),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.size else x,
}


def leaves(sample: Sample, dtype="float64", layout=lambda x: x, read_only=False) -> list[tg.Tensor]:
    """The sample's arrays as leaves that hold them as they are, without the copy that tg.tensor makes."""
    arrays = [layout(x) for x in sample.arrays(dtype)]
    for x in arrays:
        x.flags.writeable = not read_only
    return [tg.Tensor(x, requires_grad=True) for x in arrays]


def floats(result) -> list[tg.Tensor]:
    return [y for y in tree.flatten(result)[0] if y.dtype.kind == "f"]


def seeds(ys: list[tg.Tensor]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(y.shape)).astype(y.dtype) for y in ys]


def pulled(name: str, xs: list[tg.Tensor], params: dict, gs=None) -> tuple[list[tg.Tensor], list[np.ndarray]]:
    """The results, and each leaf's gradient of sum <g, y> by .backward()."""
    ys = floats(op_of(name)(*xs, **params))
    gs = seeds(ys) if gs is None else gs
    for y, g in zip(ys, gs, strict=True):
        assert y.requires_grad, "a result does not remember its inputs"
        y.backward(tg.Tensor(g), retain_graph=True)
    return ys, [np.zeros(x.shape, x.dtype) if x.grad is None else x.grad.data for x in xs]


def close(given, wanted, rtol: float) -> None:
    """Equal to within rtol of the number itself or of the largest there is."""
    given, wanted = np.asarray(given), np.asarray(wanted)
    assert given.shape == wanted.shape
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(given, wanted, rtol=rtol, atol=rtol * scale)


def test_every_public_op_has_a_row():
    assert not public_ops() - set(TABLE), "public ops without a row in samples.py"
    assert all(operator.attrgetter(name)(tg) for name in TABLE), "rows without a public op"


def test_a_new_op_without_a_row_is_noticed(monkeypatch):
    monkeypatch.setattr(tg, "cube", elementwise(lambda y, x: 3 * x * x)(lambda x: x**3), raising=False)
    assert public_ops() - set(TABLE) == {"cube"}


@EVERY
def test_values(name):
    """As NumPy's in float64; in float32 and float16 as in float64, to their precision, and of their dtype."""
    row, op = TABLE[name], op_of(name)
    for sample in row.samples:
        length = max(1, *(x.size for x in sample.arrays()))
        for dtype, rtol in (("float64", 1e-13), ("float32", 1.3e-6), ("float16", 4e-3)):
            if dtype == "float16" and not row.half:
                continue
            given = tree.flatten(op(*sample.arrays(dtype), **sample.params))[0]
            with np.errstate(all="ignore"):
                wanted = row.reference(*sample.arrays(), **sample.params)
            wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted]
            assert len(given) == len(wanted)
            for y, w in zip(given, wanted, strict=True):
                assert y.dtype == (dtype if row.differentiable and y.dtype.kind == "f" else np.asarray(w).dtype)
                close(y.data, w, rtol * length**0.5 if y.dtype.kind == "f" else 0)


@DIFFERENTIABLE
def test_derivatives(name):
    """Both modes at order 1 and 2, and at order 3 for smooth ops, against central differences and the adjoint identity.

    (Cases 1, 13 and 14.)
    """
    row = TABLE[name]
    for i, sample in enumerate(row.samples):
        order = 3 if row.smooth and i == 0 else 2
        tg.check.check_grads(lambda *xs, params=sample.params: op_of(name)(*xs, **params), tuple(sample.arrays()), order)


@pytest.mark.parametrize("name", sorted(n for n, row in TABLE.items() if row.differentiable and row.analytic))
def test_derivatives_by_complex_step(name):
    """Im f(x + ih t)/h has no difference in it, so that no digit cancels (Squire and Trapp 1998).  (Case 3.)"""
    row, h = TABLE[name], 1e-20
    for sample in row.samples:
        xs = sample.arrays()
        ts = seeds([tg.Tensor(x) for x in xs])
        moved = row.reference(*[x + 1j * h * t for x, t in zip(xs, ts, strict=True)], **sample.params)
        moved = [y for y in (moved if isinstance(moved, (list, tuple)) else [moved]) if np.iscomplexobj(y)]
        given = tg.jvp(
            lambda *xs, p=sample.params: floats(op_of(name)(*xs, **p)), tuple(map(tg.tensor, xs)), tuple(map(tg.tensor, ts))
        )[1]
        assert len(given) == len(moved)
        for t, y in zip(given, moved, strict=True):
            close(t.data, y.imag / h, 1e-12)


@DIFFERENTIABLE
def test_float32_gradients(name):
    """As those of float64 to 1e-4, each of its input's dtype."""
    for sample in TABLE[name].samples:
        ys, wanted = pulled(name, leaves(sample), sample.params)
        gs = [g.astype(np.float32) for g in seeds(ys)]
        _, given = pulled(name, leaves(sample, "float32"), sample.params, gs)
        for a, b in zip(given, wanted, strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * max(1, np.abs(b).max(initial=0)))


@DIFFERENTIABLE
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-5)])
def test_kernels_are_their_definitions(name, dtype, rtol):
    """Value, gradient, and gradient of gradient, with kernels and without."""

    def numbers(sample: Sample) -> list[np.ndarray]:
        ys, first = pulled(name, leaves(sample, dtype), sample.params)
        gs = seeds(ys)

        def slope(*xs):
            pull_back = tg.vjp(lambda *zs: floats(op_of(name)(*zs, **sample.params)), *xs)[1]
            return sum(
                (tg.sum(gx * t) for gx, t in zip(pull_back([tg.Tensor(g) for g in gs]), directions, strict=True)), tg.zeros(())
            )

        xs = leaves(sample, dtype)
        directions = [tg.Tensor(t) for t in seeds(xs)]
        second = tg.grad(slope, tuple(range(len(xs))))(*xs)
        return [*[y.data for y in ys], *first, *[g.data for g in second]]

    for sample in TABLE[name].samples:
        by_kernel = numbers(sample)
        with tg.definitions():
            by_definition = numbers(sample)
        for a, b in zip(by_kernel, by_definition, strict=True):
            close(a, b, rtol)


@DIFFERENTIABLE
@pytest.mark.parametrize("layout", LAYOUTS)
def test_case_17_memory_layouts(name, layout):
    """Arrays and upstream gradients of any strides, and read-only ones, give what contiguous copies give."""
    for sample in TABLE[name].samples:

        def contiguous(x):
            return np.array(strange(x), order="C")

        def strange(x):
            return LAYOUTS[layout](x) if x.ndim else x

        gs = seeds(floats(op_of(name)(*leaves(sample), **sample.params)))
        ys, wanted = pulled(name, leaves(sample, layout=contiguous), sample.params, [contiguous(g) for g in gs])
        zs, given = pulled(name, leaves(sample, layout=strange, read_only=True), sample.params, [strange(g) for g in gs])
        for a, b in zip([*[z.data for z in zs], *given], [*[y.data for y in ys], *wanted], strict=True):
            close(a, b, 1e-13)


@DIFFERENTIABLE
def test_case_15_manners(name):
    """Nothing given is changed, no gradient shares memory with anything, and a second pass gives the same bits."""
    for sample in TABLE[name].samples:
        xs = leaves(sample)
        before = [x.data.tobytes() for x in xs]
        gs = seeds(floats(op_of(name)(*xs, **sample.params)))
        seeds_before = [g.tobytes() for g in gs]
        ys, first = pulled(name, xs, sample.params, gs)
        values = [y.data.tobytes() for y in ys]
        held = [*[x.data for x in xs], *gs, *[y.data for y in ys], *first]
        for i, gradient in enumerate(first):
            assert gradient.shape == xs[i].shape and gradient.dtype == xs[i].dtype
            assert not any(np.shares_memory(gradient, other) for other in held if other is not gradient)
        _, second = pulled(name, leaves(sample), sample.params, gs)
        assert [a.tobytes() for a in first] == [b.tobytes() for b in second]
        for y, g in zip(ys, gs, strict=True):
            y.backward(tg.Tensor(g))
        assert [(x.grad.data if x.grad is not None else 0 * x.data).tobytes() for x in xs] == [(a + a).tobytes() for a in first]
        assert before == [x.data.tobytes() for x in xs]
        assert seeds_before == [g.tobytes() for g in gs]
        assert values == [y.data.tobytes() for y in ys]


@DIFFERENTIABLE
def test_case_12_upstream_zeros(name):
    for sample in TABLE[name].samples:
        xs = leaves(sample)
        gs = [np.zeros(y.shape) for y in floats(op_of(name)(*xs, **sample.params))]
        _, gradients = pulled(name, xs, sample.params, gs)
        assert not any(gradient.any() for gradient in gradients)


@EVERY
def test_no_warnings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sample in TABLE[name].samples:
            xs = leaves(sample)
            for y in floats(op_of(name)(*xs, **sample.params)):
                if y.requires_grad:
                    y.backward(tg.Tensor(np.ones(y.shape)), retain_graph=True)
