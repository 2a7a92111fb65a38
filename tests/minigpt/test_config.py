"""One dataclass is the command line, the configuration file and the record; every bad value is one sentence."""

import dataclasses
import json
import math
import typing

import pytest

from minigpt.config import PRESETS, TrainConfig, read_config_file, resolve
from minigpt.errors import UserError
from minigpt.options import kinds


def test_defaults_are_the_nano_preset():
    config = resolve({})
    assert (config.n_layer, config.n_head, config.n_embd, config.block_size, config.batch_size) == (4, 4, 128, 64, 12)
    assert (config.max_steps, config.learning_rate, config.min_lr, config.warmup_steps) == (2000, 1e-3, 1e-4, 100)
    assert (config.beta2, config.weight_decay, config.grad_clip, config.tokenizer) == (0.99, 0.1, 1.0, "char")
    assert config == TrainConfig(preset="nano")


def test_every_preset_is_offered_and_valid():
    assert typing.get_args(typing.get_type_hints(TrainConfig)["preset"]) == tuple(PRESETS)
    for preset in PRESETS:
        assert resolve({"preset": preset}).preset == preset
    assert resolve({"preset": "gpt2"}).n_embd == 768


def test_flags_override_the_file_and_the_file_overrides_the_preset(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('preset = "baby"\nn_layer = 3\nlearning_rate = 1\n')
    config = resolve({"n_layer": 2}, str(file))
    assert (config.preset, config.n_layer, config.n_embd, config.learning_rate) == ("baby", 2, 384, 1)
    assert resolve({"preset": "nano"}, str(file)).n_embd == 128


def test_json_file_and_round_trip_of_the_record(tmp_path):
    config = TrainConfig(n_layer=2, data="a.txt", bias=False)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(dataclasses.asdict(config)))
    assert resolve({}, str(file)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": math.nan}, r"learning_rate must be in \(0, 1000\], not nan"),
        ({"learning_rate": -1e-3}, "learning_rate must be in"),
        ({"learning_rate": math.inf}, "learning_rate must be in"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'"),
        ({"min_lr": math.nan}, "min_lr must be in"),
        ({"min_lr": 0.5}, "min_lr 0.5 is above learning_rate 0.001"),
        ({"weight_decay": math.nan}, "weight_decay must be in"),
        ({"grad_clip": -1.0}, "grad_clip must be in"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\), not 1.0"),
        ({"beta2": math.nan}, "beta2 must be in"),
        ({"dropout": 1.5}, "dropout must be in"),
        ({"batch_size": 0}, "batch_size must be in"),
        ({"n_layer": 2.5}, "n_layer must be an integer, not 2.5"),
        ({"n_layer": True}, "n_layer must be an integer, not True"),
        ({"bias": 1}, "bias must be a boolean, not 1"),
        ({"out": None}, "out must be a string, not None"),
        ({"n_embd": 130}, "n_embd 130 is not divisible by n_head 4"),
        ({"warmup_steps": 30, "max_steps": 20}, "warmup_steps 30 is more than max_steps 20"),
        ({"tokenizer": "word"}, "tokenizer must be one of char, bytes, bpe, wordpiece, unigram, words, not 'word'"),
        ({"preset": "huge"}, "preset must be one of nano, baby, gpt2, not 'huge'"),
        ({"preset": ["nano"]}, "preset must be one of"),
        ({"vocab_size": 100}, "vocab_size must be in"),
        ({"seed": -1}, "seed must be in"),
        ({"grad_accum": 0}, "grad_accum must be in"),
        ({"label_smoothing": math.nan}, "label_smoothing must be in"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), not 1.0"),
        ({"patience": -1}, "patience must be in"),
        ({"keep_last": 0}, "keep_last must be in"),
        ({"skip_bad_steps": 1.5}, "skip_bad_steps must be an integer, not 1.5"),
        ({"save_interval": -1}, "save_interval must be in"),
        ({"optimizer": "adamx"}, "optimizer must be one of adamw, adam, muon, sgd, rmsprop, adagrad, not 'adamx'"),
        ({"schedule": None}, "schedule must be one of warmup_cosine, .* not None"),
    ],
)
def test_bad_values_are_named(settings, message):
    """Case 240."""
    with pytest.raises(UserError, match=message):
        resolve(settings)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "n_layers = 3", "unknown key 'n_layers' in .*; did you mean n_layer"),
        ("a.toml", "n_layer = ", "not a valid TOML file"),
        ("a.json", "{", "not a valid JSON file"),
        ("a.json", "[1]", "must hold keys and values, not a list"),
        ("a.json", "[" * 100_000, "not a valid JSON file"),
        ("a.toml", "\udcff", "not a valid TOML file"),
        ("a.toml", "#" * ((1 << 20) + 1), "is longer than 1048576 bytes, so it is no configuration file"),
        ("a.json", '{"seed": 1' + "0" * 5000 + "}", "not a valid JSON file"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        read_config_file(file)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the configuration file"):
        read_config_file(tmp_path / "none.toml")


def test_every_field_has_help_and_numbers_have_an_interval():
    for f in dataclasses.fields(TrainConfig):
        assert f.metadata["help"]
        assert (f.metadata["interval"] is not None) == (kinds(TrainConfig)[f.name].type in (int, float)), f.name
