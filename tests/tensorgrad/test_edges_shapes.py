"""Shapes, broadcasting and indexing: cases C of the fault list (case numbers in the names)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import tensorgrad as tg


def leaf(values, dtype="float64"):
    return tg.tensor(np.asarray(values, dtype), requires_grad=True)


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def pulled(f, *xs, g=None):
    """(value, gradients) of leaves made of xs; g is the upstream gradient, ones if not given."""
    leaves = [leaf(x) for x in xs]
    y = f(*leaves)
    y.backward(np.ones(y.shape) if g is None else np.asarray(g, float))
    return y.data, *[x.grad.data for x in leaves]


def equal(given, wanted):
    given, wanted = np.asarray(given), np.asarray(wanted)
    assert given.shape == wanted.shape
    np.testing.assert_array_equal(given, wanted)


def unbroadcast(g, shape):
    """What a broadcast's transpose must give, by one-hot matrices."""
    places = np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), g.shape)
    return np.bincount(places.reshape(-1), g.reshape(-1), minlength=int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    "a, b", [((3, 1), (1, 4)), ((3,), (2, 3)), ((), (2, 3)), ((1,), (3,)), ((2, 1, 3), (4, 1)), ((1, 1), ()), ((0, 3), (1, 3))]
)
def test_case_61_each_gradient_has_its_inputs_shape(a, b):
    x, y = numbers(*a), numbers(*b, seed=1)
    g = numbers(*np.broadcast_shapes(a, b), seed=2)
    for op, dx, dy in ((tg.add, g, g), (tg.multiply, g * y, g * x), (tg.subtract, g, -g)):
        _, gx, gy = pulled(op, x, y, g=g)
        assert gx.shape == a and gy.shape == b
        np.testing.assert_allclose(gx, unbroadcast(dx, a), rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(gy, unbroadcast(dy, b), rtol=1e-14, atol=1e-15)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(
        [
            lambda x: x,
            lambda x: np.asarray(np.flip(x)),
            lambda x: x.T.copy().T,
            lambda x: np.repeat(x, 2, -1)[..., ::2] if x.ndim else x,
        ]
    ),
)
def test_broadcasting_of_any_shapes_dtypes_and_strides(shapes, dtype_a, dtype_b, layout):
    a, b = shapes.input_shapes
    x, y = (
        tg.Tensor(layout(numbers(*a).astype(dtype_a)), requires_grad=True),
        tg.Tensor(numbers(*b, seed=1).astype(dtype_b), requires_grad=True),
    )
    z = x * y
    assert z.shape == shapes.result_shape and z.dtype == np.result_type(dtype_a, dtype_b)
    equal(z.data, x.data * y.data)
    g = numbers(*z.shape, seed=2)
    z.backward(g)
    assert (x.grad.dtype, y.grad.dtype) == (dtype_a, dtype_b)
    np.testing.assert_allclose(x.grad.data, unbroadcast(g * y.data, a), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y.grad.data, unbroadcast(g * x.data, b), rtol=1e-5, atol=1e-5)


def test_case_62_broadcast_against_nothing():
    y, ga, gb = pulled(tg.add, np.zeros((4, 0)), np.ones((4, 1)))
    assert y.shape == (4, 0) and ga.shape == (4, 0)
    equal(gb, np.zeros((4, 1)))
    _, _, gb = pulled(lambda a, b: a + b.unsqueeze(1), np.zeros((4, 0)), np.ones(4))
    equal(gb, np.zeros(4))


@pytest.mark.parametrize("scan", [tg.cumulative_sum, tg.cumulative_prod])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_case_63_scans_of_nothing(scan, axis):
    y, gradient = pulled(lambda x: scan(x, axis), np.zeros((2, 0)))
    assert y.shape == gradient.shape == (2, 0)


