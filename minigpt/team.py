"""The processes that train one model together, and what they tell each other: a team of one, and one on MPI."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigpt.errors import UserError

NAP = 0.01  # seconds between two looks of one who waits long

Arrays = dict[str, np.ndarray]


class Team:
    """This process alone; every exchange gives back what is put in. Members of a larger team call each method together."""

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is the member that writes."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This member's rows of a batch; a batch that cannot be shared evenly is a UserError."""
        if batch % self.size:
            wanted = f"it must be a multiple of {self.size}"
            raise UserError(f"--batch-size {batch} cannot be shared by {self.size} processes: {wanted}")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def allreduce(self, value: float) -> float:
        """The sum over members, the same bits for all."""
        return value

    def largest(self, value: int) -> int:
        """The largest of the members' values."""
        return value

    def start_allreduce(self, array: np.ndarray) -> Any:
        """Begin to replace the array by its sum over members; a request with Test() and Wait()."""
        raise NotImplementedError("one process has nothing to add up")

    def allgather(self, value: Any) -> list[Any]:
        """The value of each member, by rank."""
        return [value]

    def bcast(self, value: Any) -> Any:
        """The leader's value."""
        return value

    def join(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """The members' parts, of `counts` numbers each, one after another."""
        return part

    def collect(self, arrays: Arrays) -> Arrays:
        """On the leader, the arrays of all members, whose names differ; on another, its own."""
        return arrays

    def barrier(self) -> None:
        """Wait, asleep, until all are here."""

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """The leader runs the block, then the others do: for what the first one leaves behind for them in a cache."""
        if not self.leads:
            self.barrier()
        yield
        if self.leads:
            self.barrier()

    def abort(self, code: int) -> None:
        """End all members at once."""


class MPITeam(Team):
    """The processes that `mpiexec` started, in MPI's words."""

    def __init__(self) -> None:
        try:
            self.mpi = importlib.import_module("mpi4py.MPI")
        except ImportError as error:
            raise UserError(
                f"this is one of several processes, which need MPI ({error}): pip install 'tensorgrad[mpi]'"
            ) from None
        self.comm = self.mpi.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size

    def allreduce(self, value: float) -> float:
        return sum(self.comm.allgather(value))

    def largest(self, value: int) -> int:
        found = np.empty(1, np.int64)
        self.comm.Allreduce(np.array([value], np.int64), found, op=self.mpi.MAX)
        return int(found[0])

    def start_allreduce(self, array: np.ndarray) -> Any:
        return self.comm.Iallreduce(self.mpi.IN_PLACE, array, op=self.mpi.SUM)

    def allgather(self, value: Any) -> list[Any]:
        return self.comm.allgather(value)

    def bcast(self, value: Any) -> Any:
        return self.comm.bcast(value)

    def join(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        whole = np.empty(sum(counts), part.dtype)
        self.comm.Allgatherv(part, [whole, list(counts)])
        return whole

    def collect(self, arrays: Arrays) -> Arrays:
        described = self.comm.gather({name: (array.shape, array.dtype) for name, array in arrays.items()})
        if not self.leads:
            for array in arrays.values():
                self.comm.Send(np.ascontiguousarray(array), dest=0)
            return arrays
        every = dict(arrays)
        for source, theirs in enumerate(described):
            for name, (shape, dtype) in theirs.items() if source else ():
                every[name] = np.empty(shape, dtype)
                self.comm.Recv(every[name], source=source)
        return every

    def barrier(self) -> None:
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(NAP)

    def abort(self, code: int) -> None:
        sys.stderr.flush()
        with open(os.devnull, "w") as nowhere:  # MPI repeats that it ends; we have said why
            os.dup2(nowhere.fileno(), 2)
        self.comm.Abort(code)


ALONE = Team()
