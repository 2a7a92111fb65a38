"""The check passes on a right model and fails on a wrong one."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.check import check_model
from minigpt.models.gpt import GPT, GPTConfig


def model():
    return GPT(GPTConfig(vocab_size=7, block_size=6, n_layer=1, n_head=2, n_embd=8), np.random.default_rng(0))


def test_passes_and_leaves_the_model_alone():
    checked = model()
    before = {name: value.copy() for name, value in checked.state_dict().items()}
    lines = list(check_model(checked))
    assert [line.name for line in lines if not line.passed] == []
    assert len(lines) == 2 * 7 + 3
    after = checked.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_planted_wrong_gradient_is_found(monkeypatch, factor):
    right = tg.grad

    def wrong(f, *args, **kwargs):
        def gradient(*xs):
            tree = right(f, *args, **kwargs)(*xs)
            return {name: value * factor if name == "wpe.weight" else value for name, value in tree.items()}

        return gradient

    monkeypatch.setattr(tg, "grad", wrong)
    failed = [line.name for line in check_model(model()) if not line.passed]
    assert "wpe: a direction" in failed
    assert any(name.startswith("H v") for name in failed)
    assert "wte: a direction" not in failed