def test_case_64_nothing_taken_is_no_gradient():
    for f in (
        lambda x: tg.repeat(x, 0),
        lambda x: tg.repeat(x, 0, 1),
        lambda x: tg.take(x, np.zeros(0, int), 0),
        lambda x: tg.take(x, []),
        lambda x: x[[]],
        lambda x: x[0:0],
        lambda x: tg.tile(x, 0),
        lambda x: tg.topk(x, 0)[0],
    ):
        y, gradient = pulled(f, numbers(2, 3))
        assert y.size == 0
        equal(gradient, np.zeros((2, 3)))


def test_case_65_reductions_of_nothing():
    equal(pulled(tg.sum, np.zeros(0))[0], 0.0)
    equal(tg.sum(np.zeros((0, 2)), 0).data, [0, 0])
    equal(tg.prod(np.zeros((0, 2)), 0).data, [1, 1])
    equal(tg.mean(np.zeros((2, 0)), 1).data, [np.nan, np.nan])
    equal(tg.logsumexp(np.zeros((2, 0)), 1).data, [-np.inf, -np.inf])
    equal(tg.norm(np.zeros((2, 0)), axis=1).data, [0, 0])
    for op, name in ((tg.max, "max"), (tg.min, "min")):
        with pytest.raises(ValueError, match=rf"{name} of no entries: shape \(2, 0\), axis 1"):
            op(np.zeros((2, 0)), 1)
        assert op(np.zeros((2, 0)), 0).shape == (0,)


def test_case_66_products_with_empty_matrices():
    y, ga, gb = pulled(tg.matmul, np.zeros((3, 0)), np.zeros((0, 2)))
    equal(y, np.zeros((3, 2)))
    assert ga.shape == (3, 0) and gb.shape == (0, 2)
    y, ga, gb = pulled(tg.matmul, np.zeros((0, 3)), np.ones((3, 2)))
    assert y.shape == (0, 2) and ga.shape == (0, 3)
    equal(gb, np.zeros((3, 2)))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[None],
        lambda x: x[...],
        lambda x: x[()],
        lambda x: x.sum(),
        lambda x: x.sum(keepdims=True),
        lambda x: x.max(),
        lambda x: x.mean(),
        lambda x: x.ravel(),
        lambda x: x.reshape(1, 1),
        lambda x: x.T,
        lambda x: tg.expand_dims(x, 0),
        lambda x: tg.stack([x])[0],
        lambda x: tg.cumulative_sum(x.reshape(1)),
        lambda x: tg.sort(x),
        lambda x: tg.softmax(x) + x,
    ],
)
def test_case_67_tensors_without_axes(f):
    _, gradient = pulled(f, 3.0)
    equal(gradient, 1.0)


def test_case_68_spread_along_an_axis_of_one():
    for op in (tg.var, tg.std):
        _, gradient = pulled(lambda x, op=op: op(x, 0), np.ones((1, 1)))
        equal(gradient, [[0.0]])


def test_case_69_an_entry_read_twice():
    equal(pulled(lambda x: tg.sum(x[[0, 0]]), [5.0, 6.0])[1], [2, 0])
    equal(pulled(lambda x: x[[0, 0]][0], [5.0, 6.0])[1], [1, 0])
    equal(pulled(lambda x: x[[0, 0]][1], [5.0, 6.0])[1], [1, 0])
    equal(pulled(lambda x: tg.take(x, [1, 1, -1]), [5.0, 6.0])[1], [0, 3])
    equal(pulled(lambda x: x[np.array([[0, 1], [1, 1]])], [5.0, 6.0], g=[[1, 10], [100, 1000]])[1], [1, 1110])


def test_case_70_one_token_ten_thousand_times():
    weight = leaf(numbers(3, 4), "float32")
    g = numbers(10_000, 4).astype(np.float32)
    tg.embedding(np.full(10_000, 1), weight).backward(g)
    np.testing.assert_allclose(weight.grad.data[1], g.astype(np.float64).sum(0), rtol=1e-5, atol=1e-5)
    assert not weight.grad.data[[0, 2]].any()


