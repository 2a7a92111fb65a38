"""backward(on_gradient=...): each leaf is told once, with its whole gradient, as soon as nothing more can come to it."""

import numpy as np
import pytest

import tensorgrad as tg


def leaf(value):
    return tg.tensor(np.array(value), requires_grad=True)


def test_leaves_complete_in_the_order_of_their_first_use_from_behind():
    a, b, c = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([5.0, 6.0])
    loss = (tg.sin(a * b) * c + a).sum()  # a is used first and again at the end
    order = []
    loss.backward(on_gradient=lambda x: order.append((x, x.grad.data.copy())))
    assert [id(x) for x, _ in order[:1]] == [id(c)] and {id(x) for x, _ in order[1:]} == {id(a), id(b)}
    for x, seen in order:
        np.testing.assert_array_equal(seen, x.grad.data)
    np.testing.assert_allclose(a.grad.data, np.cos(a.data * b.data) * b.data * c.data + 1, rtol=1e-14)


def test_it_is_told_while_the_walk_goes_on():
    early, late = leaf([2.0]), leaf([3.0])
    events = []

    @tg.custom_vjp
    def marked(x):
        return x * 1.0

    marked.defvjp(lambda x: (x * 1.0, None), lambda _, g: (events.append("walk") or g,))
    loss = (marked(early * 2.0) * late).sum()
    loss.backward(on_gradient=lambda x: events.append("late" if x is late else "early"))
    assert events == ["late", "walk", "early"]


@pytest.mark.parametrize("how", [{}, {"retain_graph": True}, {"create_graph": True}])
def test_the_gradients_are_those_without_it(how):
    def passes(**more):
        x, y = leaf([0.3, 0.7]), leaf([1.5, 2.5])
        for _ in range(2):  # the second adds to the first
            (tg.exp(x) * y + y).sum().backward(**how, **more)
        return x.grad.data, y.grad.data

    told = []
    for one, other in zip(passes(), passes(on_gradient=told.append), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(told) == 4


def test_a_leaf_that_is_the_output_and_one_without_a_path():
    x, unused = leaf(2.0), leaf(1.0)
    told = []
    x.backward(on_gradient=told.append)
    assert told == [x] and x.grad.item() == 1 and unused.grad is None
