"""THE table: a row for each public op, with the inputs on which every test of test_samples.py runs it.

To add an op, add a row: its NumPy reference and samples.  A sample is `at(makers.., params..)`: a maker draws one array of
floats, which is differentiated, and a params entry goes to the op and the reference as it is.  Makers know the op's domain;
points where it has no derivative (ties, kinks, poles) are kept away from here and have tests of their own in test_edges.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import references as ref

import tensorgrad as tg
from tensorgrad.graph import Op

Maker = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Sample:
    makers: tuple[Maker, ...]
    params: dict[str, Any]

    def arrays(self, dtype: Any = "float64") -> list[np.ndarray]:
        """The same arrays every time; in every dtype those that float16 can hold, so that results can be compared."""
        rng = np.random.default_rng(0)
        return [np.asarray(make(rng)).astype(np.float16).astype(dtype) for make in self.makers]


@dataclass(frozen=True)
class Row:
    reference: Callable | None  # the same on NumPy arrays
    samples: list[Sample]
    op: Callable | None = None  # how to call the op, if not by its name with the arrays first
    smooth: bool = True  # derivatives to order 3 are compared with finite differences, else to order 2
    analytic: bool = True  # the reference takes complex numbers too, for derivatives by a complex step
    half: bool = True  # takes float16
    differentiable: bool = True


def at(*makers: Maker, **params: Any) -> Sample:
    return Sample(makers, params)


# Makers


def normal(*shape: int) -> Maker:
    return lambda rng: rng.standard_normal(shape)


def uniform(low: float, high: float) -> Callable[..., Maker]:
    return lambda *shape: lambda rng: rng.uniform(low, high, shape)


positive, inside, above_one, fraction = uniform(0.5, 2), uniform(-0.9, 0.9), uniform(1.2, 3), uniform(0.05, 0.95)


def away_from_zero(*shape: int) -> Maker:
    return lambda rng: rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape)


def away_from_integers(*shape: int) -> Maker:
    return lambda rng: rng.integers(-3, 3, shape) + rng.choice([0.2, 0.3, 0.7, 0.8], shape)


def distinct(*shape: int) -> Maker:
    """Numbers at least 0.25 apart, and as far from 0."""
    return lambda rng: (rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) // 2) * 0.25 + 0.375


def some_zeros(*shape: int) -> Maker:
    return lambda rng: away_from_zero(*shape)(rng) * (rng.random(shape) < 0.6)


def spd(*shape: int) -> Maker:
    """Symmetric positive definite matrices, well conditioned."""

    def make(rng: np.random.Generator) -> np.ndarray:
        a = rng.standard_normal(shape)
        return np.round((a @ a.swapaxes(-1, -2) / shape[-1] + np.eye(shape[-1])) * 64) / 64

    return make


# Rows by kind


def unary(reference: Callable | None, make: Callable[..., Maker] = normal, **row: Any) -> Row:
    return Row(reference, [at(make(3, 4)), at(make()), at(make(2, 1, 3)), at(make(0, 3))], **row)


def binary(reference: Callable, left: Callable[..., Maker] = normal, right: Callable[..., Maker] = normal, **row: Any) -> Row:
    shapes = [
        ((2, 3), (2, 3)),
        ((3, 1), (1, 4)),
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((1,), (3,)),
        ((2, 1, 3), (4, 1)),
        ((4, 0), (4, 1)),
    ]
    return Row(reference, [at(left(*a), right(*b)) for a, b in shapes], **row)


def reduction(reference: Callable, make: Callable[..., Maker] = normal, empty: bool = False, **row: Any) -> Row:
    samples = [
        at(make(2, 3)),
        at(make(3, 4), axis=0),
        at(make(3, 4), axis=-1, keepdims=True),
        at(make(2, 3, 2), axis=(0, -1)),
        at(make(2, 3), keepdims=True),
        at(make(1, 1), axis=1),
        at(make()),
        at(make(0, 3), axis=-1),
    ]
    return Row(reference, samples + ([at(make(0, 3), axis=0), at(make(0))] if empty else []), **row)


def scan(reference: Callable, make: Callable[..., Maker] = normal) -> Row:
    return Row(reference, [at(make(5)), at(make(3, 4), axis=-1), at(make(2, 3), axis=0), at(make(2, 2)), at(make(2, 0), axis=1)])


# Every row.  "smooth=False" rows have kinks somewhere; "analytic=False" references know real numbers only.

# fmt: off
ELEMENTWISE = {
    "add": binary(np.add),
    "subtract": binary(np.subtract),
    "multiply": binary(np.multiply),
    "divide": binary(np.divide, normal, away_from_zero),
    "negative": unary(np.negative),
    "pow": binary(np.power, positive, normal),
    "abs": unary(np.abs, away_from_zero, smooth=False, analytic=False),
    "sign": unary(np.sign, away_from_zero, smooth=False, analytic=False),
    "square": unary(np.square),
    "sqrt": unary(np.sqrt, positive),
    "reciprocal": unary(np.reciprocal, away_from_zero),
    "exp": unary(np.exp),
    "expm1": unary(np.expm1),
    "log": unary(np.log, positive),
    "log1p": unary(np.log1p, positive),
    "log2": unary(np.log2, positive),
    "log10": unary(np.log10, positive),
    "logaddexp": binary(np.logaddexp, analytic=False),
    "sin": unary(np.sin),
    "cos": unary(np.cos),
    "tan": unary(np.tan, inside),
    "asin": unary(np.arcsin, inside),
    "acos": unary(np.arccos, inside),
    "atan": unary(np.arctan),
    "atan2": binary(np.arctan2, away_from_zero, away_from_zero, analytic=False),
    "sinh": unary(np.sinh),
    "cosh": unary(np.cosh),
    "tanh": unary(np.tanh),
    "asinh": unary(np.arcsinh),
    "acosh": unary(np.arccosh, above_one),
    "atanh": unary(np.arctanh, inside),
    "hypot": binary(np.hypot, away_from_zero, away_from_zero, analytic=False),
    "erf": unary(ref.erf, analytic=False),
    "erfc": unary(np.vectorize(math.erfc, otypes=[float]), analytic=False),
    "sigmoid": unary(lambda x: 1 / (1 + np.exp(-x))),
    "softplus": unary(lambda x: np.log1p(np.exp(x))),
    "relu": unary(lambda x: np.where(x.real > 0, x, 0), away_from_zero, smooth=False),
    "leaky_relu": Row(lambda x, negative_slope=0.01: np.where(x.real > 0, x, negative_slope * x), [at(away_from_zero(3, 4)),
        at(away_from_zero(), negative_slope=0.3), at(away_from_zero(0, 2))], smooth=False),
    "elu": Row(lambda x, alpha=1.0: np.where(x.real > 0, x, alpha * (np.exp(x) - 1)), [at(away_from_zero(3, 4)),
        at(away_from_zero(), alpha=0.5), at(away_from_zero(0, 2))], smooth=False),
    "maximum": binary(np.maximum, smooth=False),
    "minimum": binary(np.minimum, smooth=False),
    "clip": Row(lambda x, min=None, max=None: x if min is None and max is None else np.clip(x, min, max),
        [at(distinct(3, 4), min=-0.7, max=0.9), at(distinct(5), min=0.0), at(distinct(5), max=0.2), at(distinct(5)),
        at(distinct(2, 3), min=np.array([[-0.5], [0.25]], np.float16), max=1.0), at(distinct())], smooth=False),
    "where": Row(lambda x, y, condition: np.where(condition, x, y),
        [at(normal(2, 3), normal(2, 3), condition=np.array([[True, False, True], [False, False, True]])),
        at(normal(3), normal(2, 1), condition=np.array([True, False, True])), at(normal(), normal(2, 3), condition=True),
        at(normal(1), normal(1), condition=np.eye(3, dtype=bool))], op=lambda x, y, condition: tg.where(condition, x, y)),
    "astype": unary(lambda x: x, op=lambda x: tg.astype(tg.astype(x, np.float64), x.dtype)),
    "floor": unary(np.floor, away_from_integers, smooth=False, analytic=False),
    "ceil": unary(np.ceil, away_from_integers, smooth=False, analytic=False),
    "round": unary(np.round, away_from_integers, smooth=False),
}

SHAPE = {
    "reshape": Row(np.reshape, [at(normal(2, 6), shape=(3, -1)), at(normal(1), shape=()), at(normal(0, 3), shape=(3, 0))]),
    "permute_dims": Row(np.transpose, [at(normal(2, 3, 4), axes=(1, 2, 0)), at(normal(2, 3), axes=(-1, 0)),
        at(normal(), axes=())]),
    "transpose": Row(np.transpose, [at(normal(2, 3)), at(normal(2, 3, 4), axes=(2, 0, 1)), at(normal(3)), at(normal())]),
    "matrix_transpose": Row(np.matrix_transpose, [at(normal(2, 3)), at(normal(2, 3, 4)), at(normal(0, 3))]),
    "swapaxes": Row(np.swapaxes, [at(normal(2, 3, 4), axis1=0, axis2=-1), at(normal(2, 3), axis1=1, axis2=1)]),
    "moveaxis": Row(np.moveaxis, [at(normal(2, 3, 4), source=0, destination=-1),
        at(normal(2, 3, 4), source=(0, 2), destination=(-1, 0))]),
    "expand_dims": Row(np.expand_dims, [at(normal(2, 3), axis=1), at(normal(2, 3), axis=(0, -1)), at(normal(), axis=0)]),
    "squeeze": Row(np.squeeze, [at(normal(1, 3, 1)), at(normal(1, 3, 1), axis=-1), at(normal(1, 1), axis=(0, 1))]),
    "broadcast_to": Row(np.broadcast_to, [at(normal(3), shape=(2, 3)), at(normal(2, 1), shape=(4, 2, 3)),
        at(normal(), shape=(2,)), at(normal(1, 3), shape=(0, 3))]),
    "flip": Row(np.flip, [at(normal(2, 3)), at(normal(2, 3), axis=-1), at(normal(2, 3, 2), axis=(0, 2)),
        at(normal(0, 2), axis=0)]),
    "roll": Row(np.roll, [at(normal(2, 3), shift=2), at(normal(2, 3), shift=-1, axis=-1),
        at(normal(3, 4), shift=(1, 2), axis=(0, 1))]),
    "concat": Row(lambda *xs, **params: np.concatenate(xs, **params), [at(normal(2, 3), normal(1, 3)),
        at(normal(2, 3), normal(2, 0), normal(2, 1), axis=-1), at(normal(2, 2)), at(normal(2), normal(3, 1), axis=None)],
        op=lambda *xs, **params: tg.concat(xs, **params)),
    "stack": Row(lambda *xs, **params: np.stack(xs, **params), [at(normal(2, 3), normal(2, 3)),
        at(normal(2), normal(2), normal(2), axis=-1), at(normal(), normal()), at(normal(0, 2), axis=1)],
        op=lambda *xs, **params: tg.stack(xs, **params)),
    "unstack": Row(np.unstack, [at(normal(3, 2)), at(normal(2, 3), axis=-1), at(normal(1, 0))]),
    "split": Row(np.split, [at(normal(4, 3), indices_or_sections=2), at(normal(2, 5), indices_or_sections=[1, 4], axis=-1),
        at(normal(3), indices_or_sections=[0, 0, 5])]),
    "tile": Row(lambda x, repetitions: np.tile(x, repetitions), [at(normal(2, 3), repetitions=2),
        at(normal(3), repetitions=(2, 2)), at(normal(2, 1), repetitions=(0, 3)), at(normal(), repetitions=3)]),
    "repeat": Row(np.repeat, [at(normal(2, 3), repeats=2), at(normal(2, 3), repeats=[1, 0, 3], axis=-1),
        at(normal(2, 3), repeats=3, axis=0), at(normal(2), repeats=0)]),
    "pad": Row(np.pad, [at(normal(2, 3), pad_width=1), at(normal(2, 3), pad_width=((0, 2), (1, 0))),
        at(normal(3), pad_width=(1, 2), constant_values=0.5), at(normal(0, 2), pad_width=1)]),
    "tril": Row(np.tril, [at(normal(3, 4)), at(normal(2, 3, 3), k=-1), at(normal(3, 2), k=1), at(normal(0, 2))]),
    "triu": Row(np.triu, [at(normal(3, 4)), at(normal(2, 3, 3), k=-1), at(normal(3, 2), k=1), at(normal(0, 2))]),
    "diagonal": Row(lambda x, offset=0, axis1=-2, axis2=-1: np.diagonal(x, offset, axis1, axis2), [at(normal(3, 4)),
        at(normal(2, 3, 3), offset=1), at(normal(3, 2, 3), offset=-1, axis1=0, axis2=2), at(normal(2, 2), offset=5)]),
}

INDEX = {
    "getitem": Row(lambda x, key: x[key], [at(normal(3, 4), key=1),
        at(normal(3, 4), key=(slice(None, None, -2), slice(1, 3))), at(normal(3, 4), key=(..., None, -1)),
        at(normal(3, 4), key=[0, 0, 2]), at(normal(3, 4), key=(np.array([[0, 2], [2, 0]]), slice(None, 2))),
        at(normal(3, 4), key=(np.array([0, 2]), None, np.array([[1], [1]]))),
        at(normal(2, 3), key=np.array([[True, False, True], [False, True, False]])),
        at(normal(2, 3), key=np.zeros((2, 3), bool)), at(normal(3, 2), key=(np.array([True, False, True]), 1)),
        at(normal(3), key=np.zeros(0, int)), at(normal(), key=None), at(normal(), key=...)]),
    "index_update": Row(ref.index_update, [at(normal(3, 4), normal(4), key=1),
        at(normal(3, 4), normal(2, 1), key=(slice(0, 2), slice(1, 3))), at(normal(5), normal(3), key=[1, 3, 1]),
        at(normal(2, 3), normal(), key=np.array([[True, False, True], [False, True, False]])),
        at(normal(3), normal(0), key=np.zeros(0, int))], op=lambda x, values, key: tg.index_update(x, key, values)),
    "scatter_add": Row(ref.scatter_add,
        [at(normal(3, 2), normal(4, 2), axis=0, index=np.array([[0, 1], [0, 0], [2, 1], [0, 1]])),
        at(normal(2, 3), normal(2, 2), axis=1, index=np.array([[0, 2], [-1, 2]]))],
        op=lambda x, src, axis, index: tg.scatter_add(x, axis, index, src)),
    "take": Row(lambda x, index, axis=None: np.take(x, index, axis), [at(normal(3, 4), index=[0, 0, -1], axis=0),
        at(normal(2, 3), index=np.array([[0, 2], [2, 1]]), axis=-1), at(normal(2, 3), index=4),
        at(normal(2, 3), index=np.zeros(0, int), axis=1)]),
    "take_along_axis": Row(lambda x, index, axis=-1: np.take_along_axis(x, index, axis),
        [at(normal(2, 3), index=np.array([[0, 0], [2, -1]])), at(normal(3, 2), index=np.array([[0, 2]]), axis=0),
        at(normal(2, 3), index=np.array([[1]]))]),
    "embedding": Row(lambda weight, ids: weight[np.asarray(ids)], [at(normal(4, 3), ids=[[1, 3], [1, 1]]),
        at(normal(4, 3), ids=2), at(normal(4, 2), ids=np.zeros((0, 3), int))],
        op=lambda weight, ids: tg.embedding(ids, weight)),
    "sort": Row(lambda x, axis=-1, descending=False: np.flip(np.sort(x, axis), axis) if descending else np.sort(x, axis),
        [at(distinct(3, 4)), at(distinct(3, 2), axis=0, descending=True), at(distinct(0, 3)), at(distinct(5))], smooth=False),
    "topk": Row(ref.topk, [at(distinct(3, 4), k=2), at(distinct(4, 2), k=3, axis=0), at(distinct(3), k=0),
        at(distinct(3), k=3)], smooth=False),
    "argsort": Row(lambda x, axis=-1, descending=False: np.argsort(-x if descending else x, axis, kind="stable"),
        [at(distinct(3, 4)), at(distinct(3, 2), axis=0, descending=True)], differentiable=False),
    "argmax": Row(np.argmax, [at(distinct(3, 4)), at(distinct(3, 4), axis=-1, keepdims=True)], differentiable=False),
    "argmin": Row(np.argmin, [at(distinct(3, 4)), at(distinct(3, 4), axis=0)], differentiable=False),
    "nonzero": Row(np.nonzero, [at(some_zeros(3, 4)), at(some_zeros(0))], differentiable=False),
    "searchsorted": Row(np.searchsorted, [at(lambda rng: np.sort(rng.standard_normal(5)), normal(2, 3)),
        at(lambda rng: np.arange(3.0), positive(3), side="right")], differentiable=False),
}

REDUCE = {
    "sum": reduction(np.sum, empty=True),
    "prod": reduction(np.prod, empty=True),
    "mean": reduction(np.mean),
    "max": reduction(np.max, distinct, smooth=False),
    "min": reduction(np.min, distinct, smooth=False),
    "var": Row(ref.var, [*reduction(ref.var).samples, at(normal(3, 4), axis=-1, correction=1)]),
    "std": Row(np.std, [at(normal(2, 3)), at(normal(3, 4), axis=0), at(normal(2, 3, 2), axis=(0, -1), keepdims=True),
        at(normal(3, 4), axis=-1, correction=1)], analytic=False),
    "logsumexp": reduction(lambda x, axis=None, keepdims=False: np.log(np.sum(np.exp(x), axis, keepdims=keepdims))),
    "norm": Row(ref.norm, [*reduction(ref.norm, away_from_zero).samples,
        *[at(distinct(2, 3), ord=ord, axis=-1) for ord in (1, 3, 1.5, 0.5, math.inf, -math.inf)]], smooth=False,
        analytic=False),
    "cumulative_sum": scan(np.cumsum),
    "cumulative_prod": scan(np.cumprod),
    "any": reduction(np.any, some_zeros, differentiable=False),
    "all": reduction(np.all, some_zeros, differentiable=False),
}

LINEAR_ALGEBRA = {
    "matmul": Row(np.matmul, [at(normal(2, 3), normal(3, 2)), at(normal(3), normal(3)), at(normal(3), normal(2, 3, 2)),
        at(normal(2, 2, 3), normal(3)), at(normal(2, 1, 2, 3), normal(3, 3, 1)), at(normal(2, 0), normal(0, 3)),
        at(normal(0, 3), normal(3, 2))]),
    "vecdot": Row(lambda a, b, axis=-1: np.sum(a * b, axis), [at(normal(3), normal(3)), at(normal(2, 3), normal(3)),
        at(normal(3, 2), normal(3, 1), axis=0)]),
    "outer": Row(np.outer, [at(normal(3), normal(2)), at(normal(1), normal(3)), at(normal(0), normal(2))]),
    "trace": Row(lambda x, offset=0: np.trace(x, offset, -2, -1), [at(normal(3, 4)), at(normal(2, 3, 3), offset=-1),
        at(normal(2, 2), offset=3)]),
    "einsum": Row(lambda *xs, subscripts: np.einsum(subscripts, *xs), [at(normal(2, 3), normal(3, 2), subscripts="ij,jk->ik"),
        at(normal(3, 3), subscripts="ii->i"), at(normal(3, 3), subscripts="ii"), at(normal(2, 3, 1, 2), subscripts="abcd->bd"),
        at(normal(2, 1, 2, 3), normal(2, 3, 1), subscripts="...ij,...jk"), at(normal(2), normal(3), subscripts="i,j"),
        at(normal(2, 3), normal(3, 2), normal(2, 2), normal(2), subscripts="ij,jk,kl,l->i"), at(normal(0, 2), subscripts="ij->j"),
        at(normal(2, 1), normal(2, 3), subscripts="ij,ij->ij"), at(normal(2), normal(), subscripts="i,->")],
        op=lambda *xs, subscripts: tg.einsum(subscripts, *xs)),
    "tensordot": Row(np.tensordot, [at(normal(2, 3), normal(3, 2), axes=1), at(normal(2, 3, 2), normal(3, 2, 2)),
        at(normal(2, 3), normal(2, 3), axes=((-1, 0), (1, 0))), at(normal(2), normal(3), axes=0)]),
}

NAMESPACE = {  # stacks, for a single matrix of equal rows, which one of the tests makes, is singular
    "linalg.inv": Row(np.linalg.inv, [at(spd(1, 3, 3)), at(spd(2, 2, 2)), at(spd(1, 1)), at(normal(0, 2, 2))]),
    "linalg.solve": Row(np.linalg.solve, [at(spd(1, 2, 2), normal(2)), at(spd(2, 2, 2), normal(1, 2, 3)),
        at(spd(2, 2, 2), normal(2, 1)), at(spd(1, 1), normal(1, 0))]),
    "linalg.det": Row(np.linalg.det, [at(normal(3, 3)), at(spd(2, 2, 2)), at(normal(1, 1)), at(normal(0, 0))]),
    "linalg.slogdet": Row(lambda x: np.linalg.slogdet(x)[1], [at(spd(1, 3, 3)), at(spd(2, 2, 2)), at(spd(1, 1))], analytic=False,
        op=lambda x: tg.linalg.slogdet(x)[1]),
    "linalg.cholesky": Row(np.linalg.cholesky, [at(spd(1, 3, 3)), at(spd(2, 2, 2)), at(spd(2, 2, 2), upper=True), at(spd(1, 1))],
        analytic=False),
    "linalg.norm": Row(np.linalg.norm, [at(away_from_zero(2, 3)), at(distinct(3), ord=1), at(away_from_zero(2, 3), axis=0, ord=3),
        *[at(distinct(3, 4), ord=ord) for ord in ("fro", 1, -1, math.inf, -math.inf)],
        at(away_from_zero(2, 3, 2), ord=1, axis=(2, 0), keepdims=True)], smooth=False, analytic=False),
    "linalg.vector_norm": Row(np.linalg.vector_norm, [at(away_from_zero(2, 3)), at(distinct(2, 3), ord=1, axis=0, keepdims=True)],
        smooth=False, analytic=False),
    "linalg.matrix_norm": Row(np.linalg.matrix_norm, [at(away_from_zero(2, 2, 3)), at(distinct(2, 3), ord=-1, keepdims=True)],
        smooth=False, analytic=False),
    "linalg.matrix_power": Row(np.linalg.matrix_power, [at(spd(1, 2, 2), n=3), at(spd(2, 2, 2), n=-2), at(normal(2, 2), n=0)]),
    "linalg.cross": Row(np.linalg.cross, [at(normal(2, 3), normal(2, 3)), at(normal(3, 1), normal(3, 2), axis=0)]),
    "linalg.diagonal": Row(np.linalg.diagonal, [at(normal(2, 3, 2)), at(normal(3, 4), offset=-1)]),
    "linalg.trace": Row(np.linalg.trace, [at(normal(2, 3, 2)), at(normal(3, 4), offset=1)]),
}

LOGIC = {
    **{name: binary(getattr(np, name), differentiable=False) for name in """equal not_equal less less_equal greater greater_equal
        logical_and logical_or logical_xor""".split()},
    **{name: unary(getattr(np, name), some_zeros, differentiable=False) for name in "logical_not isnan isinf isfinite".split()},
}

IMAGES = {
    "conv1d": Row(ref.conv, [at(normal(1, 2, 4), normal(2, 2, 2), normal(2)), at(normal(2, 2, 5), normal(2, 1, 3), stride=2,
        padding=1, groups=2), at(normal(1, 1, 4), normal(1, 1, 2), padding="same"), at(normal(0, 1, 3), normal(1, 1, 2))]),
    "conv2d": Row(ref.conv, [at(normal(1, 1, 3, 3), normal(2, 1, 2, 2), normal(2)), at(normal(1, 2, 4, 3), normal(2, 1, 2, 1),
        normal(2), stride=(2, 1), padding=(1, 0), groups=2), at(normal(1, 1, 5, 3), normal(1, 1, 2, 2), dilation=(3, 1)),
        at(normal(2, 1, 2, 3), normal(1, 1, 3, 3), padding="same")]),
    "max_pool2d": Row(lambda x, *args, **kwargs: ref.pool("max", x, *args, **kwargs), [at(distinct(1, 2, 4, 4), kernel_size=2),
        at(distinct(1, 1, 5, 4), kernel_size=(3, 2), stride=2, padding=(1, 0), ceil_mode=True),
        at(distinct(1, 5, 5), kernel_size=2, stride=1, dilation=(2, 3))], smooth=False, analytic=False),
    "avg_pool2d": Row(lambda x, *args, **kwargs: ref.pool("mean", x, *args, **kwargs), [at(normal(1, 1, 4, 4), kernel_size=2),
        at(normal(1, 1, 4, 5), kernel_size=3, stride=2, padding=1, ceil_mode=True),
        at(normal(2, 4, 4), kernel_size=(2, 3), stride=1, padding=(0, 1), count_include_pad=False)]),
    "batch_norm": Row(ref.batch_norm, [at(normal(3, 2), normal(2), normal(2)), at(normal(2, 2, 3), normal(2)),
        at(normal(2, 1, 2, 2), eps=0.1), at(normal(2, 2), normal(2), mean=np.float16([0.5, -1]), var=np.float16([1, 2]))],
        op=lambda x, weight=None, bias=None, mean=None, var=None, eps=1e-5: tg.batch_norm(
            x, mean, var, weight, bias, training=mean is None, eps=eps)),
}

LEARNING = {
    "softmax": Row(ref.softmax, [at(normal(2, 5)), at(normal(3, 2), axis=0), at(normal(2, 3, 1)), at(normal()),
        at(normal(0, 3))]),
    "log_softmax": Row(ref.log_softmax, [at(normal(2, 5)), at(normal(3, 2), axis=0), at(normal(2, 3, 1)), at(normal()),
        at(normal(0, 3))]),
    "cross_entropy": Row(ref.cross_entropy, [at(normal(3, 4), targets=[1, 0, 3]),
        at(normal(2, 2, 3), targets=[[0, 2], [2, -100]], label_smoothing=0.1),
        at(normal(3, 4), targets=[1, 7, 7], ignore_index=7, reduction="sum"),
        at(normal(2, 3), targets=[2, 2], reduction="none"), at(normal(3), targets=1),
        at(normal(2, 3), targets=np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]), label_smoothing=0.2)]),
    "binary_cross_entropy": Row(lambda x, t, reduction="mean": ref.reduced(np.log1p(np.exp(x)) - t * x, reduction),
        [at(normal(2, 3), fraction(2, 3)), at(normal(3), fraction(3), reduction="none"),
        at(normal(), fraction(), reduction="sum")]),
    "mse_loss": Row(lambda x, t, reduction="mean": ref.reduced((x - t) ** 2, reduction), [at(normal(2, 3), normal(2, 3)),
        at(normal(3), normal(3), reduction="sum"), at(normal(), normal(), reduction="none")]),
    "kl_div": Row(ref.kl_div, [at(normal(2, 3), fraction(2, 3)), at(normal(3), fraction(3), reduction="mean"),
        at(normal(2), fraction(2), reduction="none")]),
    "layer_norm": Row(ref.layer_norm, [at(normal(2, 4), normal(4), normal(4)), at(normal(2, 2, 3), normal(3)), at(normal(5)),
        at(normal(2, 3), eps=0.1), at(normal(0, 3), normal(3))]),
    "rms_norm": Row(ref.rms_norm, [at(normal(2, 4), normal(4)), at(normal(2, 2, 3)), at(normal(5), eps=0.1),
        at(normal(0, 3), normal(3))]),
    "gelu": Row(ref.gelu, [at(normal(3, 4)), at(normal(), approximate="tanh"), at(normal(2, 3), approximate="tanh"),
        at(normal(0, 3))], analytic=False),
    "silu": unary(lambda x: x / (1 + np.exp(-x))),
    "linear": Row(lambda x, w, b=0.0, r=0.0: x @ w.T + b + r, [at(normal(2, 3), normal(4, 3), normal(4)),
        at(normal(2, 2, 3), normal(2, 3)), at(normal(3), normal(2, 3), normal(2)), at(normal(0, 3), normal(2, 3)),
        at(normal(2, 2, 3), normal(2, 3), normal(2), normal(2, 2, 2)), at(normal(3), normal(2, 3), normal(2), normal(2))]),
    "feed_forward": Row(ref.feed_forward, [at(normal(2, 3), normal(4, 3), normal(3, 4), normal(4), normal(3), normal(2, 3)),
        at(normal(2, 1, 3), normal(2, 3), normal(3, 2)), at(normal(2), normal(3, 2), normal(2, 3), normal(3), normal(2)),
        at(normal(0, 2), normal(3, 2), normal(2, 3))], analytic=False),
    "attention": Row(ref.attention, [at(normal(1, 2, 3, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2), causal=True),
        at(normal(1, 1, 2, 3), normal(1, 1, 4, 3), normal(1, 1, 4, 2)),
        at(normal(1, 1, 2, 2), normal(1, 1, 3, 2), normal(1, 1, 3, 1), causal=True, scale=0.4),
        at(normal(1, 4, 2, 1), normal(1, 2, 2, 1), normal(1, 2, 2, 1)),
        at(normal(1, 1, 2, 2), normal(1, 1, 2, 2), normal(1, 1, 2, 2), mask=np.array([[False, True], [False, False]])),
        at(normal(1, 1, 2, 2), normal(1, 1, 3, 2), normal(1, 1, 3, 2), normal(1, 2, 3)),
        at(normal(1, 1, 0, 2), normal(1, 1, 2, 2), normal(1, 1, 2, 2))],
        op=lambda q, k, v, bias=None, **params: tg.attention(q, k, v, bias=bias, **params)),
    "self_attention": Row(ref.self_attention, [at(normal(1, 3, 12), heads=2, causal=True),
        at(normal(2, 2, 3), heads=1, scale=0.4), at(normal(1, 2, 6), heads=1, mask=np.tri(2, dtype=bool)),
        at(normal(1, 0, 6), heads=2)]),
    "rotary": Row(ref.rotary, [at(normal(2, 3, 4)), at(normal(2, 4), interleaved=True),
        at(normal(2, 2), positions=[5, 0], base=100.0), at(normal(0, 2))]),
    "dropout": Row(lambda x, **params: x * tg.dropout(np.ones(x.shape), rng=np.random.default_rng(0), **params).data,
        [at(normal(3, 4)), at(normal(3), p=0.2), at(normal(3), p=1.0), at(normal(3), p=0.0), at(normal(3), training=False)],
        op=lambda x, **params: tg.dropout(x, rng=np.random.default_rng(0), **params)),
}
# fmt: on

TABLE: dict[str, Row] = {**ELEMENTWISE, **SHAPE, **INDEX, **REDUCE, **LINEAR_ALGEBRA, **NAMESPACE, **LOGIC, **IMAGES, **LEARNING}


def op_of(name: str) -> Callable:
    """The function under test: the row's own way to call it, or the public name, which may be dotted."""
    found: Any = TABLE[name].op
    if found is None:
        found = tg
        for part in name.split("."):
            found = getattr(found, part)
    return found


def public_ops() -> set[str]:
    """The names of all public ops, those in submodules dotted."""
    names = set()
    for prefix, module in (("", tg), ("linalg.", tg.linalg)):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            home = str(getattr(value, "__module__", ""))
            if prefix and value is getattr(tg, name, None):
                continue  # an op under its other name
            if isinstance(value, Op) or (callable(value) and home.startswith(("tensorgrad.ops", "tensorgrad.linalg"))):
                names.add(prefix + name)
    return names