def test_case_71_the_last_of_several_writes_wins():
    y, gx, gv = pulled(lambda x, v: tg.index_update(x, [1, 2, 1], v), np.zeros(4), [7.0, 8.0, 9.0], g=[1, 10, 100, 1000])
    equal(y, [0, 9, 8, 0])
    equal(gx, [1, 0, 0, 1000])
    equal(gv, [0, 100, 10])
    _, gx, gv = pulled(lambda x, v: tg.scatter_add(x, 0, [1, 2, 1], v), np.zeros(4), [7.0, 8.0, 9.0], g=[1, 10, 100, 1000])
    equal(gx, [1, 10, 100, 1000])
    equal(gv, [10, 100, 10])


def test_case_55_a_broadcast_value_gets_a_gradient_of_its_shape():
    _, gx, gv = pulled(lambda x, v: tg.index_update(x, (slice(None), [0, 1]), v), np.zeros((2, 3, 4)), np.ones((1, 1, 4)))
    equal(gv, np.full((1, 1, 4), 4.0))
    equal(gx, np.ones((2, 3, 4)) * np.array([0, 0, 1])[:, None])


def one_hot(shape, key):
    """The matrix that indexing multiplies by."""
    places = np.arange(int(np.prod(shape))).reshape(shape)[key]
    return np.eye(int(np.prod(shape)))[places.reshape(-1)], places.shape


KEYS = {
    "mask": np.array([[True, False, True, False], [False, True, False, False], [True, True, False, True]]),
    "empty mask": np.zeros((3, 4), bool),
    "mask of rows": np.array([True, False, True]),
    "backwards": (slice(None, None, -1), slice(3, 0, -2)),
    "ellipsis and new axes": (None, ..., None, 2),
    "slice and array": (slice(1, None), [0, 3, 3]),
    "array and integer": ([0, 2, 2], 1),
    "array, new axis, array": ([0, 1], None, [2, 2]),
    "integer, slice": (-1, slice(None, None, 2)),
    "broadcast arrays": (np.array([[0], [2]]), np.array([1, 1, 3])),
    "slice, mask": (slice(0, 2), np.array([True, False, False, True])),
    "numpy integer": np.int64(2),
    "unsigned": np.array([2, 0], np.uint8),
    "nothing": (),
}


@pytest.mark.parametrize("name", KEYS)
def test_case_72_indexing_is_a_product_with_one_hots(name):
    key, x = KEYS[name], numbers(3, 4)
    matrix, shape = one_hot((3, 4), key)
    g = numbers(*shape, seed=1)
    y, gradient = pulled(lambda x: x[key], x, g=g)
    equal(y, (matrix @ x.reshape(-1)).reshape(shape))
    np.testing.assert_allclose(gradient, (matrix.T @ g.reshape(-1)).reshape(3, 4), rtol=1e-15, atol=1e-15)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_case_72_indexing_with_any_key(data):
    shape = data.draw(npst.array_shapes(max_dims=4, max_side=4))
    key = data.draw(
        npst.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
        | npst.integer_array_indices(shape, result_shape=npst.array_shapes(max_dims=2, max_side=3))
        | npst.arrays(bool, shape)
    )
    x, (matrix, out) = numbers(*shape), one_hot(shape, key)
    g = numbers(*out, seed=1)
    y, gradient = pulled(lambda x: x[key], x, g=g)
    equal(y, x[key])
    np.testing.assert_allclose(gradient, (matrix.T @ g.reshape(-1)).reshape(shape), rtol=1e-14, atol=1e-14)


def test_case_73_positions_out_of_range():
    x, ids = numbers(3, 4), np.array([[0, 1], [2, 3]])
    with pytest.raises(IndexError, match=r"take: index 3 at position \(1, 1\) is out of range for axis 0 of size 3"):
        tg.take(x, ids, 0)
    with pytest.raises(IndexError, match=r"take: index -4 at position \(\) is out of range"):
        tg.take(x, -4, 0)
    with pytest.raises(IndexError, match=r"embedding: index 3 at position \(1, 1\) is out of range for a table of size 3"):
        tg.embedding(ids, x)
    with pytest.raises(IndexError, match="embedding: id -1 is negative"):
        tg.embedding([0, -1], x)
    with pytest.raises(IndexError, match=r"take_along_axis: index 4 at position \(0, 0\)"):
        tg.take_along_axis(x, [[4]], 1)
    with pytest.raises(IndexError, match=r"scatter_add: index 3 at position \(1,\)"):
        tg.scatter_add(np.zeros(3), 0, [0, 3], [1.0, 1.0])
    with pytest.raises(IndexError, match=r"getitem: .*out of bounds.* \(shape \(3, 4\)\)"):
        tg.tensor(x)[3]
    with pytest.raises(TypeError, match="take: indices must be integers, got float64"):
        tg.take(x, [0.0])


