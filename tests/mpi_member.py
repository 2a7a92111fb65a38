"""What a member of a team does in the tests of test_mpi.py: `mpiexec -n N python mpi_member.py TASK FOLDER`."""

import os
import sys
from pathlib import Path

from minigpt import cli, parallel

GENTLE = {"learning_rate": 1e-4, "grad_accum": 2, "sampling": "epoch"}
RUNS = {
    "sgd": {"optimizer": "sgd"},
    "sgd again": {"optimizer": "sgd"},
    "adamw, accumulated": GENTLE,
    "adamw, sharded": {
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "grad_accum": 2,
        "sampling": "epoch",
        "shard_optimizer": True,
    },
    "muon": {"optimizer": "muon"},
    "muon, sharded": {"optimizer": "muon", "shard_optimizer": True},
    "dropout": {"dropout": 0.2},
}


def change_one_step(step, act):
    """Let `act(trainer)` follow the step on the last member of the team."""
    from minigpt.trainer import Trainer

    update = Trainer.update

    def changed(self, **how):
        record = update(self, **how)
        if self.step == step and self.team.rank == self.team.size - 1:
            act(self)
        return record

    Trainer.update = changed
    return lambda: setattr(Trainer, "update", update)


def runs(folder):
    """Every run of RUNS; one that is stopped by a signal to one member, and resumed; and one that one process began."""
    import signal

    from training_runs import config_for, without_pictures

    from minigpt.errors import Interrupted
    from minigpt.resume import settings
    from minigpt.train import train

    without_pictures()
    for name, changes in RUNS.items():
        train(config_for(folder / "text", folder / name, **changes))
    put_back = change_one_step(10, lambda trainer: signal.raise_signal(signal.SIGTERM))
    for name in ("dropout", "adamw, sharded"):
        try:
            train(config_for(folder / "text", folder / f"{name}, resumed", **RUNS[name]))
            raise AssertionError("nothing stopped it")
        except Interrupted:
            pass
    put_back()
    for name in ("dropout, resumed", "begun alone"):
        parallel.team().barrier()
        train(settings(folder / name, {}, None), resumed=True)


def other_weights(trainer):
    p = trainer.model.ln_f.weight
    p.data = p.data + 1


def infinite_weights(trainer):
    p = trainer.model.ln_f.weight
    p.data = p.data * float("inf")


def one_fails(trainer):
    raise OSError(5, "the disk is gone", "file")


def dies(trainer):
    os.kill(os.getpid(), 9)


def told(trainer):
    """Say that this step is done, and wait for the signal that comes from outside."""
    import time

    print("now", flush=True)
    time.sleep(1)


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    parallel.share_cores()
    if task == "runs":
        runs(folder)
    else:
        change_one_step(15, globals()[task])
        sys.exit(cli.main(["train", *sys.argv[3:]]))
