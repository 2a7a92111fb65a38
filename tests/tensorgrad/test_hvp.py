"""Hessian-vector products of whole models: two routes, a finite difference, and symmetry, in float64."""

from contextlib import nullcontext

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.models.gpt import GPT, GPTConfig


def mlp():
    rng = np.random.default_rng(0)
    model = tg.nn.Sequential(tg.nn.Linear(4, 8, rng=rng), tg.nn.Tanh(), tg.nn.LayerNorm(8), tg.nn.Linear(8, 3, rng=rng)).astype(
        "float64"
    )
    x, targets = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    return model, lambda m: tg.cross_entropy(m(x), targets)


def gpt(**options):
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8, **options), rng, dtype="float64")
    for p in model.parameters():  # larger than the start of training, so that attention and the norms matter
        p.data = p.data + 0.2 * rng.standard_normal(p.shape)
    tokens = rng.integers(0, 11, (2, 7))
    return model, lambda m: m.loss(tokens[:, :-1], tokens[:, 1:])


def gpt_with_dropout():
    model, _ = gpt(dropout=0.3)
    tokens = np.random.default_rng(1).integers(0, 11, (2, 7))
    return model, lambda m: m.loss(tokens[:, :-1], tokens[:, 1:], rng=np.random.default_rng(2))


def gpt_recomputed():
    model, loss = gpt(bias=False)
    return model, tg.checkpoint(loss)


MODELS = pytest.mark.parametrize("model_and_loss", [mlp, gpt, gpt_with_dropout, gpt_recomputed])


def direction(model, seed):
    rng = np.random.default_rng(seed)
    v = {name: rng.standard_normal(p.shape) for name, p in model.named_parameters()}
    length = np.sqrt(dot(v, v))
    return {name: value / length for name, value in v.items()}


def dot(a, b):
    return sum(float(np.vdot(np.asarray(a[name]), np.asarray(b[name]))) for name in b)


def arrays(tree):
    return {name: value.data for name, value in tree.items()}


def assert_close(a, b, rtol):
    apart = {name: a[name] - b[name] for name in a}
    assert np.sqrt(dot(apart, apart)) <= rtol * max(np.sqrt(dot(a, a)), np.sqrt(dot(b, b)))


@MODELS
@pytest.mark.parametrize("definitions", [False, True])
def test_forward_over_reverse_is_reverse_over_reverse(model_and_loss, definitions):
    model, loss = model_and_loss()
    v = direction(model, 1)
    slope = lambda m: sum(tg.sum(g * v[name]) for name, g in tg.grad(loss)(m).items())
    with tg.definitions() if definitions else nullcontext():
        assert_close(arrays(tg.hvp(loss, model, v)), arrays(tg.grad(slope)(model)), 1e-10)


@MODELS
def test_hvp_is_the_difference_of_gradients(model_and_loss):
    model, loss = model_and_loss()
    v, h = direction(model, 1), 1e-4
    start = {name: p.data.copy() for name, p in model.named_parameters()}

    def gradient_at(step):
        for name, p in model.named_parameters():
            p.data = start[name] + step * v[name]
        return arrays(tg.grad(loss)(model))

    ahead, behind = gradient_at(h), gradient_at(-h)
    gradient_at(0)
    assert_close(arrays(tg.hvp(loss, model, v)), {name: (ahead[name] - behind[name]) / (2 * h) for name in v}, 1e-6)


@MODELS
def test_the_hessian_is_symmetric(model_and_loss):
    model, loss = model_and_loss()
    u, v = direction(model, 1), direction(model, 2)
    left, right = dot(arrays(tg.hvp(loss, model, u)), v), dot(arrays(tg.hvp(loss, model, v)), u)
    assert abs(left - right) <= 1e-10 * max(abs(left), abs(right))


@MODELS
def test_the_models_pass_the_checker(model_and_loss):
    model, loss = model_and_loss()
    tg.check.check_hvp(loss, model)
    tg.check.check_grads(loss, model)
    gradient, hessian = tg.check.taylor_test(loss, model)
    assert gradient == pytest.approx(2, abs=0.05) and hessian == pytest.approx(3, abs=0.05)


def test_a_whole_hessian_of_a_small_model():
    """Every column of H by hvp, both nestings of Jacobians, and central differences."""
    x, targets = np.random.default_rng(0).standard_normal((5, 3)), np.array([0, 1, 1, 0, 1])
    loss = lambda w: tg.cross_entropy(tg.tanh(x @ w), targets)
    w = np.random.default_rng(1).standard_normal((3, 2))
    hessian = tg.hessian(loss)(w).data.reshape(6, 6)
    columns = [tg.hvp(loss, w, e.reshape(3, 2)).data.reshape(-1) for e in np.eye(6)]
    np.testing.assert_allclose(np.array(columns), hessian, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(tg.jacrev(tg.grad(loss))(w).data.reshape(6, 6), hessian, rtol=1e-13, atol=1e-15)
    steps = [1e-5 * e.reshape(3, 2) for e in np.eye(6)]
    numeric = [((tg.grad(loss)(w + h).data - tg.grad(loss)(w - h).data) / 2e-5).reshape(-1) for h in steps]
    np.testing.assert_allclose(numeric, hessian, rtol=1e-6, atol=1e-9)
