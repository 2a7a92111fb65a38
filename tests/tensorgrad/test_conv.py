"""Convolution, pooling and batch normalisation beyond the table of samples: against PyTorch, at the edges, errors."""

import itertools

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.ops.conv import _fold, _unfold


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def compare(torch, name, arrays, *args):
    """Values and all gradients of tg.name and torch.nn.functional.name, in float64."""
    xs = [tg.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = getattr(tg, name)(*xs, *args), getattr(torch.nn.functional, name)(*ts, *args)
    assert y.shape == z.shape
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    g = normal(*y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-12, atol=1e-12)


def settings(*choices):
    """All combinations but those that PyTorch has not: padding 'same' with a stride."""
    return [c for c in itertools.product(*choices) if c[1] != "same" or c[0] == 1]


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), settings((1, 2, (2, 1)), (0, 1, (2, 1), "same", "valid"), (1, 2, (1, 2)), (1, 2))
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d_is_torchs(stride, padding, dilation, groups):
    arrays = (normal(2, 4, 8, 7), normal(6, 4 // groups, 3, 2), normal(6))
    compare(pytest.importorskip("torch"), "conv2d", arrays, stride, padding, dilation, groups)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), settings((1, 3), (0, 2, "same"), (1, 2), (1, 4)))
def test_conv1d_is_torchs(stride, padding, dilation, groups):
    arrays = (normal(2, 4, 9), normal(8, 4 // groups, 3), normal(8))
    compare(pytest.importorskip("torch"), "conv1d", arrays, stride, padding, dilation, groups)


@pytest.mark.parametrize("shape", [(4, 8, 7), (1, 4, 3, 2), (0, 4, 5, 5)])
def test_conv2d_without_bias_unbatched_and_of_no_samples(shape):
    compare(pytest.importorskip("torch"), "conv2d", (normal(*shape), normal(3, 4, 3, 2)))


POOLS = list(itertools.product((2, 3, (3, 2)), (None, 1, 2, 3, (1, 2)), (0, 1), (False, True)))


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode"), POOLS)
def test_pools_are_torchs(kernel, stride, padding, ceil_mode):
    x = (normal(2, 3, 7, 8),)
    for dilation in (1, 2):
        compare(pytest.importorskip("torch"), "max_pool2d", x, kernel, stride, padding, dilation, ceil_mode)
    for count_include_pad in (True, False):
        compare(pytest.importorskip("torch"), "avg_pool2d", x, kernel, stride, padding, ceil_mode, count_include_pad)


def test_equal_entries_of_a_window_share_the_derivative():
    x = tg.tensor([[[[1.0, 1, 0, 0], [0, 0, 2, 0]]]], requires_grad=True)
    tg.sum(tg.max_pool2d(x, 2)).backward()
    assert x.grad.tolist() == [[[[0.5, 0.5, 0, 0], [0, 0, 1, 0]]]]


def test_max_pool_of_a_constant_channel_of_minus_infinity():
    """The padding is -inf, and a window of nothing but -inf is -inf, with a finite derivative."""
    x = tg.tensor(np.full((1, 1, 2, 2), -np.inf), requires_grad=True)
    y = tg.max_pool2d(x, 2, padding=1)
    assert np.isneginf(y.numpy()).all()
    y.backward(np.ones(y.shape))
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [((5, 4), (2, 3), (1, 1), (1, 1)), ((9,), (3,), (2,), (2,)), ((4, 4), (1, 4), (3, 1), (1, 1))],
)
def test_reading_windows_and_adding_them_back_are_adjoint(size, kernel, stride, dilation):
    geometry = {"kernel": kernel, "stride": stride, "dilation": dilation}
    x = tg.tensor(normal(2, *size))
    windows = _unfold(x, **geometry)
    assert np.shares_memory(windows.numpy(), x.numpy())
    g = tg.tensor(normal(*windows.shape))
    back = _fold(g, size=size, **geometry)
    np.testing.assert_allclose(tg.sum(windows * g), tg.sum(x * back), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: tg.conv2d(normal(1, 3, 5, 5), normal(2, 4, 3, 3)),
            "conv2d: x (1, 3, 5, 5), weight (2, 4, 3, 3) and groups 1 are not (N, C, ..), (O, C/groups, ..), a divisor of O",
        ),
        (lambda: tg.conv2d(normal(1, 4, 5, 5), normal(3, 2, 3, 3), groups=2), "groups 2 are not"),
        (lambda: tg.conv1d(normal(3), normal(1, 1, 1)), "conv1d: x (3,), weight (1, 1, 1)"),
        (
            lambda: tg.conv2d(normal(1, 3, 2, 2), normal(2, 3, 3, 3)),
            "conv2d: a kernel of (3, 3), dilation (1, 1), does not fit in an input of (2, 2), (2, 2) with padding",
        ),
        (
            lambda: tg.conv2d(normal(1, 3, 5, 5), normal(2, 3, 3, 3), stride=0),
            "conv2d: stride must be 2 integers >= 1, or one, got 0",
        ),
        (
            lambda: tg.conv2d(normal(1, 3, 5, 5), normal(2, 3, 3, 3), padding=(1, 2, 3)),
            "conv2d: padding must be 2 integers >= 0, or one",
        ),
        (
            lambda: tg.conv2d(normal(1, 3, 5, 5), normal(2, 3, 3, 3), stride=2, padding="same"),
            "conv2d: padding 'same' needs stride 1, got (2, 2)",
        ),
        (
            lambda: tg.max_pool2d(normal(1, 1, 4, 4), 2, padding=2),
            "max_pool2d: padding (2, 2) is more than half the kernel (2, 2)",
        ),
        (
            lambda: tg.avg_pool2d(normal(4, 4), 2),
            "avg_pool2d: x must be floating-point (N, C, H, W) or (C, H, W), got shape (4, 4)",
        ),
        (lambda: tg.batch_norm(normal(1, 3), None, None, training=True), "batch_norm: x of shape (1, 3) has 1 entries a channel"),
        (lambda: tg.batch_norm(normal(2, 3), None, None), "batch_norm needs running_mean and running_var when not training"),
        (lambda: tg.batch_norm(normal(3), None, None, training=True), "batch_norm: x must be (N, C, ..), got shape (3,)"),
    ],
)
def test_errors_say_what_does_not_fit(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)


