"""The learning rate rises and falls on lines, and the weights of the best evaluation are the ones that stay."""

import math
import signal

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.errors import TrainingError
from minigpt.examples import Example
from minigpt.finetuning.loop import Loop
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.signals import StopRequest
from tensorgrad.nn import Linear

ROWS = [Example(np.arange(3), np.array(i)) for i in range(8)]


class Line:
    """A task whose loss is the mean of weight - target, and whose figure is given beforehand."""

    metric, higher, pad = "figure", True, 0

    def __init__(self, figures):
        self.figures, self.weights = iter(figures), []

    def loss(self, model, batch, rng):
        return tg.mean(model.weight) - float(batch.targets.mean())

    def measure(self, model, examples):
        self.weights.append(model.weight.numpy().copy())
        return {"loss": 0.0, "figure": next(self.figures)}


def run(figures, model=None, tell=None, **settings):
    task, model = Line(figures), model or Linear(2, 1, bias=False, rng=np.random.default_rng(0))
    records = []
    config = FinetuneConfig(**{"data": "a", "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0} | settings)
    loop = Loop(model, task, config, len(ROWS))
    with StopRequest() as stop:
        loop.run(ROWS, ROWS, np.random.default_rng(0), np.random.default_rng(0), tell or records.append, stop)
    return loop, task, model, records


def test_the_rate():
    loop = Loop(Linear(2, 1), Line([]), FinetuneConfig(data="a", epochs=10, batch_size=4, learning_rate=1.0, warmup=0.25), 8)
    assert loop.steps == 20
    assert [loop.rate(step) for step in range(1, 21)] == pytest.approx(
        [i / 5 for i in range(1, 6)] + [1 - i / 15 for i in range(15)]
    )


def test_the_best_weights_stay():
    loop, task, model, records = run([1, 5, 2, 4], epochs=4)
    assert (model.weight.numpy() == task.weights[1]).all() and not (task.weights[1] == task.weights[3]).any()
    assert loop.figures["figure"] == 5 and not model.training
    assert [r["step"] for r in records if r["val_loss"] is not None] == [2, 4, 6, 8]


def test_patience():
    _, task, model, records = run([1, 5, 2, 4, 6, 6], epochs=6, patience=2)
    assert len(records) == 8 and (model.weight.numpy() == task.weights[1]).all()


def test_evaluations_by_steps_and_a_last_one():
    _, _, _, records = run([1, 2, 3, 4], epochs=9, eval_interval=3, max_steps=7)
    assert [r["step"] for r in records if r["val_loss"] is not None] == [3, 6, 7]


def test_a_signal_ends_it_with_an_evaluation_after_the_next_step():
    records = []

    def tell(record):
        records.append(record)
        if record["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    _, task, model, _ = run([1, 5], tell=tell, epochs=4)
    assert [r["step"] for r in records if r["val_loss"] is not None] == [2, 4] and len(records) == 4
    assert (model.weight.numpy() == task.weights[1]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(value):
    model = Linear(2, 1, bias=False)
    model.weight.data = np.array([[value, 0.0]], np.float32)
    with pytest.raises(TrainingError, match=f"the loss became {value} at step 1, so nothing was saved"):
        run([1], model)
    assert model.weight.numpy()[0, 1] == 0
