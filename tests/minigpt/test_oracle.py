"""The saved folder, opened by transformers on PyTorch: the same logits, loss and gradients."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt import checkpoint
from minigpt.lossless import byte_tokenizer
from minigpt.models.gpt import GPT, GPTConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = {"vocab_size": 256, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 48}
LIMITS = {"float32": 1e-5, "float64": 1e-10}


def saved(folder, bias):
    """A model with no weight at its initial zero or one, so that nothing can hide."""
    rng = np.random.default_rng(3)
    model = GPT(GPTConfig(**CONFIG, bias=bias), rng)
    state = model.state_dict()
    model.load_state_dict({name: (value + rng.normal(0, 0.1, value.shape)).astype(np.float32) for name, value in state.items()})
    model.eval()
    checkpoint.save(folder, model, byte_tokenizer())
    return model


def apart(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("bias", [True, False])
def test_from_pretrained_gives_the_same_logits(tmp_path, bias):
    ours = saved(tmp_path, bias)
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    ids = np.random.default_rng(0).integers(0, 256, (2, 32))
    logits = theirs.eval()(torch.from_numpy(ids)).logits.detach().numpy()
    assert np.abs(ours(ids).numpy() - logits).max() < 1e-4
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer("Où est-il ?")["input_ids"]) == "Où est-il ?"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_and_every_gradient(tmp_path, dtype):
    state = saved(tmp_path, True).state_dict()
    ours = GPT(GPTConfig(**CONFIG), np.random.default_rng(0), dtype=dtype)
    ours.load_state_dict({name: value.astype(dtype) for name, value in state.items()})
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).to(getattr(torch, dtype)).eval()
    tokens = np.random.default_rng(0).integers(0, 256, (2, 33))

    loss = ours.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    ids, targets = (torch.from_numpy(part.copy()) for part in (tokens[:, :-1], tokens[:, 1:]))
    logits = theirs(ids).logits
    their_loss = torch.nn.functional.cross_entropy(logits.view(-1, 256), targets.view(-1))
    their_loss.backward()

    with tg.no_grad():
        assert apart(ours(tokens[:, :-1]).numpy(), logits.detach().numpy()) < LIMITS[dtype]
    assert apart(np.array(loss.item()), their_loss.detach().numpy()) < LIMITS[dtype]
    gradients = {name: parameter.grad.numpy() for name, parameter in theirs.transformer.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient = gradients.pop(name)
        transposed = ".c_" in name  # GPT-2 keeps (in, out)
        assert apart(parameter.grad.numpy(), gradient.T if transposed else gradient) < LIMITS[dtype], name
    assert not gradients
