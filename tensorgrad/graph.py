"""The graph: a Tensor is an array that remembers the op and the inputs that made it.

Nothing here knows how to differentiate.  `Op.__call__` computes and records; `order` lists a recording, inputs first;
everything else (pulling back, pushing forward, drawing, counting) is a walk over that list, in some other file.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from .methods import Methods
else:
    Methods = object  # syntax.py adds them to Tensor once the ops exist

_clock = itertools.count(1)  # one time for recordings and for changes, so that "changed after it was used" is a comparison


def now() -> int:
    """A time later than that of everything recorded so far, and earlier than of anything to come."""
    return next(_clock)


class Tape:
    """The random seeds that a computation drew, to be drawn again when it is repeated; see random.py."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.replaying: Iterator[int] | None = None


class Watch(Protocol):
    """Somebody who wants to see every number; see anomaly.py."""

    def result(self, op: Op, inputs: Sequence[Tensor], out: Tensor) -> None: ...

    def cotangents(self, node: Tensor, g: Tensor, gs: Sequence[Tensor | None]) -> None: ...


class _State(threading.local):
    """What each thread decides for itself; the class attributes are every thread's starting values."""

    recording: bool = True  # ops remember their inputs
    definitions: bool = False  # ops run their definitions, not their kernels
    enclosing: Literal["reverse", "forward"] | None = None  # how the innermost transform being run will differentiate
    expanded: bool = False  # fused ops are recorded as their definitions, because derivatives of derivatives will be asked for
    scope: tuple[str, ...] = ()  # names of the modules being called, outermost first
    watch: Watch | None = None  # sees every result, and every cotangent, as it is made
    tape: Tape | None = None  # random seeds of a computation that will be repeated
    freeing: bool = False  # the graph being pulled through is given up on the way
    unfilled: bool = False  # parameters are made without values; see nn/unfilled.py


state = _State()


class setting:
    """Give fields of this thread's `state` other values for the length of a with-block, whatever happens in it."""

    __slots__ = ("before", "values")

    def __init__(self, **values: Any):
        self.values = values

    def __enter__(self) -> None:
        self.before = {key: getattr(state, key) for key in self.values}
        state.__dict__.update(self.values)

    def __exit__(self, *error: object) -> None:
        state.__dict__.update(self.before)


class Tensor(Methods):
    """An immutable array plus where it came from.  Operators and methods are attached in syntax.py.

    A leaf has no `op`.  A recorded result has the `op`, its `inputs` (Tensors), its `params` (everything that carries
    no derivative), what the kernel `saved` for its backward pass, and the `scope` of modules in which it was made.
    """

    __slots__ = ("_array", "requires_grad", "grad", "op", "inputs", "params", "saved", "scope", "time", "name", "__weakref__")
    __array_priority__ = 1000

    def __init__(self, array: np.ndarray, requires_grad: bool = False, name: str | None = None):
        self._array = array
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.op: Op | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.params: dict[str, Any] = {}
        self.saved: tuple[np.ndarray, ...] = ()
        self.scope: tuple[str, ...] = ()
        self.time = 0  # a recorded result: when it was made;  a leaf: when it last changed
        self.name = name

    @property
    def data(self) -> np.ndarray:
        """The values, as a read-only view.  Assigning a new array replaces the values of a leaf."""
        view = self._array.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, values: Any) -> None:
        values = values._array if isinstance(values, Tensor) else np.asarray(values)
        if self.op is not None:
            raise RuntimeError(f"cannot assign to .data of {self!r}: it is the result of a recorded op; make a new tensor")
        if values.shape != self.shape:
            raise ValueError(f"cannot assign values of shape {values.shape} to a tensor of shape {self.shape}")
        self._array = values.astype(self._array.dtype)
        self.changed()

    def changed(self) -> None:
        """Say that the values of this leaf are new: a backward pass over results made before is then an error."""
        self.time = next(_clock)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def is_leaf(self) -> bool:
        return self.op is None


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None) -> Tensor:
    """A leaf holding a copy of `data`.  NumPy arrays keep their dtype; Python floats become float32.

    Raises TypeError for values that are not real numbers or booleans, and for integers with `requires_grad`.
    """
    if isinstance(data, Tensor):
        data = data._array
    python_numbers = _of_python_numbers(data)
    array = np.array(data, dtype=dtype)
    if dtype is None and array.dtype == np.float64 and python_numbers:
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers or booleans, got dtype {array.dtype}")
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"requires_grad needs a floating-point tensor, got {array.dtype}; convert with .astype('float32')")
    return Tensor(array, requires_grad, name)


