"""NumPy's functions on Tensors: np.exp(t), np.sum(t, axis=0), array * t and np.linalg.det(t) are our ops, and differentiable.

NumPy hands over any call that holds a Tensor (NEP 13 for ufuncs, NEP 18 for the rest).  The call is translated by NumPy's own
signature; an argument or a function that has no counterpart here is a TypeError, never a result without its derivative.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import creation, linalg
from .graph import Tensor, as_tensor
from .ops import elementwise, index, logic, reduce, shape
from .ops import linalg as products
from .ops.einsum import einsum

# Universal functions, by the names that both sides share

_ELEMENTWISE = """add subtract multiply divide negative abs sign square sqrt reciprocal exp expm1 log log1p log2 log10 sin cos tan
    sinh cosh tanh hypot maximum minimum logaddexp floor ceil""".split()
_LOGIC = """equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor logical_not isnan isinf
    isfinite signbit bitwise_and bitwise_or bitwise_xor floor_divide remainder nextafter""".split()

UFUNCS: dict[np.ufunc, Callable] = {
    **{getattr(np, name): getattr(elementwise, name) for name in _ELEMENTWISE},
    **{getattr(np, name): getattr(logic, name) for name in _LOGIC},
    np.power: elementwise.pow, np.float_power: elementwise.pow, np.rint: elementwise.round, np.positive: lambda x: x,
    np.arcsin: elementwise.asin, np.arccos: elementwise.acos, np.arctan: elementwise.atan, np.arctan2: elementwise.atan2,
    np.arcsinh: elementwise.asinh, np.arccosh: elementwise.acosh, np.arctanh: elementwise.atanh,
    np.bitwise_not: logic.bitwise_invert, np.left_shift: logic.bitwise_left_shift, np.right_shift: logic.bitwise_right_shift,
    np.matmul: products.matmul, np.vecdot: products.vecdot,
}  # fmt: skip

REDUCTIONS: dict[tuple[np.ufunc, str], Callable] = {
    (np.add, "reduce"): reduce.sum, (np.multiply, "reduce"): reduce.prod,
    (np.maximum, "reduce"): reduce.max, (np.minimum, "reduce"): reduce.min,
    (np.logical_and, "reduce"): reduce.all, (np.logical_or, "reduce"): reduce.any,
    (np.add, "accumulate"): reduce.cumulative_sum, (np.multiply, "accumulate"): reduce.cumulative_prod,
}  # fmt: skip


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if not all(_ours(x) for x in inputs):
        return NotImplemented
    if kwargs.pop("out", None) is not None:
        raise TypeError(
            f"{name} cannot write a tensor into an array in place, which would lose its derivative; write array = array + tensor"
        )
    op = UFUNCS.get(ufunc) if method == "__call__" else REDUCTIONS.get((ufunc, method))
    if op is None:
        raise _unknown(name)
    if method != "__call__":
        kwargs = {"axis": 0, **kwargs}
    for key in set(kwargs) - (set() if method == "__call__" else {"axis", "keepdims"}):
        raise _unsupported(name, key)
    return op(*inputs, **kwargs)


def _ours(x: Any) -> bool:
    return isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float, list, tuple))


def _unknown(name: str) -> TypeError:
    return TypeError(
        f"{name} has no counterpart for tensors; use a tg function, or {name}(tensor.numpy()), which has no derivative"
    )


def _unsupported(name: str, argument: str) -> TypeError:
    return TypeError(f"{name}: the argument {argument} is not supported on tensors")


# Other functions.  Their arguments get our names; defaults are NumPy's.

NAMES = {
    "a": "x", "m": "x", "arr": "x", "ary": "x", "array": "x", "A": "x", "arrays": "xs", "indices": "index", "reps": "repetitions",
    "ddof": "correction", "a_min": "min", "a_max": "max", "newshape": "shape",
}  # fmt: skip


def _dot(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a, [b]), as_tensor(b, [a])
    if a.ndim == 0 or b.ndim == 0:
        return elementwise.multiply(a, b)
    return products.matmul(a, b) if a.ndim < 3 and b.ndim < 3 else products.tensordot(a, b, ([-1], [-2 if b.ndim > 1 else 0]))


def _where(condition: Any, *choices: Any) -> Any:
    return elementwise.where(condition, *choices) if choices else index.nonzero(condition)


def _trace(x: Any, offset: int, axis1: int, axis2: int) -> Tensor:
    return reduce.sum(shape.diagonal(x, offset, axis1, axis2), -1)


def _ravel(x: Any) -> Tensor:
    return shape.reshape(x, (as_tensor(x).size,))


def _rows(xs: Sequence[Any], axis: int) -> Tensor:
    """The pieces one after another along `axis`, after making them (at least) rows."""
    return shape.concat([shape.reshape(x, (1, -1)) if x.ndim < 2 else x for x in map(as_tensor, xs)], axis)


def _hstack(tup: Sequence[Any]) -> Tensor:
    flat = all(as_tensor(x).ndim < 2 for x in tup)
    return shape.concat([shape.reshape(x, (-1,)) if as_tensor(x).ndim < 2 else x for x in tup], 0 if flat else 1)


FUNCTIONS: dict[Callable, Callable] = {
    **{getattr(np, name): getattr(reduce, name) for name in "sum prod mean var std max min any all".split()},
    np.amax: reduce.max, np.amin: reduce.min, np.cumsum: reduce.cumulative_sum, np.cumprod: reduce.cumulative_prod,
    **{getattr(np, name): getattr(shape, name) for name in """reshape transpose swapaxes moveaxis expand_dims squeeze broadcast_to
        flip roll stack split tile repeat pad tril triu diagonal""".split()},
    np.ravel: _ravel, np.vstack: lambda tup: _rows(tup, 0), np.hstack: _hstack,
    **{getattr(np, name): getattr(index, name) for name in """take take_along_axis sort argsort argmax argmin nonzero""".split()},
    np.clip: elementwise.clip, np.round: lambda a: elementwise.round(a), np.matrix_transpose: shape.matrix_transpose,
    np.tensordot: products.tensordot, np.outer: products.outer, np.trace: _trace,
    **{getattr(np, name): getattr(creation, name) for name in "zeros_like ones_like full_like".split()},
    **{getattr(np.linalg, name): getattr(linalg, name) for name in """norm inv solve det slogdet cholesky matrix_power matrix_norm
        vector_norm matrix_transpose diagonal trace""".split()},
}  # fmt: skip

# Functions called as they are: those in C show their signature in some versions of NumPy only
POSITIONAL: dict[Callable, Callable] = {
    np.concatenate: lambda arrays, axis=0: shape.concat(arrays, axis),
    np.where: _where,
    np.dot: _dot,
    np.inner: lambda a, b: products.tensordot(a, b, ([-1], [-1])),
    np.einsum: einsum,
    np.linalg.vecdot: lambda x1, x2, axis=-1: products.vecdot(x1, x2, axis),
    np.linalg.outer: lambda x1, x2: products.outer(x1, x2),
    np.linalg.tensordot: lambda x1, x2, axes=2: products.tensordot(x1, x2, axes),
    np.cross: lambda a, b, axis=-1: linalg.cross(a, b, axis),
    np.linalg.cross: lambda x1, x2, axis=-1: linalg.cross(x1, x2, axis),
    np.linalg.matmul: lambda x1, x2: products.matmul(x1, x2),
    np.searchsorted: lambda a, v, side="left": index.searchsorted(a, v, side),
}

# Functions that only look: they see the values, and answer as NumPy does
LOOKING = {
    np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj, np.isrealobj, np.allclose, np.isclose, np.array_equal,
    np.array_equiv, np.count_nonzero, np.argwhere, np.array2string, np.array_repr, np.array_str, np.save, np.savez,
    np.savez_compressed, np.savetxt, np.can_cast, np.common_type, np.may_share_memory, np.shares_memory,
}  # fmt: skip


def _array_function(self: Tensor, function: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if not all(issubclass(t, (Tensor, np.ndarray)) for t in types):
        return NotImplemented
    name = f"{function.__module__.replace('numpy', 'np', 1)}.{function.__name__}"
    if function in LOOKING:
        return function(*_values(args), **_values(kwargs))
    if function in POSITIONAL:
        for key in set(kwargs) - set(_signature(POSITIONAL[function]).parameters):
            raise _unsupported(name, key)
        return POSITIONAL[function](*args, **kwargs)
    if function not in FUNCTIONS:
        raise _unknown(name)
    return FUNCTIONS[function](**_translated(name, function, args, kwargs))


def _values(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _values(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(_values, tree))
    return tree.data if isinstance(tree, Tensor) else tree


_signature = functools.cache(inspect.signature)


def _translated(name: str, function: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """NumPy's arguments under our names; TypeError for one that we do not have, unless it has its default value."""
    theirs, ours = _signature(function), _signature(FUNCTIONS[function]).parameters
    bound = theirs.bind(*args, **kwargs)
    bound.apply_defaults()
    given: dict[str, Any] = {}
    for key, value in bound.arguments.items():
        if theirs.parameters[key].kind is inspect.Parameter.VAR_KEYWORD:
            given.update({k: (v, inspect.Parameter.empty) for k, v in value.items()})
        else:
            given[key] = (value, theirs.parameters[key].default)
    translated = {}
    for key, (value, default) in given.items():
        new = key if key in ours else NAMES.get(key, key)
        if new in ours:
            if value is not np._NoValue:  # type: ignore[attr-defined]
                translated[new] = value
        elif value is not default and (isinstance(value, (Tensor, np.ndarray)) or value != default):
            raise _unsupported(name, key)
    return translated


Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Tensor.__array_function__ = _array_function  # type: ignore[attr-defined]
