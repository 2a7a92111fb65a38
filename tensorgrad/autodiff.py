"""Two walks over one graph: pull cotangents back (reverse mode), push tangents along (forward mode).

Rules compute with Tensors, so a walk that is itself recorded can be walked again: order n is order 1, n times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from . import tree
from .cotangents import add, own, plain
from .graph import Op, Tensor, as_tensor, descendants, first_uses, order, setting, state


class Alias(Op):
    """y = x, a new node: a transform differentiates with respect to its own variable, never the caller's tensor."""

    name = "alias"

    def forward(self, x: np.ndarray) -> np.ndarray:
        return x

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor]:
        return [g]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        return tangents[0]


class Freed(Op):
    """Stands where an op was, once a backward pass has given up the graph."""

    name = "freed"


alias, freed = Alias(), Freed()


def variable(x: Tensor) -> Tensor:
    """A fresh tensor equal to `x` to differentiate with respect to; later passes still see `x` behind it."""
    v = alias(x)
    v.requires_grad = True
    return v


def zeros_like(x: Tensor) -> Tensor:
    """A constant 0 of the shape and dtype of x: the derivative of what does not depend on it."""
    return Tensor(np.zeros(x.shape, x.dtype))


# The two walks


def nabla(scope: tuple[str, ...]) -> str:
    """The backward pass a scope belongs to: "" for none, "∇", "∇∇" for the backward pass of a recorded one, and so on."""
    return scope[0] if scope and scope[0].startswith("∇") else ""


def pull(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    differentiable: bool = False,
    free: bool = False,
) -> list[Tensor | None]:
    """Reverse mode: J^T g, the gradient of sum_i <outputs_i, cotangents_i> with respect to each of `inputs`.

    None stands for an input that the outputs do not depend on.  `differentiable` records the walk; `free` gives up
    each node, and the arrays it holds, as soon as it has been used.
    """
    grads = _pulled(order(outputs, until=inputs), outputs, cotangents, inputs, differentiable, free)
    return [plain(grads[id(x)]) if id(x) in grads else None for x in inputs]


def _pulled(
    topo: list[Tensor],
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    differentiable: bool,
    free: bool,
    complete: Callable[[Tensor, Tensor], None] | None = None,
) -> dict[int, Tensor]:
    """The walk of `pull` over `topo`, which it empties; the gradients by the ids of the inputs.

    With `complete`, an input and its gradient go there instead, as soon as nothing more can come to it.
    """
    live = descendants(topo, inputs)
    _check_usable(topo, live)
    wanted = {id(x) for x in inputs}
    completes = {} if complete is None else first_uses(topo, inputs)
    mark = nabla(state.scope) or "∇" + max([nabla(t.scope) for t in topo], default="") if differentiable else ""
    sums: dict[int, Tensor] = {}  # for each node, of the cotangents that have come to it so far
    for y, g in zip(outputs, cotangents, strict=True):
        sums[id(y)] = add(sums[id(y)], g) if id(y) in sums else g
    freeing = free and state.watch is None
    with setting(recording=differentiable, scope=(mark,) if mark else state.scope, freeing=freeing):
        while topo:
            t = topo.pop()
            if id(t) in wanted or id(t) not in live:
                continue
            if id(t) in sums:
                g = plain(sums.pop(id(t)))
                gs = _rule("vjp", t, g, [id(x) in live for x in t.inputs])
                if state.watch is not None:
                    state.watch.cotangents(t, g, gs)
                for x, gx in zip(t.inputs, gs, strict=True):
                    if gx is not None and id(x) in live:
                        sums[id(x)] = add(sums[id(x)], gx) if id(x) in sums else gx
            if free:
                t.op, t.inputs, t.params, t.saved = freed, (), {}, ()
            for x in completes.pop(id(t), ()):
                if complete is not None and id(x) in sums:
                    complete(x, sums.pop(id(x)))
    return sums


def push(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    differentiable: bool = False,
) -> list[Tensor | None]:
    """Forward mode: J t, the directional derivatives of `outputs` as `inputs` move along `tangents`.

    None stands for an output that does not move.  `differentiable` records the walk.
    """
    moving: dict[int, Tensor | None] = {id(x): t for x, t in zip(inputs, tangents, strict=True)}
    topo = order(outputs, until=inputs)
    _check_usable(topo, descendants(topo, inputs))
    with setting(recording=differentiable):
        for t in topo:
            if t.inputs and id(t) not in moving:
                ts = [moving.get(id(x)) for x in t.inputs]
                if any(x is not None for x in ts):
                    moving[id(t)] = _rule("jvp", t, ts)
    return [moving.get(id(y)) for y in outputs]


MODES = {"vjp": "reverse", "jvp": "forward"}


def _rule(name: str, node: Tensor, *args: Any) -> Any:
    """Apply the rule `name` of a node's op, in the module scope of the node; an error in it says whose rule it was."""
    assert node.op is not None
    try:
        if not state.recording and state.watch is None:
            return getattr(node.op, name)(node, *args)
        mark = nabla(state.scope)
        modules = node.scope[1:] if nabla(node.scope) else node.scope
        with setting(scope=(mark, *modules) if mark else node.scope, watch=None):
            return getattr(node.op, name)(node, *args)
    except Exception as error:
        shapes = ", ".join(str(x.shape) for x in node.inputs)
        error.add_note(
            f"in the {MODES[name]} rule of {node.op.name} on inputs of shape {shapes} with a result of shape {node.shape}"
        )
        raise


