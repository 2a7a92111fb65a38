"""Accumulated is the full batch, recomputed is remembered; a state goes through JSON and back, or is refused."""

import gc
import json
import math
import tracemalloc

import numpy as np
import pytest
from training_runs import largest_difference, trainer_for

from minigpt import optimizers
from minigpt.errors import UserError
from minigpt.objectives.objective import IGNORED, Batch
from minigpt.trainer import Trainer

RNG = np.random.default_rng(8)


def gradients(trainer, batches):
    loss = trainer._differentiate(batches)
    return loss, {name: p.grad.numpy().astype(np.float64) for name, p in trainer.model.named_parameters()}


def relative(a, b):
    return max(float(np.linalg.norm(a[name] - b[name]) / np.linalg.norm(b[name])) for name in a)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_batches_of_unequal_numbers_of_tokens_are_one_batch(smoothing):
    """12 sequences whole, and as 1 + 3 + 8 of them, of which some targets, or all of a sequence, do not count. Case 136."""
    ids, targets = RNG.integers(0, 11, (2, 12, 8))
    for row, counted in enumerate([8, 1, 0, 3, 8, 8, 2, 5, 8, 0, 7, 1]):
        targets[row, counted:] = IGNORED
    trainer = trainer_for(label_smoothing=smoothing)
    loss, whole = gradients(trainer, [Batch((ids,), targets)])
    parts = [Batch((ids[a:b],), targets[a:b]) for a, b in ((0, 1), (1, 4), (4, 12))]
    other_loss, accumulated = gradients(trainer, parts)
    assert abs(loss - other_loss) <= 1e-6 * loss
    assert relative(accumulated, whole) <= 1e-6
    mean_of_means = np.mean([gradients(trainer, [part])[0] for part in parts])
    assert abs(mean_of_means - loss) > 1e-4  # what it would be if each batch weighed the same


def test_steps_with_accumulation_are_steps_with_the_larger_batch():
    a, b = (
        trainer_for(batch_size=8, weight_decay=0.0, optimizer="sgd"),
        trainer_for(batch_size=2, grad_accum=4, weight_decay=0.0, optimizer="sgd"),
    )
    for _ in range(5):
        one, four = a.update(), b.update()
        assert abs(one["loss"] - four["loss"]) <= 1e-6 * one["loss"]
    weights, other = a.model.state_dict(), b.model.state_dict()
    assert max(float(np.abs(weights[name] - other[name]).max()) for name in weights) <= 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputed_activations_give_the_same_bits(dropout):
    states = []
    for recomputed in (False, True):
        trainer = trainer_for(dropout=dropout, checkpoint_activations=recomputed)
        losses = [trainer.update()["loss"] for _ in range(4)]
        states.append((losses, trainer.state()[0] | trainer.model.state_dict()))
    assert states[0][0] == states[1][0]
    assert largest_difference(states[0][1], states[1][1]) == 0.0


def test_recomputed_activations_take_less_memory():
    peaks = []
    for recomputed in (False, True):
        trainer = trainer_for(n_layer=8, n_embd=32, block_size=64, batch_size=16, checkpoint_activations=recomputed)
        batches = [trainer.objective(*trainer.batches.next(), trainer.noise_rng)]
        trainer._differentiate(batches)
        gc.collect()
        tracemalloc.start()
        trainer._differentiate(batches)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.5 * peaks[0], peaks  # 6.9 and 22.4 MB where it was written


def test_label_smoothing_is_its_definition():
    trainer = trainer_for(label_smoothing=0.3)
    ids, targets = trainer.batches.next()
    loss = trainer._differentiate([Batch((ids,), targets)])
    logits = trainer.model(ids).numpy().astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = 0.7 * np.eye(11)[targets] + 0.3 / 11
    assert loss == pytest.approx(-(wanted * logp).sum(-1).mean(), rel=1e-6)


