"""Low-rank changes: nothing at first, the formula after, only they are learned, and merging them changes nothing."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.errors import UserError
from minigpt.finetuning.lora import LoRALinear, adapted, add_lora, merge
from minigpt.models.bert import BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import SequenceClassifier
from tensorgrad.nn import Linear

IDS = np.array([[1, 2, 3, 4], [4, 3, 2, 1]])


def gpt(dtype="float32"):
    return GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8), np.random.default_rng(0), dtype).eval()


def stir(model, seed=1):
    rng = np.random.default_rng(seed)
    for module in adapted(model).values():
        module.lora_B.data = rng.normal(size=module.lora_B.shape).astype(module.lora_B.dtype)


def test_the_formula_and_its_derivatives():
    base = Linear(5, 3, rng=np.random.default_rng(0))
    base.astype("float64")
    changed = LoRALinear(base, 2, 7.0, np.random.default_rng(1))
    changed.lora_B.data = np.random.default_rng(2).normal(size=(3, 2))
    x = np.random.default_rng(3).normal(size=(4, 5))
    w, b = base.weight.data, base.bias.data
    a, u = changed.lora_A.data, changed.lora_B.data
    assert np.allclose(changed(x).numpy(), x @ w.T + b + 7.0 / 2 * (x @ a.T) @ u.T, rtol=1e-13)
    assert np.allclose(changed(x, np.ones((4, 3))).numpy(), 1 + changed(x).numpy(), rtol=1e-13)
    tg.check.check_grads(lambda p, q: tg.sum(tg.sin(tg.linear(tg.linear(x, p), q))), (tg.tensor(a), tg.tensor(u)), order=1)


@pytest.mark.parametrize("targets", ["attention", "all", "mlp.c_proj", "c_attn, mlp.c_fc"])
def test_at_first_every_bit_is_the_same(targets):
    model = gpt()
    before = model(IDS).numpy()
    assert add_lora(model, 2, 16.0, targets, np.random.default_rng(0))
    assert (model(IDS).numpy() == before).all()


def test_targets():
    names = {
        "attention": ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.1.attn.c_attn", "h.1.attn.c_proj"],
        "mlp.c_fc": ["h.0.mlp.c_fc", "h.1.mlp.c_fc"],
        "h.1.attn.c_attn": ["h.1.attn.c_attn"],
    }
    for targets, expected in names.items():
        model = gpt()
        assert add_lora(model, 1, 1.0, targets, np.random.default_rng(0)) == expected == [*adapted(model)]
    assert len(add_lora(gpt(), 1, 1.0, "all", np.random.default_rng(0))) == 8


def test_only_the_changes_are_learned():
    model = gpt()
    add_lora(model, 2, 16.0, "attention", np.random.default_rng(0))
    stir(model)
    model.loss(IDS, IDS).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {f"{name}.lora_{part}" for name in adapted(model) for part in "AB"}


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("float64", 1e-13)])
def test_merged_is_unmerged_to_rounding(dtype, limit):
    model = gpt(dtype)
    plain = model(IDS).numpy()
    weights = {name: p.numpy().copy() for name, p in model.named_parameters()}
    add_lora(model, 2, 16.0, "all", np.random.default_rng(0))
    stir(model)
    changed = model(IDS).numpy()
    merge(model)
    merged = model(IDS).numpy()
    assert merged.dtype == dtype and not adapted(model)
    assert np.abs(merged - changed).max() <= limit * np.abs(changed).max() and np.abs(merged - plain).max() > 0.1
    assert weights.keys() == {name for name, _ in model.named_parameters()}


def test_the_base_stays_as_it_was():
    model = gpt()
    weights = {name: p.numpy().copy() for name, p in model.named_parameters()}
    add_lora(model, 2, 16.0, "all", np.random.default_rng(0))
    model.train()
    optimizer = tg.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model.loss(IDS, IDS)
        loss.backward()
        optimizer.step()
    assert all((p.numpy() == weights[name]).all() for name, p in model.named_parameters() if name in weights)
    assert model.loss(IDS, IDS).item() < loss.item()


def test_the_layers_of_bert():
    model = SequenceClassifier(BERTConfig(11, 8, 2, 2, 8, labels=("a", "b")), np.random.default_rng(0))
    names = add_lora(model, 2, 16.0, "q_proj,v_proj", np.random.default_rng(0))
    assert names == [f"bert.h.{i}.attn.{part}_proj" for i in range(2) for part in "qv"]
    assert not any(
        name.startswith(("classifier", "bert.pooler")) for name in add_lora(model, 2, 1.0, "all", np.random.default_rng(0))
    )


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (9, "all", "lora_rank 9 is more than the 8 that h.0.attn.c_attn can have"),
        (2, "q_proj", "lora_targets: no linear map is named 'q_proj'; those of the layers are c_attn, c_fc, c_proj"),
        (2, "c_attn,", "lora_targets: no linear map is named ''"),
    ],
)
def test_what_does_not_fit(rank, targets, message):
    model = gpt()
    with pytest.raises(UserError, match=message):
        add_lora(model, rank, 16.0, targets, np.random.default_rng(0))
    assert all(p.requires_grad for p in model.parameters()) and not adapted(model)
