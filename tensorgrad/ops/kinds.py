"""The four kinds of op.  Each derives both the VJP and the JVP from one rule, so no op writes two that could differ.

===========  ===================================  ========================================================
kind         its author writes                    what follows
===========  ===================================  ========================================================
elementwise  y = f(x1, .., xn) and dy/dxi         VJP, JVP, and undoing broadcasting
linear       y = A x and the adjoint A^T          VJP; A is its own JVP
bilinear     y = B(a, b) and both adjoints        VJP; JVP = B(da, b) + B(a, db)
fused        the definition, and a kernel pair    value and first backward by the kernel, all else from the definition
===========  ===================================  ========================================================

The body of the first three computes on arrays, and the rules given to the decorator compute on Tensors; the body of a fused
op computes on Tensors, and the kernels given to the decorator compute on arrays.  Any of the first three may have a `kernel`
too: an array function that gives the body's values faster.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..autodiff import pull, push, variable, zeros_like
from ..cotangents import Fresh, Late, total
from ..graph import Op, Tensor, as_tensor, setting, state
from ..spare import spare
from .gradient import Gradients


class _Primitive(Op):
    """An op whose body works on arrays, with an optional kernel that gives the same values faster."""

    broadcasts = False  # whether shapes that do not broadcast explain an error

    def __init__(self, body: Callable, kernel: Callable | None = None):
        self.name, self.__doc__, self.__wrapped__ = body.__name__, body.__doc__, body
        self.body, self.kernel = body, kernel

    def forward(self, *arrays: np.ndarray, **params: Any) -> Any:
        use = self.kernel is not None and not state.definitions and self.suits_kernel(arrays)
        try:
            return (self.kernel if use else self.body)(*arrays, **params)  # type: ignore[misc]
        except (ValueError, IndexError) as error:
            if type(error) not in (ValueError, IndexError):
                raise
            shapes = [a.shape for a in (*arrays, *params.values()) if isinstance(a, np.ndarray)]
            fault = disagreement(self.name, *shapes) if self.broadcasts else None
            given = f"shape{'s' * (len(shapes) > 1)} {_listed(shapes)}"
            raise type(error)(fault or f"{self.name.lstrip('_')}: {error} ({given})") from None

    def suits_kernel(self, arrays: Sequence[np.ndarray]) -> bool:
        return _suits_kernel(arrays)


def _suits_kernel(arrays: Sequence[Any]) -> bool:
    """Kernels are compiled for float32 and float64, one of them at a time."""
    dtypes = {x.dtype.char for x in arrays}
    return dtypes == {"f"} or dtypes == {"d"}


class Elementwise(_Primitive):
    """y = f(x1, .., xn), entry by entry, broadcasting; partials[i](y, x1, .., xn) is dy/dxi, or a number.

    The kernel serves arrays of one shape with `least` entries or more; with fewer, the body may be the faster.
    """

    broadcasts = True

    def __init__(self, body: Callable, partials: Sequence[Callable], kernel: Callable | None = None, least: int = 0):
        super().__init__(body, kernel)
        self.partials, self.least = partials, least

    def suits_kernel(self, arrays: Sequence[np.ndarray]) -> bool:
        x = arrays[0]
        return x.size >= self.least and all([x.shape == y.shape for y in arrays]) and _suits_kernel(arrays)

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        rules = zip(self.partials, out.inputs, wanted, strict=True)
        return [fit(_times(g, d(out, *out.inputs, **out.params)), x) if want else None for d, x, want in rules]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        rules = zip(self.partials, tangents, strict=True)
        terms = [None if t is None else _times(t, d(out, *out.inputs, **out.params)) for d, t in rules]
        return total([None if t is None else stretch(t, out) for t in terms])


def _times(g: Tensor, d: Tensor | float) -> Tensor:
    if isinstance(d, Tensor):
        return g * d
    return g if d == 1 else -g if d == -1 else zeros_like(g) if d == 0 else g * d


class Linear(_Primitive):
    """y = A x, jointly linear in its inputs; adjoint(g, x1, .., xn) is A^T g, a Tensor or one for each input."""

    reads_result = False

    def __init__(self, body: Callable, adjoint: Callable, kernel: Callable | None = None):
        super().__init__(body, kernel)
        self.adjoint = adjoint

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor]:
        gs = self.adjoint(g, *out.inputs, **out.params)
        gs = gs if isinstance(gs, (tuple, list)) else [gs]
        return [gx if isinstance(gx, Late) else fit(gx, x) for gx, x in zip(gs, out.inputs, strict=True)]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor:
        return self(*[zeros_like(x) if t is None else t for t, x in zip(tangents, out.inputs, strict=True)], **out.params)


class Bilinear(_Primitive):
    """y = B(a, b), linear in each; adjoints[i](g, a, b) is the transpose of B with the other input held."""

    reads_result = False

    def __init__(self, body: Callable, adjoints: Sequence[Callable], kernel: Callable | None = None):
        super().__init__(body, kernel)
        self.adjoints = adjoints

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        rules = zip(self.adjoints, out.inputs, wanted, strict=True)
        return [fit(rule(g, *out.inputs, **out.params), x) if want else None for rule, x, want in rules]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        (a, b), (da, db) = out.inputs, tangents
        terms = [None if da is None else self(da, b, **out.params), None if db is None else self(a, db, **out.params)]
        return total(terms)


class Kernel(Protocol):
    """What a fused op asks of its kernel: arrays in, arrays out.

    A kernel may also have `tangent(ts, y, saved, *arrays) -> dy` and `backward_tangent(tg, ts, g, y, saved, *arrays)`, the
    tangents of what its two functions return as g moves along tg and the arrays along ts (None for what does not move).
    The arrays that `backward` returns are g itself, or such as nobody else will read: the engine adds to those in place.
    If it has READS_RESULT = False, `backward` does not look at y.  If it has OVERWRITES = i, `backward` has a parameter
    `overwrite`: whether the gradient of array i may take that array's memory, which nobody will read again.  If `backward`
    has a parameter `wanted`, a sequence of booleans, it need not compute the other gradients.
    """

    def forward(self, *arrays: Any, **params: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...]]: ...

    def backward(self, g: Any, y: Any, saved: Any, *arrays: Any, **params: Any) -> Sequence[Any]: ...


class Fused(Op):
    """A composition of Tensor ops that a kernel computes in one pass.  The body is the definition; the kernel, a shortcut.

    The kernel serves the value and a backward pass that is not itself recorded, and tangents if it can.  Whenever a derivative
    has to be differentiable, the definition is differentiated instead, to any order.
    """

    def __init__(self, body: Callable, kernel: Kernel):
        self.name, self.__doc__, self.__wrapped__ = body.__name__, body.__doc__, body
        self.body, self.kernel = body, kernel

    @functools.cached_property
    def reads_result(self) -> bool:  # type: ignore[override]
        """Asked for when first needed, as is `overwrites`: the kernel's file is imported then."""
        return getattr(self.kernel, "READS_RESULT", True)

    @functools.cached_property
    def overwrites(self) -> int | None:
        return getattr(self.kernel, "OVERWRITES", None)

    def __call__(self, *inputs: Any, **params: Any) -> Tensor:
        inputs = tuple([as_tensor(x, inputs) for x in inputs])
        use = not (state.definitions or state.expanded) and _suits_kernel(inputs)
        return super().__call__(*inputs, **params) if use else self.body(*inputs, **params)

    @functools.cached_property
    def selective(self) -> bool:
        """Whether the kernel's `backward` can leave out gradients that nobody wants."""
        return "wanted" in inspect.signature(self.kernel.backward).parameters

    def forward(self, *arrays: np.ndarray, **params: Any) -> Any:
        return self.kernel.forward(*arrays, **params)

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        if not state.recording:
            overwrite = {} if self.overwrites is None else {"overwrite": spare(out, self.overwrites)}
            arrays = [x._array for x in out.inputs]
            choice = {"wanted": wanted} if self.selective else {}
            gs = self.kernel.backward(g._array, out._array, out.saved, *arrays, **out.params, **overwrite, **choice)
            return [None if not want else g if a is g._array else Fresh(a) for a, want in zip(gs, wanted, strict=True)]
        if state.enclosing == "forward" and hasattr(self.kernel, "backward_tangent"):
            return Gradients(self.name, self.body, self.kernel, self.selective, out).nodes(g, out.inputs, wanted)
        xs = [variable(x) if want else x for x, want in zip(out.inputs, wanted, strict=True)]
        return pull([self.body(*xs, **out.params)], [g], xs, differentiable=True)

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        if not state.recording and hasattr(self.kernel, "tangent"):
            ts = tuple([None if t is None else t._array for t in tangents])
            return Tensor(self.kernel.tangent(ts, out._array, out.saved, *[x._array for x in out.inputs], **out.params))
        xs = [variable(x) for x in out.inputs]
        moving = [(x, t) for x, t in zip(xs, tangents, strict=True) if t is not None]
        with setting(recording=True):
            y = self.body(*xs, **out.params)
        return push([y], [x for x, _ in moving], [t for _, t in moving], differentiable=state.recording)[0]