def test_a_state_goes_through_json():
    a, b = trainer_for(dropout=0.1, seed=1), trainer_for(dropout=0.1, seed=2)
    for _ in range(3):
        a.update()
    a.observe(1.5)
    arrays, state = a.state()
    b.restore(a.model.state_dict(), {name: value.copy() for name, value in arrays.items()}, json.loads(json.dumps(state)))
    for _ in range(3):
        assert a.update()["loss"] == b.update()["loss"]
    assert largest_difference(a.model.state_dict(), b.model.state_dict()) == 0.0


def test_moments_are_found_by_name_whatever_the_order():
    """Case 212."""
    a, b = trainer_for(), trainer_for()
    a.update()
    for optimizer in b.optimizers:
        for group in optimizer.param_groups:
            group["params"].reverse()
            group["param_names"].reverse()
    arrays, counts = optimizers.state(a.optimizers)
    optimizers.restore(b.optimizers, arrays, counts)
    assert largest_difference(optimizers.state(b.optimizers)[0], arrays) == 0.0


def broken_states():
    def without(name):
        return lambda state, arrays: state.pop(name)

    def with_value(name, value):
        return lambda state, arrays: state.update({name: value})

    for name in ("step", "seconds", "batches", "dropout", "optimizer_steps", "schedule", "norms", "bad_steps", "stale", "best"):
        yield f"no {name}", without(name)
        yield f"{name} of text", with_value(name, "x")
    yield "nan", with_value("seconds", math.nan)
    yield "a negative step", with_value("step", -1)
    yield "a step that is true", with_value("step", True)
    yield "a best that is nan", with_value("best", [math.nan, 3])
    yield "a stream of another kind", lambda state, _: state["batches"].update(bit_generator="MT19937")
    yield "a stream too large", lambda state, _: state["batches"]["state"].update(state=2**200)
    yield "a stream that is negative", lambda state, _: state["dropout"]["state"].update(state=-1)
    yield "a norm that is nan", with_value("norms", [math.nan])
    yield "another parameter", lambda _, arrays: arrays.update({"other/exp_avg": arrays.pop("ln_f.bias/exp_avg")})
    yield "a slot of another rule", lambda _, arrays: arrays.update({"ln_f.bias/sum": arrays.pop("ln_f.bias/exp_avg")})
    yield (
        "a lost parameter",
        lambda state, arrays: (
            [arrays.pop("ln_f.bias/" + s) for s in ("exp_avg", "exp_avg_sq")] and state["optimizer_steps"].pop("ln_f.bias")
        ),
    )
    yield "another shape", lambda _, arrays: arrays.update({"ln_f.bias/exp_avg": np.zeros(3, np.float32)})


@pytest.fixture(scope="module")
def saved():
    trainer = trainer_for()
    trainer.update()
    return trainer.model.state_dict(), *trainer.state()


@pytest.mark.parametrize("change", dict(broken_states()).values(), ids=dict(broken_states()))
def test_a_malformed_state_is_one_sentence(saved, change):
    weights, arrays, state = saved
    arrays, state = dict(arrays), json.loads(json.dumps(state))
    change(state, arrays)
    with pytest.raises(UserError) as caught:
        trainer_for().restore(weights, arrays, state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "muon", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_learns_and_moves_every_parameter(optimizer):
    tokens = np.tile(np.arange(11), 40)
    rate = 0.003 if optimizer == "rmsprop" else 0.02
    trainer = Trainer(trainer_for(optimizer=optimizer, learning_rate=rate, schedule="constant").config, tokens, 11)
    before = {name: value.copy() for name, value in trainer.model.state_dict().items()}
    losses = [trainer.update()["loss"] for _ in range(20)]
    assert losses[-1] < losses[0] - 0.05
    assert all((before[name] != p.data).any() for name, p in trainer.model.named_parameters())
    moved = [p for o in trainer.optimizers for p in o.parameters()]
    assert len({id(p) for p in moved}) == len(moved) == len(list(trainer.model.parameters()))


def test_the_global_random_state_is_neither_read_nor_changed():
    """Case 170."""
    np.random.seed(1)
    a = trainer_for(dropout=0.5).update()["loss"]
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    assert trainer_for(dropout=0.5).update()["loss"] == a
    np.random.seed(1)
    trainer_for(dropout=0.5).update()
    assert np.array_equal(np.random.get_state()[1], state)
