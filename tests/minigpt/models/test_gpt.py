"""The model against its paper: shapes, initialisation, causality, the cache, and the same model in PyTorch."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.models.gpt import GPT, GPTConfig

SMALL = GPTConfig(vocab_size=17, block_size=12, n_layer=2, n_head=2, n_embd=16)


def batch(config: GPTConfig, size: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, config.vocab_size, (size, length)), rng.integers(0, config.vocab_size, (size, length))


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 0), ("n_layer", -1), ("n_head", 3), ("n_embd", 2.5), ("dropout", 1.0), ("dropout", math.nan)],
)
def test_config_refuses_what_makes_no_model(field, value):
    with pytest.raises(ValueError, match=field):
        GPTConfig(**{"vocab_size": 17, "n_embd": 16, "n_head": 2, field: value})


def test_initial_weights_are_gpt2s():
    model = GPT(GPTConfig(vocab_size=500, block_size=64, n_layer=8, n_head=4, n_embd=128), np.random.default_rng(0))
    weights = model.state_dict()
    assert weights["wte.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert weights["h.3.attn.c_attn.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert weights["h.3.mlp.c_proj.weight"].std() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    assert not weights["h.0.attn.c_attn.bias"].any()
    assert (weights["ln_f.weight"] == 1).all()


def test_first_loss_is_that_of_a_uniform_guess():
    model = GPT(SMALL, np.random.default_rng(0))
    assert model.loss(*batch(SMALL, 8, 12)).item() == pytest.approx(math.log(17), abs=0.1)


def test_later_tokens_change_no_earlier_logit():
    model = GPT(SMALL, np.random.default_rng(0))
    ids, _ = batch(SMALL, 2, 12)
    changed = ids.copy()
    changed[:, 7] = (changed[:, 7] + 1) % 17
    before, after = model(ids).data, model(changed).data
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7:] - after[:, 7:]).max() > 1e-4


def test_cached_logits_equal_the_full_forward():
    """Case 131."""
    model = GPT(SMALL, np.random.default_rng(0)).eval()
    ids, _ = batch(SMALL, 3, 12)
    cache = model.new_cache(batch=3)
    with tg.no_grad():
        full = model(ids).data
        parts = [model(ids[:, :5], cache=cache).data] + [model(ids[:, i : i + 1], cache=cache).data for i in range(5, 12)]
    np.testing.assert_allclose(np.concatenate(parts, 1), full, atol=1e-6)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="13 tokens do not fit in the context of 12"):
        GPT(SMALL)(np.zeros((1, 13), int))


def test_dropout_follows_the_generator_and_stops_in_eval():
    config = GPTConfig(vocab_size=17, block_size=12, n_layer=1, n_head=2, n_embd=16, dropout=0.3)
    model = GPT(config, np.random.default_rng(0))
    ids, _ = batch(config, 2, 12)
    same = [model(ids, rng=np.random.default_rng(1)).data for _ in range(2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(same[0] - model(ids, rng=np.random.default_rng(2)).data).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_loss_and_gradients_equal_pytorch(dtype, tolerance, bias):
    torch = pytest.importorskip("torch")
    from torch_gpt import TorchGPT

    config = GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128, bias=bias)
    model = GPT(config, np.random.default_rng(0), dtype)
    peer = TorchGPT(65, 64, 4, 4, 128, bias).to(getattr(torch, dtype))
    peer.load_state_dict({name: torch.from_numpy(a) for name, a in model.state_dict().items()})
    ids, targets = batch(config, 4, 64)

    logits, expected = model(ids), peer(torch.from_numpy(ids))
    assert distance(logits.data, expected.detach().numpy()) <= tolerance
    loss, peer_loss = model.loss(ids, targets), peer.loss(torch.from_numpy(ids), torch.from_numpy(targets))
    assert abs(loss.item() - peer_loss.item()) <= tolerance * abs(peer_loss.item())
    loss.backward()
    peer_loss.backward()
    gradients = dict(peer.named_parameters())
    for name, p in model.named_parameters():
        assert distance(p.grad.data, gradients[name].grad.numpy()) <= tolerance, name


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b))
