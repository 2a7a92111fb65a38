import numpy as np
import pytest
from kernel_checks import both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, upstream

from tensorgrad.kernels import cross_entropy

SHAPES = [(1, 1), (7, 63), (63, 7), (64, 65), (2, 257), (0, 5), (1, 1000)]


def definition(logits, *, targets, ignore_index=-100, label_smoothing=0.0, over=None):
    shift = logits.real.max(-1, keepdims=True, initial=-1e38)
    log_p = logits - shift - np.log(np.exp(logits - shift).sum(-1, keepdims=True))
    rows, used = np.arange(len(logits)), targets != ignore_index
    chosen = log_p[rows, np.where(used, targets, 0)]
    nll = np.where(used, -(1 - label_smoothing) * chosen - label_smoothing * log_p.mean(-1), 0)
    return nll if over is None else nll.sum() / over


def draw(rows, classes):
    targets = np.random.default_rng(rows).integers(0, classes, rows)
    targets[1::3] = -100
    return targets


@pytest.mark.parametrize("over", [None, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, smoothing, over):
    params = {"targets": draw(*shape), "label_smoothing": smoothing, "over": over}
    check_kernel(cross_entropy, definition, [2 * normal(*shape)], params, steepness=1)


def test_layouts_and_threads():
    check_layouts(cross_entropy, [normal(5, 67)], {"targets": draw(5, 67)})
    check_threads(cross_entropy, [normal(1000, 65)], {"targets": draw(1000, 65), "label_smoothing": 0.1})


@both
def test_an_ignored_row_has_no_loss_and_no_gradient_whatever_it_holds(dtype):
    logits = np.array([[-np.inf, -np.inf], [np.nan, 0], [1, 2]], dtype)
    params = {"targets": np.array([1, 1, 0]), "ignore_index": 1}
    nll, saved = cross_entropy.forward(logits, **params)
    (dx,) = cross_entropy.backward(np.full(3, np.inf, dtype), nll, saved, logits, **params)
    assert nll[:2].tolist() == [0, 0] and nll[2] > 1
    assert not dx[:2].any()


@both
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64])
def test_targets_of_any_integer_type(dtype, kind):
    logits, targets = normal(9, 5).astype(dtype), np.arange(9) % 5
    expected, _ = cross_entropy.forward(logits, targets=targets)
    np.testing.assert_array_equal(cross_entropy.forward(logits, targets=targets.astype(kind))[0], expected)


@both
def test_large_logits_lose_nothing(dtype):
    logits = np.array([[10000.0, 10000.0, 9999.0], [94.7, -40.1, 0], [1.7e38, 0, 0]], dtype)
    targets = np.array([0, 0, 0])
    nll, saved = cross_entropy.forward(logits, targets=targets)
    np.testing.assert_allclose(nll, definition(logits.astype(np.float64), targets=targets), rtol=1e-6, atol=1e-7)
    (dx,) = cross_entropy.backward(np.ones(3, dtype), nll, saved, logits, targets=targets)
    np.testing.assert_allclose(dx.sum(-1), 0, atol=2e-7)
    np.testing.assert_allclose(dx[0, 2], np.exp(-1) / (2 + np.exp(-1)), rtol=1e-6)


@both
def test_an_impossible_class(dtype):
    logits = np.array([[0, -np.inf, 0]], dtype)
    nll, saved = cross_entropy.forward(logits, targets=np.array([1]))
    assert nll[0] == np.inf
    (dx,) = cross_entropy.backward(np.ones(1, dtype), nll, saved, logits, targets=np.array([1]))
    np.testing.assert_allclose(dx, [[0.5, -1, 0.5]], rtol=1e-6)
    assert np.isfinite(cross_entropy.forward(logits, targets=np.array([0]))[0]).all()


def test_a_large_vocabulary():
    logits = 3 * normal(4, 50304)
    targets = np.array([0, 50303, -100, 7])
    nll, saved = cross_entropy.forward(logits.astype(np.float32), targets=targets)
    np.testing.assert_allclose(nll, definition(logits, targets=targets), rtol=1e-5)
    g = upstream(nll)
    (dx,) = cross_entropy.backward(g, nll, saved, logits.astype(np.float32), targets=targets)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    p[np.arange(4), targets.clip(0)] -= 1
    p[2] = 0
    np.testing.assert_allclose(dx, p * g[:, None], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("over", [None, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangents(shape, smoothing, over):
    params = {"targets": draw(*shape), "label_smoothing": smoothing, "over": over}
    check_tangents(cross_entropy, definition, [2 * normal(*shape)], params, steepness=1)


def test_what_stands_still():
    check_none(cross_entropy, [normal(5, 67)], {"targets": draw(5, 67), "label_smoothing": 0.1})


@both
def test_an_ignored_row_moves_nothing_whatever_it_holds(dtype):
    logits = np.array([[-np.inf, -np.inf], [np.nan, 0], [1, 2]], dtype)
    params = {"targets": np.array([1, 1, 0]), "ignore_index": 1}
    nll, saved = cross_entropy.forward(logits, **params)
    t, g = np.full((3, 2), np.inf, dtype), np.full(3, np.nan, dtype)
    assert not cross_entropy.tangent((t,), nll, saved, logits, **params)[:2].any()
    assert not cross_entropy.backward_tangent(g, (t,), g, nll, saved, logits, **params)[0][:2].any()
