"""Optimizer state divided among processes: ZeRO stage 1 (Rajbhandari et al. 2020, section 5.1).

Each parameter has one process that remembers its moments and moves it; then all tell each other the new values. With p
processes, N float32 weights and AdamW, a process keeps 8 N / p bytes of moments instead of 8 N, and 4 N bytes pass by after
each step. Parameters stay whole, which every rule allows, also one that orthogonalizes matrices; so no process can keep less
than the largest of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import tensorgrad as tg
from minigpt.team import Arrays, Team


def owners(sizes: Sequence[int], members: int) -> list[int]:
    """Who moves which: the largest first, each to whoever has least so far, the lower rank if equal."""
    load, owner = [0] * members, [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owner[i] = load.index(min(load))
        load[owner[i]] += sizes[i]
    return owner


class Shards:
    """Who of a team remembers what of the optimizers."""

    def __init__(self, parameters: Mapping[str, tg.Tensor], team: Team) -> None:
        self.team = team
        owner = owners([p.size for p in parameters.values()], team.size)
        self.parts = [[p for p, of in zip(parameters.values(), owner, strict=True) if of == r] for r in range(team.size)]
        self.foreign = [p for r, part in enumerate(self.parts) if r != team.rank for p in part]

    def step(self, optimizers: Sequence[tg.optim.Optimizer]) -> None:
        """Let each process move its own parameters, then share their new values; gradients stay."""
        gradients = [p.grad for p in self.foreign]
        for p in self.foreign:
            p.grad = None
        for optimizer in optimizers:
            optimizer.step()
        for p, gradient in zip(self.foreign, gradients, strict=True):
            p.grad = gradient
        self._share()

    def _share(self) -> None:
        own = self.parts[self.team.rank]
        flat = np.concatenate([p.data.reshape(-1) for p in own]) if own else np.zeros(0, self.foreign[0].dtype)
        whole = self.team.join(flat, [sum(p.size for p in part) for part in self.parts])
        start = 0
        for rank, part in enumerate(self.parts):
            for p in part:
                if rank != self.team.rank:
                    p.data = whole[start : start + p.size].reshape(p.shape)
                start += p.size

    def forget(self, optimizers: Sequence[tg.optim.Optimizer]) -> None:
        """Drop what others remember, after a whole state was taken over."""
        for optimizer in optimizers:
            for p in self.foreign:
                optimizer.state.pop(p, None)

    def collect(self, arrays: Arrays, counts: dict[str, int]) -> tuple[Arrays, dict[str, int]]:
        """The whole state on the leader: arrays and numbers of steps by name; elsewhere no more than the own arrays."""
        every = {name: count for theirs in self.team.allgather(counts) for name, count in theirs.items()}
        return self.team.collect(arrays), every
