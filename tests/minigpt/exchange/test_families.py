"""Every family's table without the reference: tiny models there and back, and settings that are nonsense."""

import json
import resource

import numpy as np
import pytest
from exchange_parity import CASES

import minigpt
from minigpt.errors import UserError
from minigpt.exchange.pretrained import CONFIG, family_of, known, table_of
from minigpt.exchange.settings import read_settings, write_settings

TOKENS = {"pad_token_id": 1, "eos_token_id": 3}  # in the small vocabularies
NONSENSE = (None, True, False, -1, 0, 1, 7, 2**31 - 1, 10**12, 1.5, float("nan"), "", "x", [], [[["x"], 1]], {}, {"0": 3})


def model_of(case):
    """Our model of the case, every weight drawn."""
    family = family_of(case.family, "")
    settings = json.loads(json.dumps(TOKENS | case.settings))
    rng = np.random.default_rng(2)
    model = family.classes[case.name].model(read_settings(family, family.classes[case.name], settings, ""), rng)
    for p in model.parameters():
        p.data = rng.normal(0, 0.2, p.shape)
    return model.eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_saved_is_loaded(case, tmp_path):
    """Of a model that has not been read, the family is found that says everything about it."""
    model = model_of(case)
    minigpt.save_pretrained(model, tmp_path)
    again = minigpt.from_pretrained(tmp_path)
    assert type(again) is type(model) and again.config == model.config and same(again, model)


@pytest.mark.parametrize("case", {case.family: case for case in CASES}.values(), ids=lambda case: case.family)
def test_a_model_stays_in_its_family(case, tmp_path):
    model = model_of(case)
    model.model_type = case.family
    minigpt.save_pretrained(model, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["model_type"] == case.family
    assert table_of(minigpt.from_pretrained(tmp_path))[0].model_type == case.family


@pytest.mark.parametrize("case", {case.family: case for case in CASES}.values(), ids=lambda case: case.family)
def test_settings_that_are_nonsense(case, tmp_path):
    """Every setting, and every nonsense: the folder is read all the same, or refused in one sentence, in little memory."""
    minigpt.save_pretrained(model_of(case), tmp_path)
    right = json.loads((tmp_path / CONFIG).read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for name in right:
        for value in NONSENSE:
            (tmp_path / CONFIG).write_text(json.dumps(right | {name: value}))
            try:
                minigpt.from_pretrained(tmp_path)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
            except Exception as error:
                raise AssertionError(f"{name} = {value!r}: {type(error).__name__} {error}") from error
    assert refused > len(right) and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("model_type", known())
def test_what_is_written_is_what_was_read(model_type):
    """A silent file has the family's defaults, and these are written as they would be read."""
    family = family_of(model_type, "")
    for name, architecture in family.classes.items():
        config = read_settings(family, architecture, {}, "")
        assert read_settings(family, architecture, write_settings(family, name, config), "") == config
