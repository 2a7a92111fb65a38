"""Learning rates against torch's schedulers, and at their corners."""

import math

import numpy as np
import pytest

from tensorgrad import optim

STEPS = 20
PAIRS = {
    "constant": (lambda t: optim.constant(t, 0.5), lambda s, o: s.ConstantLR(o, factor=1.0)),
    "linear": (lambda t: optim.linear(t, 0.5, 0.05, 15), lambda s, o: s.LinearLR(o, 1.0, 0.1, total_iters=15)),
    "cosine": (lambda t: optim.cosine(t, 0.5, 0.05, STEPS), lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.05)),
    "one-cycle": (lambda t: optim.one_cycle(t, 0.5, 30), lambda s, o: s.OneCycleLR(o, 0.5, 30)),
    "one-cycle-slow": (
        lambda t: optim.one_cycle(t, 0.5, 22, pct_start=0.5, div_factor=10.0, final_div_factor=100.0),
        lambda s, o: s.OneCycleLR(o, 0.5, 22, pct_start=0.5, div_factor=10.0, final_div_factor=100.0),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rates_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, build = PAIRS[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = build(torch.optim.lr_scheduler, optimizer)
    for step in range(STEPS):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_torchs(mode):
    torch = pytest.importorskip("torch")
    settings = {"mode": mode, "factor": 0.5, "patience": 2, "threshold": 0.05, "cooldown": 3, "min_lr": 0.02}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
    ours, rng = optim.Plateau(0.5, **settings), np.random.default_rng(0)
    for step in range(80):
        metric = 1 + 0.1 * rng.standard_normal() + math.exp(-step / 5)
        metric = math.nan if step == 30 else metric
        scheduler.step(metric)
        assert ours(metric) == pytest.approx(optimizer.param_groups[0]["lr"]), step
        resumed = optim.Plateau(9.0)
        resumed.load_state_dict(ours.state_dict())
        ours = resumed
    assert ours.lr == pytest.approx(0.02)


def test_warm_up_and_cosine():
    rates = [optim.warmup_cosine(t, 1.0, 0.1, 4, 10) for t in range(13)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:10] == pytest.approx([0.1 + 0.45 * (1 + math.cos(math.pi * t / 6)) for t in range(6)])
    assert rates[10:] == [0.1] * 3
    assert optim.warmup_cosine(0, 1.0, 0.1, 0, 10) == 1.0
    assert optim.warmup_cosine(5, 1.0, 0.1, 5, 5) == 0.1


def test_warm_up_stay_and_decay():
    rates = [optim.warmup_stable_decay(t, 1.0, 0.0, 2, 4, 10) for t in range(12)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0])
    assert optim.warmup_stable_decay(99, 1.0, 0.0, 2, 0, 10) == 1.0


def test_no_steps_at_all():
    assert optim.linear(0, 1.0, 0.1, 0) == optim.cosine(0, 1.0, 0.1, 0) == 0.1
    assert optim.one_cycle(0, 1.0, 1) == 1.0 / 25 / 1e4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: optim.constant(0, math.nan), "lr must be a number >= 0, got nan"),
        (lambda: optim.cosine(0, 1.0, -0.1, 10), "min_lr must be"),
        (lambda: optim.linear(-1, 1.0, 0.1, 10), "step must be"),
        (lambda: optim.warmup_stable_decay(0, 1.0, 0.0, 6, 6, 10), "do not fit in max_steps 10"),
        (lambda: optim.one_cycle(0, 1.0, 10, pct_start=1.5), "pct_start in"),
        (lambda: optim.one_cycle(0, 1.0, 10, div_factor=0.0), "positive factors"),
        (lambda: optim.Plateau(0.1, factor=1.0), "factor must be in"),
        (lambda: optim.Plateau(0.1, mode="up"), "mode must be"),
        (lambda: optim.Plateau(0.1, patience=-1), "patience must be"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