def _of_python_numbers(data: Any) -> bool:
    while isinstance(data, (list, tuple)):
        if any(isinstance(item, Tensor) for item in data):
            raise TypeError("tensor() got a list of Tensors, which would lose their derivatives; use tg.stack or tg.concat")
        data = next((item for item in data), 0.0)
    return not isinstance(data, (np.ndarray, np.generic))


def as_tensor(x: Any, peers: Iterable[Any] = ()) -> Tensor:
    """`x` itself if a Tensor, else a constant leaf; a Python number takes the dtype of the first Tensor among `peers`."""
    if isinstance(x, Tensor):
        return x
    if type(x) in (bool, int, float):
        for peer in peers:
            if isinstance(peer, Tensor):
                return Tensor(np.array(x, np.result_type(peer._array.dtype, x)))
    return tensor(x)


class Op:
    """A differentiable map: how to compute it on arrays, pull a cotangent back, push a tangent forward.

    Arrays are positional and may carry derivatives; everything else is keyword-only and may not.
    """

    name: str
    reads_result = True  # whether its rules look at the values of the result

    def forward(self, *arrays: Any, **params: Any) -> Any:
        """The result's array, or (array, saved) with a tuple of arrays for the backward kernel."""
        raise NotImplementedError

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """J^T g for each input of `out` that is wanted; None stands for zero."""
        raise NotImplementedError

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        """J t, given one tangent for each input of `out`; None stands for zero."""
        raise NotImplementedError

    def __call__(self, *inputs: Any, **params: Any) -> Tensor:
        tensors = tuple([x if isinstance(x, Tensor) else as_tensor(x, inputs) for x in inputs])
        array = self.forward(*[x._array for x in tensors], **params)
        saved: tuple[np.ndarray, ...] = ()
        if type(array) is tuple:
            array, saved = array
        out = Tensor(array if type(array) is np.ndarray else np.asarray(array))
        if state.recording and out._array.dtype.kind == "f" and any([x.requires_grad for x in tensors]):
            self.record(out, tensors, params, saved)
        if state.watch is not None:
            state.watch.result(self, tensors, out)
        return out

    def record(self, out: Tensor, inputs: tuple[Tensor, ...], params: dict[str, Any], saved: tuple[np.ndarray, ...]) -> None:
        """Let `out` remember that this op made it, from what, where and when."""
        out.requires_grad = True
        out.op, out.inputs, out.params, out.saved = self, inputs, params, saved
        out.scope, out.time = state.scope, next(_clock)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def order(outputs: Iterable[Tensor], until: Iterable[Tensor] = ()) -> list[Tensor]:
    """Tensors that `outputs` were made from, inputs first, each once; iterative, so no depth is too deep.

    The walk does not look behind the tensors of `until`.  Whatever was made from something was made after it, so the order of
    time is an order of dependence.
    """
    stop = {id(t) for t in until}
    seen: set[int] = set()
    leaves: list[Tensor] = []
    results: list[Tensor] = []
    stack = list(outputs)
    while stack:
        t = stack.pop()
        if id(t) not in seen:
            seen.add(id(t))
            if t.inputs and id(t) not in stop:
                results.append(t)
                stack.extend(t.inputs)
            else:
                leaves.append(t)
    results.sort(key=attrgetter("time"))
    return leaves + results


def descendants(topo: Sequence[Tensor], inputs: Sequence[Tensor]) -> set[int]:
    """ids of `inputs` and of everything in `topo` that was made from them."""
    live = {id(x) for x in inputs}
    for t in topo:
        if t.inputs and any([id(x) in live for x in t.inputs]):
            live.add(id(t))
    return live


def first_uses(topo: Sequence[Tensor], inputs: Sequence[Tensor]) -> dict[int, list[Tensor]]:
    """For the ids of nodes, those of `inputs` that no earlier node uses: a walk back has their gradients once it is past it."""
    waiting = {id(x): x for x in inputs}
    uses: dict[int, list[Tensor]] = {}
    for t in topo:
        for x in t.inputs:
            if id(x) in waiting:
                uses.setdefault(id(t), []).append(waiting.pop(id(x)))
    return uses
