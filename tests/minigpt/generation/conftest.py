"""Small models whose answers vary."""

import numpy as np
import pytest

from minigpt.models.gpt import GPT, GPTConfig


def varied(vocab_size=11, block_size=16, seed=0, **sizes):
    """Weights large enough that what it writes varies."""
    rng = np.random.default_rng(seed)
    made = GPT(GPTConfig(vocab_size, block_size, **{"n_layer": 2, "n_head": 2, "n_embd": 16} | sizes), rng)
    scales = {"wte.weight": 0.3, "wpe.weight": 1.0}
    state = made.state_dict().items()
    made.load_state_dict({k: rng.normal(0, scales.get(k, 0.5), v.shape) if v.ndim == 2 else v for k, v in state})
    made.eval()
    return made


@pytest.fixture(scope="module")
def model():
    return varied()


@pytest.fixture(scope="session")
def varied_models():
    """A maker of more of them."""
    return varied
