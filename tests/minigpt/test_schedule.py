"""Each rule by name is tensorgrad's function of that name."""

import math
import typing

import pytest
from training_runs import TINY

import tensorgrad as tg
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.schedule import PLATEAU_PATIENCE, Schedule

HIGH, LOW, WARMUP, STEPS = 1e-2, 1e-3, 5, 40
RULES = {
    "constant": lambda step: HIGH,
    "linear": lambda step: tg.optim.linear(step, HIGH, LOW, STEPS),
    "cosine": lambda step: tg.optim.cosine(step, HIGH, LOW, STEPS),
    "warmup_cosine": lambda step: tg.optim.warmup_cosine(step, HIGH, LOW, WARMUP, STEPS),
    "warmup_stable_decay": lambda step: tg.optim.warmup_stable_decay(step, HIGH, LOW, WARMUP, 4, STEPS),
    "one_cycle": lambda step: tg.optim.one_cycle(step, HIGH, STEPS),
    "plateau": lambda step: HIGH,
}


def schedule(name, **changes):
    settings = {"learning_rate": HIGH, "min_lr": LOW, "warmup_steps": WARMUP, "max_steps": STEPS, **changes}
    return Schedule(TrainConfig(**{**TINY, "schedule": name, **settings}))


def test_every_rule_is_offered():
    assert set(typing.get_args(typing.get_type_hints(TrainConfig)["schedule"])) == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_rates(name):
    rates = [schedule(name)(step) for step in range(STEPS)]
    assert rates == [RULES[name](step) for step in range(STEPS)]
    assert max(rates) == pytest.approx(HIGH)


def test_a_warm_up_that_leaves_no_room_for_the_decay():
    assert schedule("warmup_stable_decay", warmup_steps=39)(39) == HIGH
    assert schedule("warmup_stable_decay", warmup_steps=40)(39) == HIGH
    assert schedule("warmup_stable_decay", warmup_steps=0, max_steps=1)(0) == HIGH


def test_plateau_halves_down_to_the_lowest_and_goes_on_after_a_restart():
    rule = schedule("plateau")
    rates = []
    for _ in range(20):
        rule.observe(2.0)
        other = schedule("plateau")
        other.restore(rule.state())
        rule = other
        rates.append(rule(0))
    assert rates[: PLATEAU_PATIENCE + 1] == [HIGH] * (PLATEAU_PATIENCE + 1) and HIGH / 2 in rates and rates[-1] == LOW


@pytest.mark.parametrize(
    "state", [None, [], {}, {"lr": "x", "bad_calls": 0, "best": 1.0}, {"lr": math.nan, "bad_calls": 0, "best": 1.0}]
)
def test_a_malformed_state(state):
    with pytest.raises(UserError, match="the state of the learning rate is malformed"):
        schedule("plateau").restore(state)
