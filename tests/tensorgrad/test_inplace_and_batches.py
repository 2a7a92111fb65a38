"""What in-place spelling means for immutable tensors, strides beyond 32 bits, and batches cut or padded in other ways."""

import gc
import weakref

import numpy as np

import tensorgrad as tg
from tensorgrad import kernels


def leaf(values):
    return tg.tensor(np.asarray(values, "float64"), requires_grad=True)


def test_case_42_differentiable_gradients_in_grad_are_freed_with_it():
    x = leaf([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    gradient = weakref.ref(x.grad)
    (x.grad**2).sum().backward()  # d/dx (3 x^2)^2 = 36 x^3, added to 3 x^2
    np.testing.assert_allclose(x.grad.data, [3 + 36, 12 + 288])
    x.grad = None
    gc.collect()
    assert gradient() is None


def test_case_47_adding_to_an_expanded_tensor_makes_a_new_one():
    a = tg.ones((4, 1))
    b = tg.broadcast_to(a, (4, 5))
    b += 1
    np.testing.assert_array_equal(b.data, np.full((4, 5), 2.0))
    np.testing.assert_array_equal(a.data, np.ones((4, 1)))


def test_case_48_subtracting_a_part_of_itself():
    for shape in [(2, 3), (2, 2)]:
        values = np.arange(6.0).reshape(2, 3)[:, : shape[1]] + 1
        a = leaf(values)
        b = a
        b -= a[:, :1]
        np.testing.assert_array_equal(b.data, values - values[:, :1])
        b.sum().backward()
        np.testing.assert_array_equal(a.grad.data, np.ones(shape) - np.eye(1, shape[1]) * shape[1])


def test_case_51_changing_a_view_changes_nothing_else():
    base = leaf([1.0, 2.0, 3.0])
    view = base[1:]
    view *= 10
    np.testing.assert_array_equal(base.data, [1, 2, 3])
    (base.sum() + view.sum()).backward()
    np.testing.assert_array_equal(base.grad.data, [1, 11, 11])


def test_case_80_strides_beyond_32_bits():
    step = 2**31 + 4096
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 8)).astype("float32")
    memory = np.empty(step + 4096, np.uint8)  # only the pages that are touched exist
    far = np.ndarray((2, 8), np.float32, memory, strides=(step, 4))
    far[...] = rows
    b = rng.standard_normal((8, 3)).astype("float32")
    np.testing.assert_array_equal(kernels.matmul.matmul(far, b), kernels.matmul.matmul(rows, b))
    np.testing.assert_array_equal(kernels.matmul.matmul(b.T, far.T), kernels.matmul.matmul(b.T, rows.T))
    q, k = far.reshape(2, 1, 1, 8), rows.reshape(2, 1, 1, 8)
    np.testing.assert_array_equal(
        kernels.attention.forward(q, q, q, scale=1.0)[0], kernels.attention.forward(k, k, k, scale=1.0)[0]
    )


def test_case_132_padded_keys_change_nothing():
    rng = np.random.default_rng(0)
    q, k, v = (tg.tensor(rng.standard_normal((1, 2, 5, 4))) for _ in range(3))
    short = tg.attention(q[:, :, :3], k[:, :, :3], v[:, :, :3])
    for seen, part in ((np.arange(5) < 3, slice(0, 3)), (np.arange(5) >= 2, slice(2, 5))):
        padded = tg.attention(q[:, :, part], k, v, mask=seen)
        alone = tg.attention(q[:, :, part], k[:, :, part], v[:, :, part])
        np.testing.assert_allclose(padded.data, alone.data, atol=1e-15)
    assert short.shape == (1, 2, 3, 4)


def test_case_136_unequal_micro_batches_give_the_gradient_of_the_whole():
    rng = np.random.default_rng(0)
    model = tg.nn.Linear(4, 7, rng=rng)
    x, targets = rng.standard_normal((10, 4)).astype("float32"), rng.integers(0, 7, 10)
    targets[[2, 3, 8]] = -100
    counted = int((targets >= 0).sum())
    tg.cross_entropy(model(x), targets).backward()
    whole = model.weight.grad.data.copy()
    model.zero_grad()
    for part in (slice(0, 4), slice(4, 5), slice(5, 10)):
        (tg.cross_entropy(model(x[part]), targets[part], reduction="sum") / counted).backward()
    np.testing.assert_allclose(model.weight.grad.data, whole, rtol=1e-6, atol=1e-7)
