"""Einstein's summation: products of tensors summed over named axes, two operands at a time, each pair one matrix product."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..graph import Tensor, as_tensor
from . import kinds
from .elementwise import multiply
from .linalg import matmul
from .reduce import sum
from .shape import _reshape, diagonal, permute_dims

Label = str | int  # a letter, or the place from the end of an axis that '...' stands for
Term = tuple[Tensor, tuple[Label, ...]]


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """y[output] = the sum, over the indices not in the output, of the operands' product, as numpy.einsum: 'ij,jk->ik' is matmul.

    '...' stands for axes that broadcast; a letter twice in one operand takes the diagonal; without '->' the output has the
    letters that occur once, in alphabetical order.  Raises ValueError naming the operand, or the index and its lengths.
    """
    xs = [as_tensor(x, operands) for x in operands]
    inputs, output = _parse(subscripts, [x.shape for x in xs])
    lengths = _lengths(subscripts, inputs, [x.shape for x in xs])
    terms = [_distinct(*_stretched(x, labels, lengths)) for x, labels in zip(xs, inputs, strict=True)]
    for group in _groups(subscripts, xs):
        chosen = [terms.pop(i) for i in sorted(group, reverse=True)][::-1]
        first = chosen[0]
        for k, second in enumerate(chosen[1:], 2):
            kept = {*output, *(label for _, labels in (*chosen[k:], *terms) for label in labels)}
            first = _pair(first, second, kept)
        terms.append(first)
    x, labels = _summed(*terms[0], set(output))
    return _ordered(x, labels, output)


def _groups(subscripts: str, xs: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Which terms to multiply next, by place among those left; the product goes to the end."""
    if len(xs) < 3:
        return [tuple(range(len(xs)))]
    return np.einsum_path(subscripts, *[x._array for x in xs], optimize="greedy")[0][1:]


# Reading the subscripts


def _parse(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[tuple[Label, ...]], tuple[Label, ...]]:
    """One label for each axis of each operand, and of the output."""
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: the subscripts must be a string such as 'ij,jk->ik', got {type(subscripts).__name__}")
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: '{subscripts}' is for {len(terms)} operands, got {len(shapes)}")
    inputs = [_labels(subscripts, term, len(shape), shape) for term, shape in zip(terms, shapes, strict=True)]
    seen = [label for labels in inputs for label in labels]
    dots = max((-label for label in seen if isinstance(label, int)), default=0)
    if not arrow:
        letters = sorted(label for label in set(seen) if isinstance(label, str) and seen.count(label) == 1)
        return inputs, (*range(-dots, 0), *letters)
    if dots and "..." not in right:
        raise ValueError(f"einsum: '{subscripts}' has '...' on the left, so it must have it on the right")
    output = _labels(subscripts, right, dots + len(right.replace("...", "")), None)
    for label in output:
        if output.count(label) > 1 or label not in seen:
            raise ValueError(
                f"einsum: output index '{label}' of '{subscripts}' occurs {'twice' if label in seen else 'in no operand'}"
            )
    return inputs, output


def _labels(subscripts: str, term: str, ndim: int, shape: tuple[int, ...] | None) -> tuple[Label, ...]:
    before, dots, after = term.partition("...")
    if not (before + after).isalpha() and before + after:
        raise ValueError(f"einsum: '{term}' in '{subscripts}' may hold letters and one '...' only")
    broadcast = ndim - len(before + after)
    if broadcast < 0 or (broadcast and not dots):
        raise ValueError(f"einsum: '{term}' in '{subscripts}' has {len(before + after)} indices for an operand of shape {shape}")
    return (*before, *range(-broadcast, 0), *after)


def _lengths(subscripts: str, inputs: Sequence[tuple[Label, ...]], shapes: Sequence[tuple[int, ...]]) -> dict[Label, int]:
    lengths: dict[Label, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for label, n in zip(labels, shape, strict=True):
            if lengths.setdefault(label, n) not in (1, n) and n != 1:
                index = f"axis {label} of '...'" if isinstance(label, int) else f"index '{label}'"
                every = ", ".join(map(str, shapes))
                raise ValueError(f"einsum: {index} in '{subscripts}' has lengths {lengths[label]} and {n} (shapes {every})")
            lengths[label] = n if lengths[label] == 1 else lengths[label]
    return lengths


# Terms, each a tensor and the labels of its axes


def _stretched(x: Tensor, labels: tuple[Label, ...], lengths: dict[Label, int]) -> Term:
    shape = tuple(lengths[label] for label in labels)
    return (x if x.shape == shape else kinds.broadcast_to(x, shape=shape)), labels


def _distinct(x: Tensor, labels: tuple[Label, ...]) -> Term:
    """The diagonal over every label that occurs twice."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            x = diagonal(x, axis1=i, axis2=j)
            labels = (*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label)
    return x, labels


def _summed(x: Tensor, labels: tuple[Label, ...], kept: Collection[Label]) -> Term:
    """The sum over the labels that nobody needs."""
    gone = tuple(i for i, label in enumerate(labels) if label not in kept)
    return (sum(x, gone) if gone else x), tuple(label for label in labels if label in kept)


def _ordered(x: Tensor, labels: tuple[Label, ...], wanted: tuple[Label, ...]) -> Tensor:
    """The axes in another order."""
    return x if labels == wanted else permute_dims(x, [labels.index(label) for label in wanted])


def _pair(one: Term, two: Term, kept: set[Label]) -> Term:
    """The product of two terms, summed over the labels they share and nobody else needs."""
    a, ours = _summed(*one, kept | set(two[1]))
    b, theirs = _summed(*two, kept | set(ours))
    inner = [label for label in ours if label in theirs and label not in kept]
    batch = [label for label in ours if label in theirs and label in kept]
    left = [label for label in ours if label not in theirs]
    right = [label for label in theirs if label not in ours]
    a, b = _ordered(a, ours, (*batch, *left, *inner)), _ordered(b, theirs, (*batch, *inner, *right))
    shared, rows, columns = a.shape[: len(batch)], a.shape[len(batch) : len(batch) + len(left)], b.shape[b.ndim - len(right) :]
    if inner:
        n = math.prod(a.shape[len(batch) + len(left) :])
        y = matmul(_reshape(a, shape=(*shared, math.prod(rows), n)), _reshape(b, shape=(*shared, n, math.prod(columns))))
    else:
        y = multiply(_reshape(a, shape=(*shared, math.prod(rows), 1)), _reshape(b, shape=(*shared, 1, math.prod(columns))))
    return _reshape(y, shape=(*shared, *rows, *columns)), (*batch, *left, *right)