def elementwise(*partials: Callable, kernel: Callable | None = None, least: int = 0) -> Callable[[Callable], Elementwise]:
    """Make an op of an array function by its partial derivatives, one for each input, as functions (y, x1, .., xn) of Tensors."""
    return lambda body: Elementwise(body, partials, kernel, least)


def linear(adjoint: Callable, kernel: Callable | None = None) -> Callable[[Callable], Linear]:
    """Make an op of a linear array function by its adjoint, a function (g, x1, .., xn) of Tensors."""
    return lambda body: Linear(body, adjoint, kernel)


def bilinear(*adjoints: Callable, kernel: Callable | None = None) -> Callable[[Callable], Bilinear]:
    """Make an op of a bilinear array function by its two adjoints, functions (g, a, b) of Tensors."""
    return lambda body: Bilinear(body, adjoints, kernel)


def fused(kernel: Kernel) -> Callable[[Callable], Fused]:
    """Make an op of a composition of Tensor ops by a kernel: anything with `forward` and `backward` on arrays."""
    return lambda body: Fused(body, kernel)


# Broadcasting, done and undone here for all ops


def disagreement(name: str, *shapes: tuple[int, ...], last: int = -1) -> str | None:
    """What to say of the op `name` when the axes of `shapes` up to `last` do not broadcast: the shapes, the axis, its lengths."""
    for axis in range(last, -max(map(len, shapes), default=0) - 1, -1):
        lengths = [s[axis] for s in shapes if len(s) >= -axis]
        if len(set(lengths) - {1}) > 1:
            return f"{name.lstrip('_')}: shapes {_listed(shapes)} do not broadcast (axis {axis}: {_listed(lengths)})"
    return None


