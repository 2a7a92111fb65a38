"""Products in training are ours: another library's threads would fight with ours for the cores."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt import GPT, GPTConfig


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_training_step_calls_no_product_of_numpy(monkeypatch, dtype):
    model = GPT(GPTConfig(11, block_size=8, n_layer=1, n_embd=8), np.random.default_rng(0), dtype=dtype)
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-3)
    ids = np.random.default_rng(1).integers(0, 11, (2, 8))

    def refuse(*args, **kwargs):
        raise AssertionError("a product of NumPy was called")

    for name in ("matmul", "dot", "vdot", "inner", "tensordot", "einsum"):
        monkeypatch.setattr(np, name, refuse)
    model.loss(ids, ids).backward()
    tg.optim.clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()