def _check_usable(topo: Sequence[Tensor], live: set[int]) -> None:
    for t in topo:
        if t.op is freed:
            raise RuntimeError(
                "this graph was already differentiated and freed; pass retain_graph=True to the first backward() to use it twice"
            )
        if id(t) in live:
            for x in t.inputs:
                if x.op is None and x.time > t.time:
                    raise RuntimeError(
                        f"{x.name or 'a tensor'} of shape {x.shape} was changed after {t.op.name if t.op else 'an op'} used it: "
                        "its gradient would be wrong; differentiate before changing it, or compute the output again"
                    )


# Tensor.backward

_lock = threading.Lock()


def backward(
    output: Tensor,
    gradient: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    on_gradient: Callable[[Tensor], Any] | None = None,
) -> None:
    """Add d<output, gradient>/dx to `x.grad` for every leaf x with `requires_grad` that `output` was made from.

    `gradient` (the shape of `output`) may be left out for a single number.  The graph is freed on the way unless
    `retain_graph` or `create_graph`; the latter makes the gradients themselves differentiable.  `on_gradient(x)` is called
    for each leaf once its `grad` is complete, while the walk goes on; without it, gradients appear when the walk is over.
    """
    if not output.requires_grad:
        raise RuntimeError("backward() on a tensor that depends on nothing with requires_grad=True")
    seed = _seed(output, gradient)
    topo = order([output])
    leaves = [t for t in topo if t.op is None and t.requires_grad]
    free = not (retain_graph or create_graph)

    def keep(x: Tensor, g: Tensor) -> None:
        with _lock:
            g = g if create_graph else own(g)
            x.grad = plain(g if x.grad is None else add(x.grad, g))
        if on_gradient is not None:
            on_gradient(x)

    with setting(recording=create_graph):
        grads = _pulled(topo, [output], [seed], leaves, create_graph, free, None if on_gradient is None else keep)
        for x in leaves:
            if id(x) in grads:
                keep(x, grads.pop(id(x)))


def _seed(output: Tensor, gradient: Any) -> Tensor:
    if gradient is None:
        if output.size != 1:
            raise RuntimeError(
                f"backward() on an output of shape {output.shape} needs a gradient of that shape; or reduce it first: y.sum()"
            )
        return Tensor(np.ones(output.shape, output.dtype))
    gradient = as_tensor(gradient, [output])
    if gradient.shape != output.shape:
        raise ValueError(f"gradient has shape {gradient.shape}, the output has shape {output.shape}")
    if gradient.dtype.kind != "f":
        raise TypeError(f"gradient must be floating-point, got {gradient.dtype}")
    return gradient if gradient.dtype == output.dtype else Tensor(gradient._array.astype(output.dtype))


# Functional transforms


class Traced:
    """f(*args) recorded with respect to fresh variables in place of the Tensors of some arguments."""

    def __init__(
        self,
        f: Callable,
        args: Sequence[Any],
        argnums: Sequence[int],
        kwargs: dict[str, Any] | None = None,
        mode: Literal["reverse", "forward"] = "reverse",
    ):
        self.recorded = state.recording
        args = list(args)
        self.variables: list[Tensor] = []
        self.parts: list[tuple[int, Any]] = []  # for each argument: how many variables it has, and its plain structure
        for i in argnums:
            leaves, rebuild = tree.flatten(args[i])
            for x in leaves:
                if x.dtype.kind != "f":
                    raise TypeError(f"argument {i} holds a tensor of {x.dtype}: derivatives need floating-point numbers")
            fresh = [variable(x) for x in leaves]
            args[i] = rebuild(fresh)
            self.variables += fresh
            self.parts.append((len(fresh), tree.flatten(tree.parts(args[i]))[1]))
        pulled_again = state.enclosing == "reverse" and any(v.inputs for v in self.variables)
        with setting(recording=True, enclosing=mode, expanded=state.expanded or pulled_again):
            self.result = f(*args, **(kwargs or {}))

    def differentiable(self, outputs: Sequence[Tensor]) -> bool:
        """Whether a later pass may reach anything behind or beside our variables, so that this one must be recorded."""
        own = {id(v) for v in self.variables}
        return self.recorded and (
            any(v.inputs for v in self.variables)
            or any(t.op is None and t.requires_grad and id(t) not in own for t in order(outputs, until=self.variables))
        )

    def split(self, values: Sequence[Any]) -> list[Any]:
        """One value for each variable -> one tree for each argument."""
        built, start = [], 0
        for count, rebuild in self.parts:
            built.append(rebuild(values[start : start + count]))
            start += count
        return built

    def zeros(self, grads: Sequence[Tensor | None]) -> list[Tensor]:
        return [zeros_like(v) if g is None else g for g, v in zip(grads, self.variables, strict=True)]


