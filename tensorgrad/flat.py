"""A function of a tree as a function of one long vector of float64, which is what solvers and spectra work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .autodiff import grad, linearize, value_and_grad
from .graph import Tensor, setting
from .transforms import jacobian

Vector = np.ndarray
Product = Callable[[Vector], Vector]


class Flat:
    """f at points given as vectors; f computes in the dtypes of the tree `x`, which gives the shapes."""

    def __init__(self, f: Callable, x: Any):
        self.f = f
        self.like, self.rebuild = tree.flatten(x)
        self.rebuild_parts = tree.flatten(tree.parts(x))[1]
        if not self.like or any(leaf.dtype.kind != "f" for leaf in self.like):
            raise TypeError("x must hold floating-point tensors, and nothing but them")
        self.size = sum(leaf.size for leaf in self.like)
        self.eps = max(float(np.finfo(leaf.dtype).eps) for leaf in self.like)
        self.start = concatenated(self.like)

    def tensors(self, vector: Vector) -> list[Tensor]:
        """The entries of the vector as tensors of the shapes and dtypes of the tree."""
        pieces = np.split(vector, np.cumsum([leaf.size for leaf in self.like])[:-1])
        return [Tensor(v.reshape(leaf.shape).astype(leaf.dtype)) for v, leaf in zip(pieces, self.like, strict=True)]

    def point(self, vector: Vector) -> Any:
        """What f takes: a tree like x."""
        return self.rebuild(self.tensors(vector))

    def parts(self, vector: Vector) -> Any:
        """A plain tree: like x, but a dict by name for a Module."""
        return self.rebuild_parts(self.tensors(vector))

    def outputs(self, vector: Vector) -> Vector:
        """f, whatever it returns, as a vector."""
        with setting(recording=False):
            return concatenated(tree.flatten(self.f(self.point(vector)))[0])

    def value(self, vector: Vector) -> float:
        """f, a single number."""
        return float(self.outputs(vector)[0])

    def value_and_gradient(self, vector: Vector) -> tuple[float, Vector]:
        """f, a single number, and its gradient."""
        value, gradient = value_and_grad(self.f)(self.point(vector))
        return float(value.item()), concatenated(tree.flatten(gradient)[0])

    def gradient_and_hessian(self, vector: Vector) -> tuple[Vector, Product]:
        """The gradient, and v -> H v; the gradient is recorded once and pushed through for every v."""
        gradient, push = linearize(grad(self.f), self.point(vector))
        return concatenated(tree.flatten(gradient)[0]), lambda v: concatenated(tree.flatten(push(self.parts(v)))[0])

    def jacobian(self, vector: Vector) -> np.ndarray:
        """(outputs, entries): the whole Jacobian, by rows or by columns, whichever are fewer."""
        point = self.point(vector)
        blocks = tree.flatten(jacobian(self.f)(point))[0]  # one for each output and leaf, of both their shapes together
        columns = len(self.like)
        rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
        sized = [zip(row, self.like, strict=True) for row in rows]
        return np.concatenate(
            [
                np.concatenate([b._array.reshape(_quotient(b.shape, leaf.shape), leaf.size) for b, leaf in row], axis=1)
                for row in sized
            ],
            axis=0,
            dtype=np.float64,
        )


def _quotient(shape: tuple[int, ...], inner: tuple[int, ...]) -> int:
    return int(np.prod(shape[: len(shape) - len(inner)], dtype=np.int64))


def concatenated(leaves: Sequence[Tensor]) -> Vector:
    """All entries, one after another, in float64."""
    return np.concatenate([leaf._array.reshape(-1) for leaf in leaves], dtype=np.float64)
