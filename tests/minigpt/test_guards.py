"""A number that is not finite stops before the step, with its op, module and step; a few may be passed over."""

import math

import numpy as np
import pytest
from training_runs import trainer_for

import tensorgrad as tg
from minigpt.errors import TrainingError
from minigpt.guards import NEEDED, NormWatch


def poisoned(kind, **settings):
    """A trainer whose third step meets an infinity in the forward or in the backward pass."""
    trainer = trainer_for(**settings)
    for _ in range(2):
        trainer.update()
    block = trainer.model.h[1]
    forward = block.mlp.c_fc.forward
    if kind == "loss":
        block.mlp.c_fc.forward = lambda x: tg.exp(forward(x) + 1000.0)
    else:
        block.mlp.c_fc.forward = lambda x: forward(x) + tg.sqrt(tg.abs(x).sum() * 0.0)
    return trainer


def everything(trainer):
    arrays = trainer.state()[0] | trainer.model.state_dict()
    return {name: value.tobytes() for name, value in arrays.items()}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("loss", ["the loss became nan at step 3", "exp of finite inputs", "gave inf", "h.1.mlp.c_fc"]),
        ("gradient norm", ["the gradient norm became nan at step 3", "the reverse rule of", "h.1.mlp.c_fc"]),
    ],
)
@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_message_names_op_module_and_step(kind, words, accumulated):
    """Case 218."""
    trainer = poisoned(kind, dropout=0.1, grad_accum=accumulated)
    before = everything(trainer)
    with pytest.raises(TrainingError) as caught:
        trainer.update()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and caught.value.exit_code == 1
    assert everything(trainer) == before


def test_weights_that_were_not_finite_before_are_named():
    trainer = trainer_for()
    trainer.model.ln_f.weight.data = np.full(8, math.nan, np.float32)
    with pytest.raises(TrainingError, match=r"at step 1 \(the weights of ln_f\.weight are not finite themselves\)"):
        trainer.update()


def test_two_bad_steps_may_pass_and_the_third_in_a_row_stops():
    """Cases 219 and 220."""
    trainer = poisoned("loss", skip_bad_steps=2)
    before = everything(trainer)
    for step in (3, 4):
        record = trainer.update()
        assert record["step"] == step and math.isnan(record["loss"])
        assert record["note"] == "the loss became nan: no update" and everything(trainer) == before
    with pytest.raises(TrainingError, match="at step 5"):
        trainer.update()


def test_a_good_step_between_starts_the_count_again():
    trainer = poisoned("loss", skip_bad_steps=1)
    fc = trainer.model.h[1].mlp.c_fc
    broken = fc.forward
    for _ in range(3):
        fc.forward = broken
        assert "note" in trainer.update()
        del fc.forward
        assert "note" not in trainer.update()


def test_a_spike_is_told_from_the_usual():
    watch = NormWatch()
    assert [watch.note(norm) for norm in [5.0, *[1.0] * NEEDED]] == [None] * (NEEDED + 1)
    assert watch.note(9.9) is None
    assert watch.note(25.0) == "gradient norm 25 is 25 times the usual 1"
    quiet = NormWatch()
    assert [quiet.note(0.0) for _ in range(NEEDED + 5)] == [None] * (NEEDED + 5) and quiet.note(1.0) is None


def test_a_spike_is_in_the_record():
    trainer = trainer_for(grad_clip=1.0, optimizer="sgd", learning_rate=1e-6)
    for _ in range(NEEDED):
        assert "note" not in trainer.update()
    trainer.model.wte.weight.data = trainer.model.wte.weight.data * 1000
    assert "times the usual" in trainer.update()["note"]