def argument_numbers(argnums: int | Sequence[int], args: Sequence[Any]) -> list[int]:
    """The arguments meant by `argnums`, counted from the front.  Raises ValueError for one that is not there."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in numbers:
        if not -len(args) <= i < len(args):
            raise ValueError(f"argnums has {i}, but the function was called with {len(args)} positional arguments")
    return [i % len(args) for i in numbers]


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """f -> (x -> (f(x), df/dx)) for scalar f, with df/dx shaped like the argument, or a tuple for several argnums.

    With `has_aux`, f returns (value, aux) and the new function ((value, aux), gradient).  A Module's gradient is a dict by
    parameter name.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        traced = Traced(f, args, argument_numbers(argnums, args), kwargs)
        value, aux = traced.result if has_aux else (traced.result, None)
        if not isinstance(value, Tensor) or value.size != 1 or value.dtype.kind != "f":
            what = f"shape {value.shape}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"grad needs a function that returns one floating-point number, got {what}")
        differentiable = traced.differentiable([value])
        seed = Tensor(np.ones(value.shape, value.dtype))
        grads = traced.zeros(pull([value], [seed], traced.variables, differentiable, free=not differentiable))
        trees = traced.split(grads)
        if not differentiable:
            value, aux = detached(value), detached(aux)
        gradient = trees[0] if isinstance(argnums, int) else tuple(trees)
        return ((value, aux) if has_aux else value), gradient

    return wrapped


def grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """f -> (x -> df/dx); see `value_and_grad`.  With `has_aux`, the new function returns (gradient, aux)."""
    both = value_and_grad(f, argnums, has_aux)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def detached(values: Any) -> Any:
    """The same tree with Tensors that remember nothing."""
    leaves, rebuild = tree.flatten(values)
    return rebuild([Tensor(x._array) for x in leaves])


def vjp(f: Callable, *primals: Any) -> tuple[Any, Callable]:
    """(f(*primals), g -> (J^T g for each primal)); g is shaped like the output.  The function may be called again."""
    traced = Traced(f, primals, range(len(primals)))
    outputs, _ = tree.flatten(traced.result)
    differentiable = traced.differentiable(outputs)

    def pull_back(cotangent: Any) -> tuple:
        cotangents = matching(outputs, cotangent, "cotangent")
        record = state.recording and (differentiable or any(g.requires_grad for g in cotangents))
        return tuple(traced.split(traced.zeros(pull(outputs, cotangents, traced.variables, record))))

    return (traced.result if differentiable else detached(traced.result)), pull_back


def linearize(f: Callable, *primals: Any) -> tuple[Any, Callable]:
    """(f(*primals), (t1, .., tn) -> J t): the graph is recorded once and pushed through for every tangent."""
    result, push_forward, differentiable = linearized(f, primals)
    return (result if differentiable else detached(result)), push_forward


def linearized(f: Callable, primals: Sequence[Any]) -> tuple[Any, Callable, bool]:
    """f(*primals) as it was recorded, (t1, .., tn) -> J t, and whether a later pass may reach anything outside the graph."""
    traced = Traced(f, primals, range(len(primals)), mode="forward")
    outputs, rebuild = tree.flatten(traced.result)
    differentiable = traced.differentiable(outputs)

    def push_forward(*tangents: Any) -> Any:
        given = matching(traced.variables, tuple(tangents), "tangent")
        record = state.recording and (differentiable or any(t.requires_grad for t in given))
        moved = push(outputs, traced.variables, given, record)
        return rebuild([zeros_like(y) if t is None else t for y, t in zip(outputs, moved, strict=True)])

    return traced.result, push_forward, differentiable


def jvp(f: Callable, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """(f(*primals), J t); `tangents` is shaped like `primals`, a tuple with one entry for each argument."""
    primals, tangents = argument_tuple(primals), argument_tuple(tangents)
    out, push_forward = linearize(f, *primals)
    return out, push_forward(*tangents)


def argument_tuple(primals: Any) -> tuple:
    """Arguments as a tuple; anything but a tuple or list is a single argument."""
    return tuple(primals) if isinstance(primals, (tuple, list)) else (primals,)


def matching(like: Sequence[Tensor], given: Any, what: str) -> list[Tensor]:
    """The Tensors of the tree `given`, checked to be as many and of the same shapes as `like`, cast to their dtypes."""
    leaves, _ = tree.flatten(tuple(tree.parts(t) for t in given) if isinstance(given, tuple) else tree.parts(given))
    if len(leaves) != len(like):
        raise ValueError(f"{what} has {len(leaves)} tensors, expected {len(like)}")
    for x, t in zip(like, leaves, strict=True):
        if x.shape != t.shape:
            raise ValueError(f"{what} has shape {t.shape}, expected {x.shape}")
    return [
        t if t.dtype == x.dtype or t.requires_grad else Tensor(t._array.astype(x.dtype))
        for x, t in zip(like, leaves, strict=True)
    ]


def stop_gradient(x: Any) -> Tensor:
    """The same values as a constant: derivatives of every order treat the result as fixed."""
    return Tensor(as_tensor(x)._array)
