"""How deep a parameter is says whether it learns, and how fast."""

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.finetuning.parameters import depth, freeze, groups
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.models.bert import BERTConfig
from minigpt.models.decoder import Decoder, DecoderConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import SequenceClassifier
from minigpt.models.t5 import T5, T5Config


def bert():
    return SequenceClassifier(BERTConfig(11, 8, 3, 2, 8, labels=("a", "b")), np.random.default_rng(0))


def gpt():
    return GPT(GPTConfig(11, 8, 2, 2, 8), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.wte.weight", 0),
        ("wpe.weight", 0),
        ("bert.ln.bias", 0),
        ("bert.h.0.ln_1.weight", 1),
        ("decoder.h.2.mlp.up.weight", 3),
        ("ln_f.weight", 4),
        ("bert.pooler.weight", 4),
        ("classifier.weight", 4),
        ("encoder.distance.weight", 0),
        ("map_in.weight", 0),
        ("map_out.weight", 4),
    ],
)
def test_depth(name, expected):
    assert depth(name, 3) == expected


def learning(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freezing():
    every = learning(bert())
    outside = {name for name in every if "classifier" in name or "pooler" in name}
    layers = [{name for name in every if f".h.{i}." in name} for i in range(3)]
    cases = {"none": every, "embeddings": outside.union(*layers), "2": outside | layers[2], "3": outside, "all": outside}
    for which, expected in cases.items():
        model = bert()
        freeze(model, which)
        assert learning(model) == expected, which
    with pytest.raises(UserError, match="freeze 4 is more than the 3 layers"):
        freeze(bert(), "4")


@pytest.mark.parametrize("make", [bert, gpt, lambda: T5(T5Config(11, 2, n_head=2, n_embd=8), np.random.default_rng(0))])
def test_every_parameter_is_in_one_group_with_its_rate(make):
    model = make()
    layers = 3 if isinstance(model, SequenceClassifier) else 2
    found = groups(model, FinetuneConfig(data="a", layer_decay=0.5, weight_decay=0.3))
    names = [name for group in found for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    for group in found:
        for name, p in group["params"]:
            assert group["share"] == 0.5 ** (layers + 1 - depth(name, layers))
            assert group["weight_decay"] == (0.3 if p.ndim >= 2 else 0)


def test_nothing_left():
    with pytest.raises(UserError, match="freeze all leaves nothing of the model to learn"):
        freeze(Decoder(DecoderConfig(11, 8, 2, 2, 8, tied=True, final_norm=False), np.random.default_rng(0)), "all")


def test_what_is_frozen_is_in_no_group():
    model = gpt()
    freeze(model, "1")
    names = [name for group in groups(model, FinetuneConfig(data="a")) for name, _ in group["params"]]
    assert set(names) == learning(model) and "h.0.ln_1.weight" not in names and "h.1.ln_1.weight" in names
