"""Recurrent networks, composed from ops; names are PyTorch's.  Shapes: L steps, N sequences, H state features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Tensor, as_tensor
from ..ops.elementwise import add, multiply, sigmoid, subtract, tanh
from ..ops.fused import dropout, linear
from ..ops.shape import concat, expand_dims, flip, split, squeeze, stack, swapaxes, unstack
from .layers import Rng, uniform
from .module import Module

State = tuple[Tensor, ...]


class _Recurrent(Module):
    """Layers of a cell that is carried along the steps, forward or in both directions.

    Layer k has weight_ih_lk (gates H, inputs), weight_hh_lk (gates H, H) and two biases, uniform in +-1/sqrt(H); the
    names of the backward direction end in `_reverse`.  Between layers, dropout when training.
    """

    gates: int  # maps of the input that a cell needs
    states: int  # tensors that a cell carries

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: Rng = None,
    ):
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"sizes and layers must be at least 1, got {(input_size, hidden_size, num_layers)}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be in [0, 1], got {dropout}")
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.batch_first, self.dropout = batch_first, dropout
        self.directions = ("", "_reverse") if bidirectional else ("",)
        self.rng = rng or np.random.default_rng()
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = hidden_size * len(self.directions) if layer else input_size
            for direction in self.directions:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{layer}{direction}", uniform(self.rng, 1 / math.sqrt(hidden_size), *shape))

    def cell(self, x: Tensor, h: Tensor, state: State) -> State:
        """(N, gates H) of the input, (N, gates H) of the state, the state -> the next state, the output first."""
        raise NotImplementedError

    def forward(self, x: Any, hx: Any = None, rng: Rng = None) -> tuple[Tensor, Any]:
        """(L, N, inputs), or (N, L, inputs) if batch_first, or (L, inputs) -> outputs alike, and the final state.

        `hx` is the initial state, (layers times directions, N, H), zeros unless given.
        """
        x = as_tensor(x)
        single = x.ndim == 2
        x = expand_dims(x, 1) if single else swapaxes(x, 0, 1) if self.batch_first else x
        lanes = self._initial(x, hx, single)
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in self.directions:
                y, state = self._run(x, lanes[len(last)], f"l{layer}{direction}", bool(direction))
                outputs.append(y)
                last.append(state)
            x = concat(outputs, -1) if len(outputs) > 1 else outputs[0]  # (L, N, directions H)
            if layer < self.num_layers - 1:
                x = dropout(x, self.dropout, self.training, rng or self.rng)
        final = [stack([lane[i] for lane in last]) for i in range(self.states)]  # (layers directions, N, H) each
        if single:
            x, final = squeeze(x, 1), [squeeze(part, 1) for part in final]
        elif self.batch_first:
            x = swapaxes(x, 0, 1)
        return x, final[0] if self.states == 1 else tuple(final)

    def _initial(self, x: Tensor, hx: Any, single: bool) -> list[State]:
        """The state of each layer and direction before the first step."""
        lanes = self.num_layers * len(self.directions)
        shape = (lanes, x.shape[1], self.hidden_size)
        if hx is None:
            parts = [Tensor(np.zeros(shape, x.dtype))] * self.states
        else:
            parts = [as_tensor(part) for part in (hx if self.states > 1 else [hx])]
            parts = [expand_dims(part, 1) for part in parts] if single else parts
        for part in parts:
            if part.shape != shape:
                raise ValueError(f"{type(self).__name__}: the initial state has shape {part.shape}, expected {shape}")
        return list(zip(*[unstack(part) for part in parts], strict=True))

    def _run(self, x: Tensor, state: State, suffix: str, backward: bool) -> tuple[Tensor, State]:
        """(L, N, inputs) -> (L, N, H) and the last state, in one layer and direction."""
        inputs = linear(x, getattr(self, f"weight_ih_{suffix}"), getattr(self, f"bias_ih_{suffix}", None))
        weight, bias = getattr(self, f"weight_hh_{suffix}"), getattr(self, f"bias_hh_{suffix}", None)
        steps = unstack(flip(inputs, 0) if backward else inputs)
        outputs = []
        for step in steps:
            state = self.cell(step, linear(state[0], weight, bias), state)
            outputs.append(state[0])
        y = stack(outputs)
        return flip(y, 0) if backward else y, state


class LSTM(_Recurrent):
    """i, f, o = sigmoid, g = tanh of W x + U h + b;  c <- f c + i g;  h <- o tanh c  (Gers et al. 2000, section 3).

    The state is (h, c).  See `forward` for shapes.
    """

    gates, states = 4, 2

    def cell(self, x: Tensor, h: Tensor, state: State) -> State:
        i, f, g, o = split(add(x, h), 4, -1)
        c = add(multiply(sigmoid(f), state[1]), multiply(sigmoid(i), tanh(g)))
        return multiply(sigmoid(o), tanh(c)), c


class GRU(_Recurrent):
    """r, z = sigmoid of W x + U h + b;  n = tanh(W x + b + r (U h + b));  h <- (1 - z) n + z h  (Cho et al. 2014).

    The state is h.  See `forward` for shapes.
    """

    gates, states = 3, 1

    def cell(self, x: Tensor, h: Tensor, state: State) -> State:
        (xr, xz, xn), (hr, hz, hn) = split(x, 3, -1), split(h, 3, -1)
        n = tanh(add(xn, multiply(sigmoid(add(xr, hr)), hn)))
        return (add(n, multiply(sigmoid(add(xz, hz)), subtract(state[0], n))),)
