"""Numbers at the edges: the table of decided points, and cases D of the fault list (case numbers in the names)."""

import math
import warnings

import numpy as np
import pytest

import tensorgrad as tg

INF, NAN = math.inf, math.nan


@pytest.fixture(autouse=True)
def no_warnings():
    """IEEE values come without exception and without a flood of warnings (case 101)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def slopes(f, *xs, dtype="float64", seed=1.0):
    """(value, gradients of seed * sum(f)) as arrays, one gradient for each of xs."""
    leaves = [tg.tensor(np.asarray(x, x.dtype if isinstance(x, np.ndarray) else dtype), requires_grad=True) for x in xs]
    y = f(*leaves)
    y.backward(np.full(y.shape, seed, y.dtype))
    return y.data, *[x.grad.data for x in leaves]


def equal(given, wanted):
    np.testing.assert_array_equal(np.asarray(given), np.asarray(wanted))


def check(f, xs, value, *gradients, **how):
    y, *gs = slopes(f, *xs, **how)
    equal(y, value)
    for g, wanted in zip(gs, gradients, strict=True):
        equal(g, wanted)


# Kinks: which of the possible slopes


def test_relu_abs_sign_at_zero():
    check(tg.relu, [[-1.0, 0.0, 2.0]], [0, 0, 2], [0, 0, 1])
    check(tg.abs, [[-1.0, 0.0, 2.0]], [1, 0, 2], [-1, 0, 1])
    check(tg.sign, [[-1.0, 0.0, 2.0]], [-1, 0, 1], [0, 0, 0])


def test_clip_at_its_bounds():
    check(lambda x: tg.clip(x, 0.0, 1.0), [[-0.5, 0.0, 0.5, 1.0, 1.5]], [0, 0, 0.5, 1, 1], [0, 1, 1, 1, 0])


def test_maximum_and_minimum_of_equals():
    check(tg.maximum, [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [2, 2, 3], [0, 0.5, 1], [1, 0.5, 0])
    check(tg.minimum, [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [1, 2, 2], [1, 0.5, 0], [0, 0.5, 1])
    x = tg.tensor(3.0, requires_grad=True)
    tg.maximum(x, x).backward()
    assert x.grad.item() == 1


def test_steps_have_no_slope():
    for op in (tg.floor, tg.ceil, tg.round):
        check(op, [[0.5, 1.0, -1.5]], op(np.array([0.5, 1.0, -1.5])).data, [0, 0, 0])


def test_case_92_ties_share_the_gradient():
    check(tg.max, [[1.0, 1.0, 0.0]], 1, [0.5, 0.5, 0])
    check(tg.min, [[1.0, 0.0, 0.0, 0.0]], 0, [0, 1 / 3, 1 / 3, 1 / 3])
    check(lambda x: tg.max(x, 0), [[[2.0, 1.0], [2.0, 5.0]]], [2, 5], [[0.5, 0], [0.5, 1]])


def test_case_93_one_winner_with_an_index():
    x = [1.0, 3.0, 3.0, 2.0]
    assert tg.argmax(x).item() == 1 and tg.argmin([2.0, 0.0, 0.0]).item() == 1
    check(lambda x: tg.topk(x, 1)[0], [x], [3], [0, 1, 0, 0])
    assert tg.topk(x, 1)[1].tolist() == [1]


def test_case_94_many_ties_in_float16():
    _, gradient = slopes(tg.max, np.full(70_000, 3.0, np.float16))
    assert gradient.dtype == np.float16
    equal(gradient, np.full(70_000, np.float16(1 / 70_000)))


def test_case_95_extremes_and_nan():
    check(tg.max, [[1.0, NAN, 2.0]], NAN, [0, 1, 0])
    check(tg.min, [[1.0, NAN, 2.0]], NAN, [0, 1, 0])
    check(tg.max, [[-INF, INF, INF]], INF, [0, 0.5, 0.5])
    assert np.isnan(tg.maximum([1.0, NAN], [NAN, 0.0]).data).all()
    for values in ([INF, 1.0], [-INF, -INF], [1e300, -1e300], [0.0, -0.0]):
        assert np.isfinite(slopes(tg.max, values)[1]).all()


def test_case_96_sorting_is_stable():
    x = np.array([1, 0, 1, 0, 1.0])
    assert tg.argsort(x).tolist() == [1, 3, 0, 2, 4]
    assert tg.argsort(x, descending=True).tolist() == [0, 2, 4, 1, 3]
    for k in range(6):
        assert tg.topk(x, k)[1].tolist() == [0, 2, 4, 1, 3][:k]
    check(lambda x: tg.sort(x) * np.arange(5.0), [x], [0, 0, 2, 3, 4], [2, 0, 3, 1, 4])


# Roots and norms


def test_case_84_where_chooses_values_and_slopes():
    """A branch not taken gets the cotangent 0; if its slope is infinite there, 0 * inf is nan unless its input is chosen too."""
    check(lambda x: tg.where(x == 0, 0.0, x * x), [[0.0, 3.0]], [0, 9], [0, 6])
    check(lambda x: tg.where(x == 0, 0.0, x * tg.sqrt(x)), [[0.0, 4.0]], [0, 8], [NAN, 3])
    check(lambda n: tg.where(n == 0, 0.0, 1 / n), [[0.0, 4.0]], [0, 0.25], [NAN, -1 / 16])

    def twice(x):
        safe = tg.where(x == 0, 1.0, x)
        return tg.where(x == 0, 0.0, safe * tg.sqrt(safe))

    check(twice, [[0.0, 4.0]], [0, 8], [0, 3])


def test_case_86_masking_before_and_after_a_division():
    d, mask = np.array([0.0, 1.0]), np.array([False, True])
    check(lambda x: (x / d)[mask], [[1.0, 2.0]], [2], [NAN, 1])
    check(lambda x: x[mask] / d[mask], [[1.0, 2.0]], [2], [0, 1])


@pytest.mark.parametrize(
    "norm", [tg.norm, lambda x: x.norm(), lambda x: tg.norm(x, axis=0), lambda x: tg.norm(x, 2, keepdims=True)]
)
def test_case_87_norm_of_a_zero_vector(norm):
    y, gradient = slopes(norm, [0.0, 0.0, 0.0])
    assert y.item() == 0
    equal(gradient, [0, 0, 0])


def test_case_87_hypot_at_the_origin():
    check(tg.hypot, [[0.0, 3.0], [0.0, 4.0]], [0, 5], [0, 0.6], [0, 0.8])


@pytest.mark.parametrize("ord", [1, 1.5, 3, 0.5, 0, INF, -INF])
def test_case_89_p_norms_of_zeros(ord):
    check(lambda x: tg.norm(x, ord), [[0.0, 0.0, 0.0]], 0, [0, 0, 0])


def test_case_89_p_norms_elsewhere():
    check(lambda x: tg.norm(x, INF), [[2.0, -2.0, 1.0]], 2, [0.5, -0.5, 0])
    check(lambda x: tg.norm(x, 1), [[2.0, 0.0, -1.0]], 3, [1, 0, -1])
    check(lambda x: tg.norm(x, 0), [[2.0, 0.0, -1.0]], 2, [0, 0, 0])
    check(lambda x: tg.norm(x, 0.5), [[4.0, 0.0, 0.0]], 4, [1, 0, 0])


def test_norm_of_numbers_whose_squares_overflow():
    for scale in (1e200, 1e-200):
        y, gradient = slopes(tg.norm, [3 * scale, 4 * scale])
        np.testing.assert_allclose(y, 5 * scale, rtol=1e-15)
        np.testing.assert_allclose(gradient, [0.6, 0.8], rtol=1e-15)


def test_case_90_square_roots():
    check(tg.sqrt, [[0.0, 4.0]], [0, 2], [INF, 0.25])
    check(lambda x: tg.sqrt((x - 1) ** 2), [[1.0, 3.0]], [0, 2], [NAN, 1])
    check(tg.sqrt, [[-1.0]], [NAN], [NAN])


def test_case_114_spread_of_constant_and_single_entries():
    y, gradient = slopes(lambda x: tg.std(x, -1), [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    equal(y, [0, math.sqrt(2 / 3)])
    equal(gradient[0], [0, 0, 0])
    np.testing.assert_allclose(gradient[1], [-1 / math.sqrt(6), 0, 1 / math.sqrt(6)], rtol=1e-15)
    check(lambda x: tg.var(x, -1), [[[2.0]]], [0], [[0]])
    check(lambda x: tg.std(x, -1), [[[2.0]]], [0], [[0]])
    check(lambda x: tg.var(x, -1, correction=1), [[[2.0]]], [NAN], [[NAN]])
    check(lambda x: tg.std(x, -1, correction=1), [[[2.0]]], [NAN], [[NAN]])


# Products and powers


def test_case_97_prod_with_zeros():
    check(tg.prod, [[0.0, 2.0, 3.0]], 0, [6, 0, 0])
    check(tg.prod, [[0.0, 0.0, 3.0]], 0, [0, 0, 0])
    check(tg.prod, [[0.0]], 0, [1])
    equal(tg.hessian(tg.prod)(tg.tensor([0.0, 0.0, 3.0])).data, [[0, 3, 0], [3, 0, 0], [0, 0, 0]])


def test_case_98_cumprod_with_a_zero():
    check(tg.cumulative_prod, [[2.0, 0.0, 3.0, 4.0]], [2, 0, 0, 0], [1, 32, 0, 0])


@pytest.mark.parametrize(
    "y, value, dx, dy", [(0.0, 1, 0, 0), (1.0, 0, 1, 0), (2.0, 0, 0, 0), (0.5, 0, INF, 0), (-1.0, INF, -INF, -INF)]
)
def test_case_99_powers_of_zero(y, value, dx, dy):
    check(tg.pow, [[0.0], [y]], [value], [dx], [dy])


def test_case_99_constant_exponents():
    for y, dx in ((0, 0), (1, 1), (2, 0), (3.0, 0), (0.5, INF)):
        check(lambda x, y=y: x**y, [[0.0]], [0.0**y], [dx])
    check(lambda x: x**3, [[-2.0]], [-8], [12])
    equal(tg.hessian(lambda x: x**2)(tg.tensor(0.0)).data, 2)
    equal(tg.hessian(lambda x: x**0)(tg.tensor(0.0)).data, 0)


def test_case_100_derivatives_of_a_gaussian_at_zero():
    f = lambda x: tg.exp(-(x**2))
    for order, value in enumerate([0, -2, 0, 12], 1):
        f = tg.grad(f)
        assert f(tg.tensor(0.0, dtype="float64")).item() == value, order


# Overflow and the ends of the number line


def test_case_101_ieee_values():
    check(tg.log, [[0.0]], [-INF], [INF])
    check(tg.log1p, [[-1.0]], [-INF], [INF])
    check(lambda x: x / x, [[0.0]], [NAN], [NAN])
    check(lambda x: 1 / x, [[0.0]], [INF], [-INF])
    check(tg.exp, [[1000.0, -1000.0]], [INF, 0], [INF, 0])
    check(tg.log, [[-1.0]], [NAN], [-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_case_102_saturated_activations(dtype):
    check(tg.sigmoid, [[1000.0, -1000.0, INF, -INF]], [1, 0, 1, 0], [0, 0, 0, 0], dtype=dtype)
    check(tg.tanh, [[1000.0, -1000.0, INF, -INF]], [1, -1, 1, -1], [0, 0, 0, 0], dtype=dtype)
    check(tg.softplus, [[400.0, INF, -INF]], [400, INF, 0], [1, 1, 0], dtype=dtype)
    small = slopes(tg.softplus, [-400.0], dtype=dtype)
    equal(small[0], np.exp(np.array([-400.0], dtype)))
    equal(small[1], small[0])


def test_case_103_logsumexp_of_minus_infinity():
    check(tg.logsumexp, [[-INF, -INF]], -INF, [0, 0])
    check(tg.logsumexp, [[-INF]], -INF, [0])
    check(tg.logsumexp, [[-INF, 1.0]], 1, [0, 1])
    check(lambda x: tg.logsumexp(x, -1), [[[-INF, -INF], [0.0, 0.0]]], [-INF, math.log(2)], [[0, 0], [0.5, 0.5]])
    check(tg.logaddexp, [[-INF, -INF], [-INF, 2.0]], [-INF, 2], [0, 0], [0, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logits", [[94.7, -40.1], [1e4, -1e4], [1.7e38, 0.0], [-1.7e38, 1.7e38]])
def test_case_104_log_softmax_far_out(logits, dtype):
    """Finite, with gradient g - softmax sum g."""
    g = np.array([2.0, 3.0])
    leaf = tg.tensor(np.array(logits, dtype), requires_grad=True)
    y = tg.log_softmax(leaf)
    y.backward(g)
    x = np.asarray(leaf.data, np.float64)
    top = (x == x.max()).astype(float)
    np.testing.assert_allclose(y.data, x - x.max(), rtol=1e-6)
    np.testing.assert_allclose(leaf.grad.data, g - top * g.sum(), atol=1e-12)


def test_case_105_softmax_of_nothing_but_minus_infinity():
    check(tg.softmax, [[[-INF, -INF], [0.0, -INF]]], [[NAN, NAN], [1, 0]], [[NAN, NAN], [0, 0]])


def test_case_113_gradient_rows_of_cross_entropy_sum_to_zero():
    logits = np.random.default_rng(0).standard_normal((50, 7))
    targets = np.arange(50) % 7
    _, gradient = slopes(lambda x: tg.cross_entropy(x, targets), logits)
    assert np.abs(gradient.sum(-1)).max() < 1e-16
    plain, smooth = tg.cross_entropy(logits, targets), tg.cross_entropy(logits, targets, label_smoothing=0.0)
    assert plain.item() == smooth.item()


def test_case_109_every_target_ignored():
    check(lambda x: tg.cross_entropy(x, [-100, -100]), [[[1.0, 2.0], [3.0, 4.0]]], 0, [[0, 0], [0, 0]])
    with tg.definitions():
        check(lambda x: tg.cross_entropy(x, [-100, -100]), [[[1.0, 2.0], [3.0, 4.0]]], 0, [[0, 0], [0, 0]])


def test_case_110_an_ignored_row_of_minus_infinity():
    x = [[-INF, -INF], [0.0, 0.0]]
    check(lambda x: tg.cross_entropy(x, [-100, 1]), [x], math.log(2), [[0, 0], [0.5, -0.5]])
    with tg.definitions():
        check(lambda x: tg.cross_entropy(x, [-100, 1]), [x], math.log(2), [[0, 0], [0.5, -0.5]])


def test_case_111_targets_out_of_range():
    logits = np.zeros((2, 2, 3))
    with pytest.raises(IndexError, match=r"target 3 at \(1, 0\) is not a class of 0 .. 2"):
        tg.cross_entropy(logits, [[0, 1], [3, 2]])
    with pytest.raises(IndexError, match=r"target -1 at \(0, 1\)"):
        tg.cross_entropy(logits, [[0, -1], [0, 2]])
    with pytest.raises(IndexError, match="target -100"):
        tg.cross_entropy(logits, [[0, -100], [0, 2]], ignore_index=-1)
    assert tg.cross_entropy(logits, np.array([[0, 300], [0, 2]]), ignore_index=int("300")).item() == pytest.approx(math.log(3))


def test_case_112_ignoring_a_class_keeps_it_in_the_denominator():
    x = np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]])
    y, gradient = slopes(lambda x: tg.cross_entropy(x, [2, 0], ignore_index=2), x)
    np.testing.assert_allclose(y, math.log(4), rtol=1e-15)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [-0.75, 0.25, 0.5]], atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_case_106_107_attention_rows_that_see_nothing(dtype):
    """Such a row is 0 and passes nothing back, however it was masked; the others are as if it were not there."""
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((1, 2, 3, 4)).astype(dtype) for _ in range(4))
    seen = np.array([[True, True, False], [False, False, False], [False, True, True]])
    bias = tg.tensor(np.where(seen, 0, -INF).astype(dtype))
    for masking in ({"mask": seen}, {"bias": bias}, {"mask": seen, "bias": np.zeros((3, 3), dtype)}):
        leaves = [tg.tensor(x, requires_grad=True) for x in (q, k, v)]
        y = tg.attention(*leaves, **masking)
        y.backward(g)
        alone = [tg.tensor(x, requires_grad=True) for x in (q[:, :, ::2], k, v)]
        z = tg.attention(*alone, mask=seen[::2])
        z.backward(g[:, :, ::2])
        equal(y.data[:, :, 1], np.zeros((1, 2, 4)))
        equal(y.data[:, :, ::2], z.data)
        equal(leaves[0].grad.data[:, :, 1], np.zeros((1, 2, 4)))
        for given, wanted in zip(leaves[1:], alone[1:], strict=True):
            np.testing.assert_allclose(given.grad.data, wanted.grad.data, rtol=1e-5 if dtype == "float32" else 1e-14)


def test_case_106_causal_queries_before_the_first_key():
    """With more queries than keys, the first see none."""
    x = np.ones((1, 1, 3, 2))
    y, dq, dk, dv = slopes(lambda q, k, v: tg.attention(q, k, v, causal=True), x, x[:, :, :1], x[:, :, :1])
    equal(y[0, 0], [[0, 0], [0, 0], [1, 1]])
    equal(dv[0, 0], [[1, 1]])
    assert not dq.any() and not dk.any()


@pytest.mark.parametrize("m", [1e18, 1e24, 1e30])
def test_case_116_layer_norm_of_huge_rows(m):
    x = np.array([[m, 2 * m] * 4], np.float32)
    np.testing.assert_allclose(tg.layer_norm(x).data, [[-1, 1] * 4], rtol=1e-6)
    _, gradient = slopes(lambda x: tg.layer_norm(x) * np.arange(8, dtype=np.float32), x)
    assert np.isfinite(gradient).all()


def test_case_118_float16_is_storage():
    assert tg.mean(np.full(3, 40_000, np.float16)).item() == 40_000
    assert tg.sum(np.full(4096, 1.0, np.float16)).item() == 4096
    assert tg.var(np.array([0, 600, 0, 600], np.float16)).item() == INF  # 90,000 does not fit, and no intermediate is at fault
    assert tg.std(np.array([0, 600, 0, 600], np.float16)).item() == 300
    many = np.zeros(70_000, np.float16)  # more than the largest float16
    equal(tg.softmax(many).data, np.full(70_000, np.float16(1 / 70_000)))
    equal(tg.logsumexp(many).data, np.float16(math.log(70_000)))
    equal(tg.cross_entropy(many[None], [0]).data, np.float16(math.log(70_000)))
    equal(tg.layer_norm(np.array([0, 600, 0, 600], np.float16)).data, [-1, 1, -1, 1])
    equal(tg.rms_norm(np.array([600, -600], np.float16)).data, [1, -1])
    assert tg.norm(np.array([300, 400], np.float16)).item() == 500


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [tg.gelu, lambda x: tg.gelu(x, "tanh"), tg.silu])
def test_case_119_activations_far_out(activation, dtype):
    y, gradient = slopes(activation, [0.0, 1e3, -1e3, INF, -INF], dtype=dtype)
    equal(y, [0, 1e3, 0, INF, 0])
    np.testing.assert_allclose(gradient, [0.5, 1, 0, 1, 0], rtol=2 * np.finfo(dtype).eps)
    y, gradient = slopes(activation, [10.0, -10.0], dtype=dtype)
    np.testing.assert_allclose(y, [10, 0], atol=1e-3)
    np.testing.assert_allclose(gradient, [1, 0], atol=1e-3)


def test_case_120_dropout_at_its_ends():
    rng = np.random.default_rng(0)
    check(lambda x: tg.dropout(x, 0.0, rng=rng), [[1.0, 2.0]], [1, 2], [1, 1])
    check(lambda x: tg.dropout(x, 1.0, rng=rng), [[INF, NAN]], [0, 0], [0, 0])
    check(lambda x: tg.dropout(x, 0.5, training=False), [[1.0, 2.0]], [1, 2], [1, 1])
    for p in (-0.1, 1.1, NAN):
        with pytest.raises(ValueError, match="p must be in \\[0, 1\\]"):
            tg.dropout(np.ones(2), p, rng=rng)
    with pytest.raises(ValueError, match="needs rng"):
        tg.dropout(np.ones(2), 0.5)


def test_case_125_denormal_numbers():
    tiny = 5e-324
    check(lambda x: x * 2, [[tiny]], [2 * tiny], [2])
    check(tg.sqrt, [[1e-310]], [math.sqrt(1e-310)], [0.5 / math.sqrt(1e-310)])
    equal(tg.log(np.array([1e-310])).data, [math.log(1e-310)])
    small = np.full((2, 2), 1e-42, np.float32)
    equal(tg.matmul(small, np.ones((2, 2), np.float32)).data, small + small)


def test_losses_at_certainty():
    check(lambda x: tg.binary_cross_entropy(x, [1.0, 0.0]), [[1e4, -1e4]], 0, [0, 0])
    check(lambda x: tg.binary_cross_entropy(x, [0.0, 1.0], reduction="sum"), [[1e4, -1e4]], 2e4, [1, -1])
    check(tg.kl_div, [[0.0, -INF], [1.0, 0.0]], 0, [-1, 0], [1, 0])
    check(tg.kl_div, [[-INF, 0.0], [0.5, 0.5]], INF, [-0.5, -0.5], [INF, math.log(0.5) + 1])


def test_backward_twice_gives_the_same_bits():
    def gradient():
        rng = np.random.default_rng(0)
        x, w = (tg.tensor(rng.standard_normal((40, 40)).astype(np.float32), requires_grad=True) for _ in range(2))
        y = tg.softmax(tg.gelu(tg.layer_norm(x @ w)))
        tg.sum(y * y).backward()
        return x.grad.data.tobytes(), w.grad.data.tobytes()

    assert gradient() == gradient()
