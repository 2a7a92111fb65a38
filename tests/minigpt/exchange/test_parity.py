"""Every family against transformers: logits, greedy generation, and the way back."""

import pytest

from minigpt.exchange.pretrained import known

pytest.importorskip("torch")
pytest.importorskip("transformers")

from exchange_parity import CASES, LIMITS, parity

pytestmark = pytest.mark.oracle


def test_every_family_takes_part():
    assert sorted({case.family for case in CASES}) == known()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(case, tmp_path):
    found = parity(case, tmp_path)
    assert not found.faults
    assert all(found.errors[dtype] <= limit for dtype, limit in LIMITS.items()), found.errors
    assert found.returned <= 1e-6 and found.generation is not False
