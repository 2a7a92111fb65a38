"""A function near one point, as the checks see it: long vectors of float64 in, out, and names for every entry.

`Problem` pushes and pulls vectors through the function's derivative, and gives the problem whose derivatives are the next order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from . import tree
from .autodiff import argument_tuple, linearize, vjp
from .graph import Tensor

MODES = {"fwd": "forward", "rev": "reverse"}


class GradientError(AssertionError):
    """A derivative is wrong; the message says where, and gives both numbers."""


class Problem:
    """y = f(xs) near one point, in float64, with the numbers of all xs in one long vector, and those of all ys in another."""

    def __init__(
        self,
        f: Callable[..., list[Tensor]],
        name: str,
        xs: Sequence[Tensor],
        names: Sequence[str],
        route: tuple[str, ...] = (),
    ):
        self.f, self.name, self.xs, self.names = f, name, list(xs), list(names)
        self.route = route  # the modes of the derivatives already taken
        self.ys = f(*self.xs)
        self.x, self.y = joined(self.xs), joined(self.ys)
        self._demand_sound()

    def _demand_sound(self) -> None:
        if not self.ys:
            raise ValueError(f"{self.name} returned no floating-point tensor, so there is nothing to differentiate")
        coarse = {str(y.dtype) for y in self.ys} - {"float64"}
        if coarse:
            raise ValueError(f"{self.name} returned {coarse.pop()} from float64 arguments, too coarse for finite differences")
        wild = ~np.isfinite(self.y)
        if wild.any():
            raise ValueError(
                f"{self.name} is not finite at {place(self.ys, 'output', int(np.argmax(wild)))}; check it at another point"
            )
        if not np.array_equal(self.y, self.value(self.x)):
            raise ValueError(f"{self.name} gave two results for the same arguments; give it the same random numbers each time")

    @property
    def order(self) -> int:
        """The order of the derivatives that `push` and `pull` give."""
        return len(self.route) + 1

    def value(self, x: np.ndarray) -> np.ndarray:
        """y at another point."""
        return joined(self.f(*split(x, self.xs)))

    @cached_property
    def _linear(self) -> Callable:
        return linearize(self.f, *self.xs)[1]

    @cached_property
    def _transposed(self) -> Callable:
        return vjp(self.f, *self.xs)[1]

    def push(self, t: np.ndarray) -> np.ndarray:
        """J t, by forward mode."""
        moved = self._linear(*split(t, self.xs))
        self._demand_like(moved, self.ys, "fwd", [f"output {i}" for i in range(len(self.ys))])
        return joined(moved)

    def pull(self, g: np.ndarray) -> np.ndarray:
        """J^T g, by reverse mode."""
        pulled = self._transposed(split(g, self.ys))
        self._demand_like(pulled, self.xs, "rev", self.names)
        return joined(pulled)

    def _demand_like(self, given: Sequence[Tensor], like: Sequence[Tensor], mode: str, names: Sequence[str]) -> None:
        for d, x, name in zip(given, like, names, strict=True):
            if (d.shape, d.dtype) != (x.shape, x.dtype):
                raise GradientError(
                    f"wrong derivative of {self.name}, {self.mode(mode)}: for {name} of shape {x.shape}, {x.dtype}, "
                    f"it has shape {d.shape}, {d.dtype}"
                )

    def mode(self, mode: str) -> str:
        """The modes so far and this one, as people say it: the last taken comes first."""
        names = [MODES[m] for m in (*self.route, mode)][::-1]
        return " over ".join(names) + (" mode" if len(names) == 1 else "")

    def derivative(self, mode: str, rng: np.random.Generator) -> Problem:
        """The problem (x, t) -> J t, or (x, g) -> J^T g, whose derivatives are the next order."""
        n = len(self.xs)
        if mode == "fwd":
            more, what = [_normal(x, rng) for x in self.xs], [f"the tangent of {name}" for name in self.names]

            def f(*zs: Tensor) -> list[Tensor]:
                return linearize(self.f, *zs[:n])[1](*zs[n:])
        else:
            more, what = [_normal(y, rng) for y in self.ys], [f"the cotangent of output {i}" for i in range(len(self.ys))]

            def f(*zs: Tensor) -> list[Tensor]:
                return list(vjp(self.f, *zs[:n])[1](list(zs[n:])))

        return Problem(f, self.name, [*self.xs, *more], [*self.names, *what], (*self.route, mode))


def joined(tensors: Sequence[Tensor]) -> np.ndarray:
    """All entries as one vector."""
    return np.concatenate([t._array.reshape(-1) for t in tensors]) if tensors else np.zeros(0)


def split(x: np.ndarray, like: Sequence[Tensor]) -> list[Tensor]:
    """The vector as Tensors of the shapes of `like`."""
    ends = np.cumsum([t.size for t in like])
    return [Tensor(x[end - t.size : end].reshape(t.shape).copy()) for t, end in zip(like, ends, strict=True)]


def _normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    return Tensor(np.asarray(rng.standard_normal(like.shape)))


def place(tensors: Sequence[Tensor], names: str | Sequence[str], i: int) -> str:
    """The name and index of entry `i` of the joined vector; a single name is for all of them, numbered."""
    k = 0
    while i >= tensors[k].size:
        i, k = i - tensors[k].size, k + 1
    index = tuple(int(n) for n in np.unravel_index(i, tensors[k].shape))
    name = names[k] if not isinstance(names, str) else names if len(tensors) == 1 else f"{names} {k}"
    return f"{name}, index {index}" if index else name


def problem_of(f: Callable, args: Any, what: str) -> Problem:
    """`f` as a function of the floating-point tensors in `args`, promoted to float64."""
    args = argument_tuple(args)
    leaves, rebuild = tree.flatten(args)
    floating = [i for i, x in enumerate(leaves) if x.dtype.kind == "f"]
    if not floating:
        raise ValueError(f"{what}: none of the {len(args)} arguments holds a floating-point tensor to differentiate by")
    names = [path for i, arg in enumerate(args) for path in tree.paths(arg, f"argument {i}")]

    def flat(*xs: Tensor) -> list[Tensor]:
        new = list(leaves)
        for i, x in zip(floating, xs, strict=True):
            new[i] = x
        return [y for y in tree.flatten(f(*rebuild(new)))[0] if y.dtype.kind == "f"]

    name = str(getattr(f, "name", None) or getattr(f, "__name__", type(f).__name__))
    xs = [Tensor(np.array(leaves[i]._array, np.float64)) for i in floating]
    for x, i in zip(xs, floating, strict=True):
        if not np.isfinite(x._array).all():
            raise ValueError(f"{what}: {names[i]} holds values that are not finite; check at another point")
    return Problem(flat, name, xs, [names[i] for i in floating])
