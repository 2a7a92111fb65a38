"""Gradients added up over processes while the backward pass is still going on.

The gradients of a model lie one after another in a flat array, in the order in which a backward pass completes them: the
last layers first. The array is cut into a few buckets; as soon as all of a bucket is there, its sum over the processes begins
(Li et al. 2020, "PyTorch Distributed", section 3.2). Every process starts them in the same order, as MPI asks, and the same
number of processes always adds the terms in the same order, so a run has the same bits each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.team import Team

BYTES = 4 << 20  # the most in a bucket, unless a single gradient is larger
LEAST = 4  # buckets, so that a small model too hides most of its exchange


class Buckets:
    """The gradients of `parameters`, which the backward pass is thought to complete last to first."""

    def __init__(self, parameters: Iterable[tg.Tensor], team: Team) -> None:
        self.team = team
        self.parameters = list(parameters)[::-1]
        sizes = [p.size for p in self.parameters]
        ends = np.cumsum(sizes).tolist()
        self.flat = np.zeros(ends[-1], self.parameters[0].dtype)
        self.views = {
            id(p): self.flat[end - size : end].reshape(p.shape) for p, size, end in zip(self.parameters, sizes, ends, strict=True)
        }
        self.bounds = _cut(sizes, min(BYTES // self.flat.itemsize, -(-ends[-1] // LEAST)))
        self.bucket = {id(p): int(np.searchsorted(self.bounds, end)) for p, end in zip(self.parameters, ends, strict=True)}
        self._begin()

    def _begin(self) -> None:
        self.missing = [set[int]() for _ in self.bounds]
        for key, number in self.bucket.items():
            self.missing[number].add(key)
        self.requests: list[Any] = []

    def add(self, p: tg.Tensor) -> None:
        """Take p's complete gradient, and begin with the buckets that are full; a leaf of another model is passed over."""
        if id(p) not in self.views or p.grad is None:
            return
        self.views[id(p)][...] = p.grad.data
        self.missing[self.bucket[id(p)]].discard(id(p))
        while len(self.requests) < len(self.bounds) and not self.missing[len(self.requests)]:
            self._start()
        for request in self.requests:
            request.Test()  # MPI makes progress while it is called

    def _start(self) -> None:
        i = len(self.requests)
        self.requests.append(self.team.start_allreduce(self.flat[self.bounds[i - 1] if i else 0 : self.bounds[i]]))

    def finish(self) -> None:
        """Put the sums into the parameters' `grad`; they lie in the flat array until the next pass. No gradient counts as 0."""
        for key in set().union(*self.missing):
            self.views[key][...] = 0
        while len(self.requests) < len(self.bounds):
            self._start()
        for request in self.requests:
            request.Wait()
        for p in self.parameters:
            p.grad = tg.Tensor(self.views[id(p)])
        self._begin()


def _cut(sizes: list[int], most: int) -> list[int]:
    """The ends of runs of whole parameters with at most `most` entries, or a single parameter, each."""
    ends, start, position = [], 0, 0
    for size in sizes:
        if position > start and position + size - start > most:
            ends.append(position)
            start = position
        position += size
    return [*ends, position]
