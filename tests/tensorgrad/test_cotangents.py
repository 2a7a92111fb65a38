"""Who may write to a gradient's array: the engine adds in place and takes arrays over, but never one that somebody else holds."""

import importlib

import numpy as np
import pytest
from samples import TABLE, op_of

import tensorgrad as tg
from tensorgrad import kernels
from tensorgrad.cotangents import Fresh, add, own, plain
from tensorgrad.ops.kinds import Fused


def leaf(shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def norm(x):
    return tg.layer_norm(x)


@pytest.mark.parametrize("fresh", [(True, True), (True, False), (False, True), (False, False)])
def test_sums_change_only_what_is_fresh(fresh):
    arrays = [np.arange(3.0), np.full(3, 10.0)]
    before = [a.copy() for a in arrays]
    terms = [Fresh(a) if new else tg.Tensor(a) for a, new in zip(arrays, fresh, strict=True)]
    with tg.no_grad():  # as in a backward pass that is not recorded
        total = add(*terms)
    np.testing.assert_array_equal(total.data, before[0] + before[1])
    for a, old, new in zip(arrays, before, fresh, strict=True):
        if not new:
            np.testing.assert_array_equal(a, old)
            assert not np.shares_memory(total._array, a)
    assert type(total) is Fresh and type(plain(total)) is tg.Tensor


def test_what_is_kept_is_whole_and_copied_only_if_it_must_be():
    whole, parts = np.ones(1000), np.ones((10, 1000))
    assert own(Fresh(whole))._array is whole
    assert not np.shares_memory(own(tg.Tensor(whole))._array, whole)
    assert not np.shares_memory(own(Fresh(parts[0]))._array, parts)


def test_a_cotangent_that_goes_to_several_nodes_is_not_added_to():
    """d/dx of norm(x) comes from a kernel, and is passed on by + to both of its inputs before another use adds to one."""
    x, w = leaf((4, 5)), leaf((4, 5), 1)

    def f(x, w):
        s = norm(x + w)  # the kernel's new array goes on to x and to w
        return (s * s + x).sum() + (x * x).sum() + (norm(x) * w).sum() + (w * w * w).sum()

    f(x, w).backward()
    with tg.definitions():
        gx, gw = tg.grad(f, (0, 1))(x, w)
    np.testing.assert_allclose(x.grad.data, gx.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(w.grad.data, gw.data, rtol=1e-12, atol=1e-12)
    assert not np.shares_memory(x.grad._array, w.grad._array)


def test_views_of_a_cotangent_are_not_added_to():
    x = leaf((4, 6))

    def f(x):
        a, b = tg.split(norm(x), 2, axis=-1)
        y = norm(x.reshape(6, 4)).reshape(4, 6)
        return (a * b).sum() + (y * norm(x)).sum() + norm(norm(x) + y).sum() + (y * y * x).sum()

    f(x).backward()
    with tg.definitions():
        np.testing.assert_allclose(x.grad.data, tg.grad(f)(x).data, rtol=1e-12, atol=1e-12)


def test_an_array_that_a_rule_hands_out_again_and_again_stays_as_it_is():
    mine = tg.tensor(np.ones((2, 3)))
    rule = tg.custom_vjp(lambda x: x * 2)
    rule.defvjp(lambda x: (x * 2, None), lambda _, g: mine)
    x = leaf((2, 3))
    (rule(x) + norm(x) + rule(x) + rule(x)).backward(np.ones((2, 3)))
    np.testing.assert_array_equal(mine.data, np.ones((2, 3)))
    np.testing.assert_allclose(x.grad.data, np.full((2, 3), 3.0), atol=1e-12)


def test_an_earlier_gradient_is_not_changed_by_a_later_pass():
    x = leaf((3, 4))
    (norm(x) * x).sum().backward()
    first = x.grad
    before = np.array(first.data)
    norm(x).backward(gradient=first)  # the gradient as a seed
    np.testing.assert_array_equal(first.data, before)
    (norm(x) + norm(x)).backward(gradient=first)
    np.testing.assert_array_equal(first.data, before)
    assert type(x.grad) is tg.Tensor and not np.shares_memory(x.grad._array, first._array)


def test_gradients_of_a_graph_used_twice_share_nothing():
    x, w = leaf((3, 4)), leaf((5, 4), 1)
    y = tg.linear(x, w).sum()
    y.backward(retain_graph=True)
    first = w.grad
    w.grad = None
    y.backward()
    assert not np.shares_memory(first._array, w.grad._array)
    np.testing.assert_array_equal(first.data, w.grad.data)


@pytest.mark.parametrize("name", sorted(n for n, row in TABLE.items() if row.differentiable))
def test_kernels_return_new_arrays(name, monkeypatch):
    """What `backward` of a kernel returns shares memory with none of what it was given, nor among itself."""
    vjp = Fused.vjp

    def watched(self, out, g, wanted):
        gs = vjp(self, out, g, wanted)
        new = [x._array for x in gs if type(x) is Fresh]
        old = [g._array, out._array, *out.saved, *[x._array for x in out.inputs]]
        for i, a in enumerate(new):
            assert a.flags.writeable
            assert not any(np.shares_memory(a, b) for b in old + new[:i]), f"{self.name}: gradient {i}"
        return gs

    monkeypatch.setattr(Fused, "vjp", watched)
    for sample in TABLE[name].samples:
        xs = [tg.tensor(x, requires_grad=True) for x in sample.arrays("float32")]
        ys = op_of(name)(*xs, **sample.params)
        for y in tg.tree.flatten(ys)[0] if not isinstance(ys, tg.Tensor) else [ys]:
            if y.requires_grad:
                y.backward(tg.ones_like(y), retain_graph=True)


@pytest.mark.parametrize("tied", [True, False])
def test_few_rows_of_a_table_are_added_to_its_other_gradient(tied):
    table, ids = leaf((50, 4)), np.array([[3, 7, 3], [49, 0, 3]])

    def f(table):
        x = tg.embedding(ids, table)
        return (tg.linear(tg.layer_norm(x), table) ** 2).sum() if tied else (x * x).sum()

    f(table).backward()
    with tg.definitions():
        np.testing.assert_allclose(table.grad.data, tg.grad(f)(table).data, rtol=1e-12, atol=1e-12)
    before = table.grad
    f(table).backward()
    np.testing.assert_allclose(table.grad.data, 2 * before.data, rtol=1e-12)
    np.testing.assert_allclose(tg.hvp(f, table, before).data, tg.grad(lambda t: (tg.grad(f)(t) * before).sum())(table).data)


@pytest.fixture
def products(monkeypatch):
    """A list that grows with every matrix product of the linear maps."""
    done: list[tuple[int, ...]] = []
    matmul = kernels.matmul.matmul

    def counted(a, b, *args, **kwargs):
        done.append(a.shape + b.shape)
        return matmul(a, b, *args, **kwargs)

    monkeypatch.setattr(importlib.import_module("tensorgrad.kernels.linear"), "matmul", counted)
    return done


def test_gradients_that_nobody_wants_are_not_computed(products):
    x, w = leaf((3, 4)).detach(), leaf((5, 4), 1).detach()
    tg.grad(lambda x: tg.linear(x, w).sum())(x)
    assert len(products) == 2  # y and dx
    tg.grad(lambda w: tg.linear(x, w).sum())(w)
    assert len(products) == 4  # y and dw


def test_a_hessian_vector_product_computes_no_gradient(products):
    x, w, t, u = (leaf(shape, seed).detach() for seed, shape in enumerate([(3, 4), (5, 4), (3, 4), (5, 4)]))
    found = tg.hvp(lambda x, w: (tg.linear(x, w) ** 3).sum(), (x, w), (t, u))
    assert len(products) == 7  # y;  two for each of the tangents of y, dx and dw
    with tg.definitions():
        wanted = tg.hvp(lambda x, w: (tg.linear(x, w) ** 3).sum(), (x, w), (t, u))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-12)
