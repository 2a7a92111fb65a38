"""The gradient of a fused op as a node of its own, for a backward pass through which a tangent will be pushed.

A Hessian-vector product records the gradient and pushes a tangent through it.  Recording a fused op's gradient as one node lets
its kernel do both: `backward` gives the value, `backward_tangent` the tangent.  Any other derivative comes from the definition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff import pull, push, variable, zeros_like
from ..cotangents import Late
from ..graph import Op, Tensor, setting, state


class Gradients:
    """One backward pass of a fused op: what its nodes, one for each input that wants a gradient, share."""

    def __init__(self, name: str, body: Callable, kernel: Any, selective: bool, out: Tensor):
        self.name, self.body, self.kernel, self.selective, self.params = name, body, kernel, selective, out.params
        self.y, self.saved = out._array, out.saved
        self.pushed: tuple[Sequence[Tensor | None], Sequence[np.ndarray]] = ((), ())

    def nodes(self, g: Tensor, xs: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
        """The gradients, recorded, but not made before one is read, and then alone if the kernel can: often nobody reads them."""
        arrays = [x._array for x in xs]
        backward = functools.partial(self.kernel.backward, g._array, self.y, self.saved, *arrays, **self.params)
        whole = functools.cache(backward)

        def make(which: int) -> np.ndarray:
            return (backward(wanted=[i == which for i in range(len(xs))]) if self.selective else whole())[which]

        return [Gradient(self, i, make)(g, *xs) if want else None for i, want in enumerate(wanted)]

    def tangents(self, g: Tensor, xs: Sequence[Tensor], moving: Sequence[Tensor | None]) -> Sequence[np.ndarray]:
        """The tangents of all gradients; kept, because each node asks in turn with the same tangents of the same inputs."""
        asked, found = self.pushed
        if len(asked) != len(moving) or any(a is not b for a, b in zip(asked, moving, strict=True)):
            tg, *ts = (None if t is None else t._array for t in moving)
            arrays = [x._array for x in xs]
            found = self.kernel.backward_tangent(tg, tuple(ts), g._array, self.y, self.saved, *arrays, **self.params)
            self.pushed = (tuple(moving), found)
        return found


class Gradient(Op):
    """(g, x1, .., xn) -> the cotangent of x_i."""

    def __init__(self, gradients: Gradients, which: int, make: Callable[[int], np.ndarray]):
        self.name = f"{gradients.name}_gradient"
        self.gradients, self.which, self.make = gradients, which, make

    def __call__(self, *inputs: Tensor) -> Tensor:
        out = Late(lambda: self.make(self.which))
        self.record(out, inputs, {}, ())
        return out

    def _definition(self, out: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradient, recorded in Tensor ops, and the variables it is a function of."""
        with setting(recording=True, expanded=True):
            g, *xs = inputs = [variable(x) for x in out.inputs]
            (gradient,) = pull([self.gradients.body(*xs, **self.gradients.params)], [g], [xs[self.which]], differentiable=True)
        return zeros_like(out) if gradient is None else gradient, inputs

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        differentiable = state.recording
        gradient, inputs = self._definition(out)
        return pull([gradient], [g], inputs, differentiable)

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        if not state.recording:
            g, *xs = out.inputs
            return Tensor(self.gradients.tangents(g, xs, tangents)[self.which])
        gradient, inputs = self._definition(out)
        moving = [(x, t) for x, t in zip(inputs, tangents, strict=True) if t is not None]
        return push([gradient], [x for x, _ in moving], [t for _, t in moving], differentiable=True)[0]
