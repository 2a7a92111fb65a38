"""Buckets, shards and the team of one, without MPI: what is added up when, who keeps what, and what alone costs nothing."""

import subprocess
import sys

import numpy as np
import pytest
from training_runs import trainer_for

import tensorgrad as tg
from minigpt import buckets, optimizers, parallel
from minigpt.buckets import Buckets
from minigpt.errors import UserError
from minigpt.sharding import Shards, owners
from minigpt.team import ALONE, Team


class Request:
    def __init__(self, array):
        self.array, self.done = array, False

    def Test(self):
        return True

    def Wait(self):
        self.array *= 2  # as if another process had the same gradients
        self.done = True


class Twins(Team):
    """One of two processes that do the same."""

    size = 2

    def __init__(self, rank=0):
        self.rank, self.requests = rank, []

    def start_allreduce(self, array):
        self.requests.append(Request(array))
        return self.requests[-1]


def chain(monkeypatch, entries):
    """Four parameters of 3 entries in a chain, in buckets of at most `entries`, and the chain's output."""
    monkeypatch.setattr(buckets, "BYTES", 8 * entries)
    monkeypatch.setattr(buckets, "LEAST", 1)
    ps = [tg.tensor(np.full(3, 1.0 + i), requires_grad=True) for i in range(4)]
    team = Twins()
    y = tg.ones(3)
    for p in ps:
        y = tg.tanh(y * p)
    return ps, team, Buckets(ps, team), y.sum()


@pytest.mark.parametrize(("entries", "started"), [(1, [1, 2, 3, 4]), (6, [0, 1, 1, 2]), (9, [0, 0, 1, 2]), (12, [0, 0, 0, 1])])
def test_a_bucket_begins_as_soon_as_it_is_full(monkeypatch, entries, started):
    ps, team, made, loss = chain(monkeypatch, entries)
    seen = []

    def add(p):
        made.add(p)
        seen.append(len(team.requests))

    loss.backward(on_gradient=add)
    assert seen == started
    alone = [p.grad.data.copy() for p in ps]
    made.finish()
    assert all(request.done for request in team.requests)
    for p, g in zip(ps, alone, strict=True):
        np.testing.assert_array_equal(p.grad.data, 2 * g)


def test_buckets_serve_every_step_and_a_missing_gradient_is_zero(monkeypatch):
    ps, team, made, loss = chain(monkeypatch, 6)
    for p in ps:
        made.views[id(p)][...] = 7  # left from a step before
    (ps[0] * 3).sum().backward(on_gradient=made.add)
    made.finish()
    assert [p.grad.data.tolist() for p in ps] == [[6.0] * 3, *[[0.0] * 3] * 3]
    for p in ps:
        p.grad = None
    team.requests.clear()
    loss.backward(on_gradient=made.add)
    assert len(team.requests) == 2
    made.finish()
    assert ps[0].grad.data.any()


def test_the_last_layers_of_a_gpt_go_first():
    """All but the bucket of the embeddings, which are used first and complete last, begin before the walk is over."""
    trainer = trainer_for(n_layer=4)
    team = Twins()
    made = Buckets(trainer.model.parameters(), team)
    waiting = []

    def add(p):
        made.add(p)
        waiting.append(len(made.bounds) - len(team.requests))

    ids = np.arange(8)[None] % 11
    trainer.model.loss(ids, ids).backward(on_gradient=add)
    assert len(made.bounds) >= 4 and waiting[-1] == 0
    assert waiting[2 * len(waiting) // 3] <= len(made.bounds) - 2 and waiting[-3] == 1, waiting
    sizes = {id(p): p.size for p in trainer.model.parameters()}
    assert sum(sizes.values()) == made.bounds[-1] == made.flat.size


def test_a_team_of_two_that_agree_takes_the_steps_of_one():
    """Twice the half gradients; the twins compute the same rows, so the batch is one whose halves are equal."""
    alone, twin = trainer_for(), trainer_for()
    twin.team = Twins()
    twin.buckets = Buckets(twin.model.parameters(), twin.team)
    twin.team.allreduce = lambda value: 2 * value
    for trainer in (alone, twin):
        draw = trainer.batches.next
        trainer.batches.next = lambda draw=draw: tuple(np.concatenate([half[:2], half[:2]]) for half in draw())
    for _ in range(5):
        assert alone.update()["loss"] == pytest.approx(twin.update()["loss"], rel=1e-6)
    for p, q in zip(alone.model.parameters(), twin.model.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "members", "wanted"),
    [([3, 1, 2], 2, [0, 1, 1]), ([1, 1, 1, 1], 2, [0, 1, 0, 1]), ([5], 3, [0]), ([4, 4, 9], 3, [1, 2, 0])],
)
def test_owners_share_evenly(sizes, members, wanted):
    assert owners(sizes, members) == wanted


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_the_shards_together_are_the_whole(optimizer):
    """Each of three members keeps about a third of the state, nobody the same, and all of it is somewhere."""
    whole = trainer_for(optimizer=optimizer)
    whole.update()
    arrays, _ = optimizers.state(whole.optimizers)
    kept = []
    for rank in range(3):
        trainer = trainer_for(optimizer=optimizer)
        team = Twins(rank)
        team.size = 3
        shards = Shards(dict(trainer.model.named_parameters()), team)
        trainer.update()
        shards.forget(trainer.optimizers)
        kept.append(optimizers.state(trainer.optimizers)[0])
    names = [name for part in kept for name in part]
    assert sorted(names) == sorted(arrays)
    sizes = [sum(a.nbytes for a in part.values()) for part in kept]
    assert max(sizes) <= 1.3 * sum(sizes) / 3


def test_alone_everything_is_what_was_put_in():
    a = {"x": np.ones(2)}
    assert parallel.team() is ALONE and ALONE.leads and ALONE.size == 1
    assert ALONE.allreduce(2.5) == 2.5 and ALONE.largest(3) == 3 and ALONE.bcast("b") == "b" and ALONE.allgather(1) == [1]
    assert ALONE.collect(a) is a and ALONE.join(a["x"], [2]) is a["x"] and ALONE.rows(7) == slice(0, 7)
    with ALONE.first():
        ALONE.barrier()
    trainer = trainer_for(shard_optimizer=True)
    assert trainer.buckets is None and trainer.shards is None


def test_rows_are_shared_evenly_or_not_at_all():
    ranks = [Twins(rank) for rank in range(2)]
    assert [np.arange(6)[team.rows(6)].tolist() for team in ranks] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(UserError, match="--batch-size 5 cannot be shared by 2 processes: it must be a multiple of 2"):
        ranks[0].rows(5)


def test_one_process_imports_no_mpi_and_the_command_line_no_numpy():
    code = (
        "import sys, minigpt.cli; assert 'numpy' not in sys.modules; "
        "import minigpt.train; from minigpt import parallel; parallel.team(); assert 'mpi4py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_cores_of_a_machine_are_shared(monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(parallel.os, "environ", {"MPI_LOCALNRANKS": "3", "OMP_NUM_THREADS": "5"})
    parallel.share_cores()
    assert parallel.os.environ["NUMBA_NUM_THREADS"] == "2" and parallel.os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.setattr(parallel.os, "environ", {})
    parallel.share_cores()
    assert not parallel.os.environ


def test_several_processes_without_mpi4py_are_told_what_to_install(monkeypatch):
    monkeypatch.setattr(parallel, "_current", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(UserError, match=r"pip install 'tensorgrad\[mpi\]'"):
        parallel.team()
