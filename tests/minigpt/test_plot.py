"""The loss curve is an SVG that holds what it is given."""

import xml.etree.ElementTree as ET

from minigpt.plot import loss_svg

RECORDS = [{"step": step, "loss": 4 / step, "val_loss": 5 / step if step % 2 == 0 else None} for step in range(1, 9)]
BASELINES = {"unigram": 3.0, "bigram": 2.5, "trigram": 2.49}


def test_well_formed_and_the_same_twice():
    picture = loss_svg(RECORDS, BASELINES, "a title")
    root = ET.fromstring(picture)
    assert root.tag.endswith("svg")
    assert picture == loss_svg(RECORDS, BASELINES, "a title")
    for label in ("a title", "unigram 3.00", "bigram 2.50", "trigram 2.49", "validation 0.62"):
        assert f"<!-- {label} -->" in picture


def test_a_run_of_one_step():
    assert "<svg" in loss_svg([{"step": 1, "loss": 4.0, "val_loss": 4.1}], BASELINES, "one")