def test_case_75_transpose_by_a_cycle():
    g = numbers(3, 4, 2, seed=1)
    _, gradient = pulled(lambda x: tg.permute_dims(x, (1, 2, 0)), numbers(2, 3, 4), g=g)
    equal(gradient, g.transpose(2, 0, 1))
    _, gradient = pulled(lambda x: tg.moveaxis(x, (0, 1), (2, 0)), numbers(2, 3, 4), g=g.transpose(0, 1, 2))
    equal(gradient, g.transpose(2, 0, 1))


def test_case_76_views_of_views():
    x = numbers(4, 6)
    g = numbers(6, seed=1)
    y, gradient = pulled(lambda x: x[1:, ::2][::-1, 1:].T.reshape(6), x, g=g)
    equal(y, x[1:, ::2][::-1, 1:].T.reshape(6))
    wanted = np.zeros((4, 6))
    np.copyto(wanted[1:, ::2][::-1, 1:].T, g.reshape(2, 3))
    equal(gradient, wanted)


def test_case_77_joining_with_empty_and_single_pieces():
    pieces = [numbers(2, 3), numbers(2, 0), numbers(2, 1)]
    g = numbers(2, 4, seed=1)
    y, *gs = pulled(lambda *xs: tg.concat(xs, -1), *pieces, g=g)
    equal(y, np.concatenate(pieces, -1))
    for gradient, wanted in zip(gs, (g[:, :3], g[:, :0], g[:, 3:]), strict=True):
        equal(gradient, wanted)
    equal(pulled(lambda x: tg.concat([x]), numbers(2, 3), g=g[:, :3])[1], g[:, :3])
    g = numbers(2, 2, seed=3)
    for gradient, wanted in zip(pulled(lambda *xs: tg.stack(xs, -1), numbers(2), numbers(2), g=g)[1:], g.T, strict=True):
        equal(gradient, wanted)
    x = leaf(numbers(3))
    tg.concat([x, x, x[:1]]).sum().backward()
    equal(x.grad.data, [3, 2, 2])


def test_case_81_gradients_keep_their_inputs_dtypes():
    for op in (tg.add, tg.multiply, tg.divide, tg.pow, tg.maximum, tg.matmul, tg.hypot, tg.atan2):
        a, b = leaf(np.ones((2, 2)), "float32"), leaf(np.full((2, 2), 2.0), "float64")
        y = op(a, b)
        assert y.dtype == np.float64
        y.backward(np.ones((2, 2)))
        assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    half = leaf([1.0, 2.0], "float16")
    y = tg.sum(half * np.ones(2, np.float32))
    y.backward()
    assert y.dtype == np.float32 and half.grad.dtype == np.float16
    assert (leaf([1.0], "float32") ** 2).dtype == np.float32 and (np.float32(2) * leaf([1.0], "float32")).dtype == np.float32
    assert (tg.tensor([1, 2]) / 2).dtype == np.float32 or (tg.tensor([1, 2]) / 2).dtype == np.float64