def _listed(items: Sequence[Any]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, items[:-1])), *map(str, items[-1:])]))


# Each of these two is the other's adjoint.


@linear(lambda g, x, *, shape: broadcast_to(g, shape=x.shape))
def sum_to(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the axes along which an array of `shape` would be repeated to give the shape of x."""
    lead = x.ndim - len(shape)
    kept = tuple(lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1)
    return summed(x, tuple(range(lead)) + kept).reshape(shape)


def summed(x: np.ndarray, axis: tuple[int, ...], keepdims: bool = True) -> np.ndarray:
    """x.sum(axis), with float16, a storage format, accumulated in float32."""
    if x.dtype == np.float16:
        return x.sum(axis=axis, dtype=np.float32, keepdims=keepdims).astype(np.float16)
    return x.sum(axis=axis, keepdims=keepdims)


@linear(lambda g, x, *, shape: sum_to(g, shape=x.shape))
def broadcast_to(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """Repeat x along new leading axes and along axes of length 1."""
    return np.broadcast_to(x, shape)


@linear(lambda g, x, *, dtype: astype(g, dtype=x.dtype))
def astype(x: np.ndarray, *, dtype: Any) -> np.ndarray:
    """The same values to the precision of `dtype`; the cotangent goes back to the precision of x."""
    with np.errstate(all="ignore"):  # what does not fit is inf
        return x.astype(dtype)


def fit(g: Tensor, x: Tensor) -> Tensor:
    """The cotangent `g` of a broadcast, promoted use of `x`, with the shape and dtype of `x` itself."""
    if g.shape != x.shape:
        g = sum_to(g, shape=x.shape)
    return g if g._array.dtype == x._array.dtype else astype(g, dtype=x.dtype)


def stretch(t: Tensor, out: Tensor) -> Tensor:
    """The tangent `t` of one input, with the shape and dtype of the result."""
    if t.shape != out.shape:
        t = broadcast_to(t, shape=out.shape)
    return t if t._array.dtype == out._array.dtype else astype(t, dtype=out.dtype)
