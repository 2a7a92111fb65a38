"""Every family against transformers: logits, greedy generation, and the way back."""

import dataclasses
import json

import numpy as np
import pytest
from exchange_parity import CASES, LIMITS, Pair, in_double, parity

import minigpt
from minigpt.exchange.pretrained import known, read_config
from minigpt.exchange.weights import layout

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle


def test_every_family_takes_part():
    assert sorted({case.family for case in CASES}) == known()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case, tmp_path):
    found = parity(case, tmp_path)
    assert not found.faults
    assert all(found.errors[dtype] <= limit for dtype, limit in LIMITS.items()), found.errors
    assert found.returned <= 1e-6 and found.generation is not False


@pytest.mark.parametrize("model_type", known())
def test_a_silent_file_means_what_transformers_assumes(model_type, tmp_path):
    """But for what follows from other settings where it is not said, such as a head's size: there the shapes are the same."""
    transformers.AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    family, architecture, spoken = read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    silent = read_config(tmp_path / "config.json")[2]
    assert dataclasses.replace(spoken, **{name: None for name, value in vars(silent).items() if value is None}) == silent
    shapes = [[(entry.name, entry.shape(c)) for entry in layout(family, architecture, c)] for c in (spoken, silent)]
    assert shapes[0] == shapes[1]


def test_a_check_can_fail(tmp_path):
    """One number of one bias, larger by a thousandth of its size."""
    pair = Pair(CASES[0], tmp_path)
    ours, theirs = pair.ours("float64"), pair.their_double()
    with in_double():
        logits = pair.their_logits(theirs)
    assert pair.error(pair.our_logits(ours), logits) < 1e-14
    bias = ours.h[1].mlp.c_fc.bias
    bias.data = bias.data + 1e-3 * bias.data[7] * np.eye(1, bias.size, 7)[0]
    assert pair.error(pair.our_logits(ours), logits) > 1e3 * LIMITS["float64"]


@pytest.mark.parametrize("case", [CASES[0], next(case for case in CASES if case.family == "t5")], ids=str)
def test_files_in_parts_and_in_halves(case, tmp_path):
    """What transformers shards, or stores in bfloat16 or float16, is what it makes of that itself in float32."""
    for i, dtype in enumerate(("float32", "bfloat16", "float16")):
        pair = Pair(case, tmp_path / str(i))
        pair.theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path / f"{i}-parts", max_shard_size="20KB")
        pair.folder = tmp_path / f"{i}-parts"
        assert len(list(pair.folder.glob("model-*.safetensors"))) > 2
        assert pair.error(pair.our_logits(pair.ours()), pair.their_logits(pair.theirs.float())) <= LIMITS["float32"]


def test_a_model_without_its_head(tmp_path):
    """GPT2Model's folder, whose names have no prefix: the head is the table of tokens."""
    theirs = Pair(CASES[0], tmp_path / "a").theirs
    theirs.transformer.save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["architectures"] == ["GPT2Model"]
    whole, bare = (minigpt.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    assert all(np.array_equal(whole[name], bare[name]) for name in whole)
