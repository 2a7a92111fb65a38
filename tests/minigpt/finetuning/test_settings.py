"""Every setting has help, and refuses what lies outside its interval or does not go together."""

import dataclasses
import math

import pytest

from minigpt.errors import UserError
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.options import kinds


def test_every_field_has_help_and_numbers_have_an_interval():
    for f in dataclasses.fields(FinetuneConfig):
        assert f.metadata["help"]
        assert (f.metadata["interval"] is not None) == (kinds(FinetuneConfig)[f.name].type in (int, float)), f.name


def test_the_learning_rate_depends_on_what_is_trained():
    assert FinetuneConfig(data="a").learning_rate == 5e-5
    assert FinetuneConfig(data="a", lora_rank=4).learning_rate == 5e-4
    assert FinetuneConfig(data="a", lora_rank=4, learning_rate=1.0).learning_rate == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": ""}, "data must name a table"),
        ({"task": "paint"}, "task must be one of lm, chat, classify, tag, answer, seq2seq, embed, not 'paint'"),
        ({"held_out": 1.0}, r"held_out must be in \(0, 1\), not 1.0"),
        ({"held_out": math.nan}, "held_out must be in"),
        ({"epochs": 0}, "epochs must be in"),
        ({"layer_decay": 0.0}, "layer_decay must be in"),
        ({"freeze": "-1"}, "freeze must be none, embeddings, all or a number of layers, not '-1'"),
        ({"freeze": "some"}, "freeze must be"),
        ({"freeze": "all", "lora_rank": 2}, "freeze all does not go with lora_rank 2"),
        ({"merge": True}, "merge needs a lora_rank"),
        ({"lora_alpha": 8.0}, "lora_alpha needs a lora_rank"),
        ({"lora_targets": "all"}, "lora_targets needs a lora_rank"),
        ({"label_smoothing": 0.5}, "label_smoothing is for the task seq2seq, not classify"),
        ({"task": "chat", "judge": 5}, "judge is for the task seq2seq, not chat"),
        ({"task": "lm", "class_weights": True}, "class_weights is for the tasks classify and tag, not lm"),
        ({"task": "tag", "pair_column": "b"}, "pair_column is for the tasks classify and embed, not tag"),
        ({"task": "embed"}, "the task embed needs pair_column"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        FinetuneConfig(**{"data": "a.tsv"} | settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "seq2seq", "label_smoothing": 0.1, "judge": 5},
        {"task": "tag", "class_weights": True},
        {"task": "embed", "pair_column": "b"},
        {"lora_rank": 2, "lora_alpha": 8.0, "lora_targets": "all", "merge": True},
        {"lora_alpha": 16.0, "lora_targets": "attention", "label_smoothing": 0.0, "judge": 0},  # as by default
    ],
)
def test_settings_that_do_fit(settings):
    config = FinetuneConfig(data="a.tsv", **settings)
    assert settings.items() <= dataclasses.asdict(config).items()