# Batch normalisation


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_torchs_with_its_running_statistics(shape, training):
    torch = pytest.importorskip("torch")
    mean, var = normal(3), np.abs(normal(3)) + 0.5
    ours, theirs = [tg.tensor(mean), tg.tensor(var)], [torch.tensor(mean), torch.tensor(var)]
    arrays = (normal(*shape), normal(3), normal(3))
    xs, ts = [tg.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    for _ in range(2):
        y = tg.batch_norm(xs[0], *ours, *xs[1:], training, 0.3, 1e-3)
        z = torch.nn.functional.batch_norm(ts[0], *theirs, *ts[1:], training, 0.3, 1e-3)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    g = normal(*shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-11, atol=1e-12)
    for buffer, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(buffer, t.numpy(), rtol=1e-12)


def test_case_114_a_constant_channel_has_gradient_zero():
    x = tg.tensor(np.full((4, 2), 3.0), requires_grad=True)
    y = tg.batch_norm(x, None, None, training=True)
    assert (y.numpy() == 0).all()
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(x.grad, 0, atol=1e-9)


def test_case_121_recomputation_updates_the_running_statistics_once():
    x = tg.tensor(normal(4, 3), requires_grad=True)
    plain, again = ([tg.tensor(np.zeros(3)), tg.tensor(np.ones(3))] for _ in range(2))

    def loss(x, buffers):
        return tg.sum(tg.batch_norm(x, *buffers, training=True) ** 3)

    loss(x, plain).backward()
    wanted, x.grad = x.grad, None
    tg.checkpoint(lambda x: loss(x, again))(x).backward()
    np.testing.assert_array_equal(x.grad, wanted)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_of_another_dtype_do_not_promote():
    buffers = [tg.tensor(np.zeros(2)), tg.tensor(np.ones(2))]
    for training in (True, False):
        y = tg.batch_norm(tg.ones((3, 2)), *buffers, training=training)
        assert y.dtype == np.float32
    assert buffers[0].dtype == np.float64
