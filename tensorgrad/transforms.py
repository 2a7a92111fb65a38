"""Transforms made of the two walks: whole Jacobians, products with second derivatives, recomputation, rules of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from . import tree
from .autodiff import (
    Traced,
    argument_numbers,
    argument_tuple,
    grad,
    linearize,
    linearized,
    pull,
    push,
    variable,
    vjp,
)
from .graph import Op, Tape, Tensor, now, setting, state
from .ops.shape import _reshape, stack

Mode = Literal["reverse", "forward"]


def _basis(x: Tensor, i: int) -> Tensor:
    e = np.zeros(x.size, x.dtype)
    e[i] = 1
    return Tensor(e.reshape(x.shape))


class _Jacobian:
    """The function of `argnums` recorded once, and its derivative assembled by rows (pulled) or columns (pushed)."""

    def __init__(self, f: Callable, argnums: int | Sequence[int], args: Sequence[Any], kwargs: dict[str, Any], mode: Mode):
        self.traced = Traced(f, args, argument_numbers(argnums, args), kwargs, mode)
        self.single = isinstance(argnums, int)
        self.inputs = self.traced.variables
        self.outputs, self.rebuild = tree.flatten(self.traced.result)
        self.record = self.traced.differentiable(self.outputs)

    def rows(self) -> Any:
        return self._assemble([self._rows_of(y) for y in self.outputs])

    def columns(self) -> Any:
        by_input = [self._columns_of(j) for j in range(len(self.inputs))]
        return self._assemble([[blocks[i] for blocks in by_input] for i in range(len(self.outputs))])

    def cheaper(self) -> Any:
        rows, columns = (sum(t.size for t in ts) for ts in (self.outputs, self.inputs))
        return self.rows() if rows <= columns else self.columns()

    def _rows_of(self, y: Tensor) -> list[Tensor]:
        pulled = [self.traced.zeros(pull([y], [_basis(y, i)], self.inputs, self.record)) for i in range(y.size)]
        return [_stacked([g[j] for g in pulled], y.shape, x.shape, x, 0) for j, x in enumerate(self.inputs)]

    def _columns_of(self, j: int) -> list[Tensor]:
        x = self.inputs[j]
        pushed = [push(self.outputs, [x], [_basis(x, i)], self.record) for i in range(x.size)]
        zeros = [Tensor(np.zeros(y.shape, y.dtype)) for y in self.outputs]
        moved = [[z if t is None else t for t, z in zip(ts, zeros, strict=True)] for ts in pushed]
        return [_stacked([ts[i] for ts in moved], y.shape, x.shape, y, -1) for i, y in enumerate(self.outputs)]

    def _assemble(self, blocks: list[list[Tensor]]) -> Any:
        """blocks[i][j] = d output i / d input j, as the tree of the output, each leaf a tree of the argument."""
        trees = [self.traced.split(row) for row in blocks]
        return self.rebuild([t[0] if self.single else tuple(t) for t in trees])


def _stacked(slices: list[Tensor], out: tuple[int, ...], inner: tuple[int, ...], like: Tensor, axis: int) -> Tensor:
    if not slices:
        return Tensor(np.zeros(out + inner, like.dtype))
    return _reshape(stack(slices, axis), shape=out + inner)


def _jacobian_by(assemble: Callable[[_Jacobian], Any], mode: Mode, doc: str) -> Callable:
    def transform(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
        return lambda *args, **kwargs: assemble(_Jacobian(f, argnums, args, kwargs, mode))

    transform.__doc__ = doc
    return transform


jacrev = _jacobian_by(
    _Jacobian.rows, "reverse", "f -> (x -> dy/dx), shaped y.shape + x.shape, one reverse pass for each entry of y."
)
jacfwd = _jacobian_by(
    _Jacobian.columns, "forward", "f -> (x -> dy/dx), shaped y.shape + x.shape, one forward pass for each entry of x."
)
jacobian = _jacobian_by(
    _Jacobian.cheaper, "reverse", "f -> (x -> dy/dx), shaped y.shape + x.shape, by rows or columns, whichever are fewer."
)


def hessian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """f -> (x -> d2f/dx2), shaped x.shape + x.shape, for scalar f: forward over reverse."""
    return jacfwd(grad(f, argnums), argnums)


def hvp(f: Callable, primals: Any, tangents: Any) -> Any:
    """H v for scalar f, shaped like `primals`: the gradient's derivative along `tangents` (Pearlmutter 1994).

    `primals` is a tuple of arguments, or a single one.  Costs a few gradients, whatever the size of H.
    """
    args = argument_tuple(primals)
    gradient = grad(f, tuple(range(len(args))))
    _, push_forward, _ = linearized(gradient, args)  # the gradient itself is never read, so that part of it is never computed
    moved = push_forward(*argument_tuple(tangents))
    return moved if isinstance(primals, (tuple, list)) else moved[0]


def ggnvp(f: Callable, loss: Callable, primals: Any, tangents: Any) -> Any:
    """J^T H_loss J v, the generalized Gauss-Newton product for loss(f(primals)) (Schraudolph 2002, section 2).

    J is the Jacobian of `f`, H_loss the Hessian of the scalar `loss` at f's output; positive semi-definite for convex losses.
    """
    args, directions = argument_tuple(primals), argument_tuple(tangents)
    out, push_forward = linearize(f, *args)
    _, pull_back = vjp(f, *args)
    moved = push_forward(*directions)
    product = pull_back(hvp(loss, (out,), (moved,))[0])
    return product if isinstance(primals, (tuple, list)) else product[0]


# Recomputation


class Checkpoint(Op):
    """f as one node that keeps its inputs only, and runs f again when its derivative is asked for.

    Inputs are the Tensors in the arguments, then those outside that f was found to depend on.
    """

    name = "checkpoint"

    def __init__(self, run: Callable[[Sequence[Tensor]], list[Tensor]], tape: Tape, own: int, which: int, value: np.ndarray):
        self.run, self.tape, self.own, self.which, self.value = run, tape, own, which, value

    def forward(self, *arrays: np.ndarray) -> np.ndarray:
        value, self.value = self.value, np.empty(0)
        return value

    def _again(self, out: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, list[Tensor]]:
        xs = [variable(x) if want else x for x, want in zip(out.inputs[: self.own], wanted, strict=False)]
        self.tape.replaying = iter(self.tape.seeds)
        with setting(recording=True, tape=self.tape):
            y = self.run(xs)[self.which]
        return y, [*xs, *out.inputs[self.own :]]

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        y, xs = self._again(out, wanted)
        return pull([y], [g], xs, differentiable=state.recording)

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        y, xs = self._again(out, [t is not None for t in tangents])
        moving = [(x, t) for x, t in zip(xs, tangents, strict=True) if t is not None]
        return push([y], [x for x, _ in moving], [t for _, t in moving], differentiable=state.recording)[0]


def checkpoint(f: Callable) -> Callable:
    """The same function, which keeps only its inputs for the backward pass and computes the rest again (Chen et al. 2016).

    Random ops draw the same numbers again.  f must give the same result when called again with the same arguments.
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not state.recording:
            return f(*args, **kwargs)
        leaves, rebuild = tree.flatten((args, kwargs))
        tape, structure = Tape(), None

        def run(xs: Sequence[Tensor]) -> list[Tensor]:
            nonlocal structure
            new_args, new_kwargs = rebuild(xs)
            outputs, structure = tree.flatten(f(*new_args, **new_kwargs))
            return outputs

        since = now()
        inside = [variable(x) if x.requires_grad else x for x in leaves]
        with setting(tape=tape):
            outputs = run(inside)
        outside = _captured(outputs, inside, since)
        ops = [Checkpoint(run, tape, len(leaves), i, y._array) for i, y in enumerate(outputs)]
        assert structure is not None
        return structure([op(*leaves, *outside) for op in ops])

    return wrapped


