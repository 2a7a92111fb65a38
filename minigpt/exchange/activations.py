"""Activations by the names that Hugging Face has for them; of several for one of ours, the first is written."""

from minigpt.exchange.family import Setting

NAMES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


def activation(theirs: str, default: str) -> Setting:
    """Our `activation`, beside the setting that they call `theirs`."""
    return Setting("activation", theirs, default, values=NAMES)
