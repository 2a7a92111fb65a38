"""How a process finds the team that it trains in, and how it leaves: MPI where `mpiexec` started it, else a team of one.

All members go through the same steps in the same order, and whatever they decide by, they have agreed on. The first one, the
leader, writes and speaks; the others are silent, unless they alone see what went wrong. Only the standard library is imported
here, so that one process pays nothing.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt.team import Team

RANKS, SIZES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK"), ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # MPICH and Open MPI
NEIGHBOURS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")  # the processes on this machine
PATIENCE = 10.0  # seconds that the others give the leader to speak of an error that all may have

_current: Team | None = None


def team() -> Team:
    """The team of this process; MPI begins with the first call. UserError if mpi4py is missing where it is needed."""
    global _current
    if _current is None:
        from minigpt.team import ALONE, MPITeam

        _current = MPITeam() if _number(SIZES, 1) > 1 else ALONE
    return _current


def share_cores() -> None:
    """Leave each of the processes on this machine its part of the cores, unless the environment says otherwise.

    To be called before Numba and NumPy are imported.
    """
    if (neighbours := _number(NEIGHBOURS, 1)) > 1:
        allowed = getattr(os, "sched_getaffinity", None)
        cores = len(allowed(0)) if allowed else os.cpu_count() or 1
        for name in ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, str(max(1, cores // neighbours)))


def leave(message: str, code: int, together: bool = False) -> int:
    """Say once for the whole team why it ends, and end it; the exit code.

    `together` means that all members leave with the same words. Otherwise whoever is here first ends the rest; the others
    wait a moment for the leader, who says the same if it is in the same trouble.
    """
    rank = _number(RANKS, 0)
    started = _current is not None and _current.size > 1
    if rank and (together or not started):
        return code
    if rank:
        time.sleep(PATIENCE)
        message = f"{message} (in process {rank})" if message else ""
    if message:
        print(message, file=sys.stderr)
    if started and not together:
        team().abort(code)
    return code


def crashed() -> None:
    """End all members after an error that nobody foresaw, with the traceback; alone, do nothing."""
    if _current is not None and _current.size > 1:
        traceback.print_exc()
        _current.abort(1)


def _number(names: Sequence[str], default: int) -> int:
    """The first of these variables of the environment that is a number."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), default)