def _captured(outputs: Sequence[Tensor], inside: Sequence[Tensor], since: int) -> list[Tensor]:
    """Tensors from before `since` that the outputs depend on other than through `inside`."""
    found, seen, stack = [], {id(x) for x in inside}, list(outputs)
    while stack:
        t = stack.pop()
        if t.requires_grad and id(t) not in seen:
            seen.add(id(t))
            if t.op is None or t.time < since:
                found.append(t)
            else:
                stack.extend(t.inputs)
    return found


# Rules of one's own


class CustomRule(Op):
    """One call of a function whose author gave its reverse rule; the forward rule is the transpose of that."""

    def __init__(self, function: custom_vjp, kwargs: dict[str, Any]):
        self.name = function.__name__
        self.function, self.kwargs = function, kwargs
        self.residuals: Any = None

    def forward(self, *arrays: np.ndarray) -> np.ndarray:
        with setting(recording=False):
            out, self.residuals = self.function.fwd(*[Tensor(x) for x in arrays], **self.kwargs)
        return out._array

    def _rule(self, out: Tensor, g: Tensor) -> list[Tensor]:
        residuals = self.function.fwd(*out.inputs, **self.kwargs)[1] if state.recording else self.residuals
        assert self.function.bwd is not None
        gs = self.function.bwd(residuals, g)
        gs = list(gs) if isinstance(gs, (tuple, list)) else [gs]
        if len(gs) != len(out.inputs) or any(gx.shape != x.shape for gx, x in zip(gs, out.inputs, strict=True) if gx is not None):
            shapes = [getattr(gx, "shape", None) for gx in gs]
            raise ValueError(f"{self.name}: bwd returned shapes {shapes}, the inputs have {[x.shape for x in out.inputs]}")
        return gs

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor]:
        return self._rule(out, g)

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        differentiable = state.recording
        with setting(recording=True):
            g = variable(Tensor(np.zeros(out.shape, out.dtype)))
            pairs = [(gx, t) for gx, t in zip(self._rule(out, g), tangents, strict=True) if gx is not None and t is not None]
        return pull([gx for gx, _ in pairs], [t for _, t in pairs], [g], differentiable)[0]


class custom_vjp:
    """A function of Tensors with one Tensor result, whose derivative is given rather than derived.

    `@custom_vjp` on f, then `f.defvjp(fwd, bwd)` with fwd(*args) -> (f(*args), residuals) and bwd(residuals, g) -> one cotangent
    for each argument, or None.  Keyword arguments carry no derivative.  Written in Tensor ops, the rules serve every order.
    """

    def __init__(self, f: Callable):
        functools.update_wrapper(self, f)
        self.__name__: str = getattr(f, "__name__", getattr(f, "name", "custom"))
        self.f = f
        self.fwd: Callable = lambda *args, **kwargs: (f(*args, **kwargs), None)
        self.bwd: Callable | None = None

    def defvjp(self, fwd: Callable, bwd: Callable) -> None:
        """Set the rules."""
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.bwd is None:
            raise TypeError(f"{self.__name__} has no rule yet: call {self.__name__}.defvjp(fwd, bwd)")
        return CustomRule(self, kwargs)(*args)