@pytest.mark.parametrize(
    "f, said",
    [
        (lambda x: tg.sum(x, 2), "axis 2 is out of range for a tensor with 2 dimensions"),
        (lambda x: tg.sum(x, (0, -2)), r"axis \(0, -2\) names an axis twice"),
        (lambda x: tg.softmax(x, 5), "axis 5"),
        (lambda x: tg.expand_dims(x, 4), "axis 4"),
        (lambda x: tg.squeeze(x, 0), r"squeeze: axis 0 of shape \(2, 3\)"),
        (lambda x: tg.permute_dims(x, (0, 0)), "twice"),
        (lambda x: tg.permute_dims(x, (0,)), r"axes \(0,\) is not a permutation of the 2 axes of shape \(2, 3\)"),
        (lambda x: tg.reshape(x, (4, -1)), r"shape \(2, 3\), 6 entries, does not fit in shape \(4, -1\)"),
        (lambda x: tg.broadcast_to(x, (3, 3)), r"shape \(2, 3\) does not broadcast to \(3, 3\)"),
        (lambda x: x @ x, r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit: the inner lengths are 3 and 2"),
        (lambda x: tg.matmul(np.ones((2, 2, 3)), np.ones((3, 3, 2))), r"matmul: .*\(2, 2, 3\) and \(3, 3, 2\)"),
        (lambda x: tg.matmul(x, 2.0), r"shapes \(2, 3\) and \(\)"),
        (lambda x: x + np.ones((3, 2)), r"add: shapes \(2, 3\) and \(3, 2\)"),
        (lambda x: tg.concat([x, np.ones((2, 2))]), r"concat: shapes \(2, 3\), \(2, 2\) differ in more than axis 0"),
        (lambda x: tg.concat([]), "at least one"),
        (lambda x: tg.stack([x, x.T]), r"stack: shapes \(2, 3\), \(3, 2\) differ"),
        (lambda x: tg.split(x, 2, 1), r"axis 1 of shape \(2, 3\) does not divide into 2 equal parts"),
        (lambda x: tg.tensordot(x, x, 1), r"tensordot: axes \[1\] of shape \(2, 3\) and axes \[0\] of shape \(2, 3\) differ"),
        (lambda x: tg.linear(x, np.ones((4, 2))), r"linear: x of shape \(2, 3\) does not fit a weight of shape \(4, 2\)"),
        (lambda x: tg.cross_entropy(x, [0]), r"targets of shape \(1,\) do not fit logits of shape \(2, 3\)"),
        (lambda x: tg.mse_loss(x, x.T), r"mse_loss: shapes \(2, 3\) and \(3, 2\) differ"),
        (lambda x: tg.topk(x, 4), r"topk: k is 4, axis 1 of shape \(2, 3\) has 3 entries"),
        (lambda x: tg.layer_norm(x, np.ones(2)), r"layer_norm: .* got x of shape \(2, 3\) and a weight or bias of shape \(2,\)"),
        (lambda x: tg.layer_norm(x, np.ones(3), np.ones((1, 3))), r"layer_norm: .* shape \(1, 3\)"),
        (lambda x: tg.rms_norm(x, np.ones(2)), r"rms_norm: .* \(2, 3\) .* \(2,\)"),
        (lambda x: tg.rms_norm(tg.sum(x)), r"rms_norm: .* got x of shape \(\)"),
        (lambda x: tg.where(np.ones((2, 2), bool), x, x), r"where: shapes \(2, 2\), \(2, 3\) and \(2, 3\)"),
    ],
)
def test_case_83_errors_name_the_op_and_the_shapes(f, said):
    with pytest.raises(ValueError, match=said):
        f(leaf(numbers(2, 3)))


REDUCTIONS = ["sum", "mean", "var", "std", "max", "min", "prod", "logsumexp", "norm", "cumsum", "cumprod", "sort"]
METHODS = [
    "exp",
    "sqrt",
    "square",
    "abs",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "relu",
    "log",
    "reciprocal",
    "flatten",
    "ravel",
    "T",
    "trace",
]


@pytest.mark.parametrize("name", REDUCTIONS + METHODS)
def test_case_33_no_method_detaches(name):
    x = leaf(np.abs(numbers(3, 3)) + 0.5)
    y = getattr(x, name)
    y = y() if callable(y) else y
    assert y.requires_grad and y.op is not None
    y.backward(np.ones(y.shape))
    assert x.grad.shape == (3, 3)
