"""Is this model's calculus right? Its own loss, in float64 on a small batch, against finite differences.

Gradients: along a random direction in each group of parameters and in one single entry of it, against central
differences of fourth order (error h**4). Hessian-vector products H v: forward-over-reverse against
reverse-over-reverse, against a finite difference of gradients, and the symmetry v'Hu = u'Hv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt.models.gpt import GPT

Tree = dict[str, np.ndarray]  # parameter name -> array
STEP = 1e-3  # along directions of length 1


@dataclass(frozen=True)
class Line:
    """One comparison; it passes if `difference` is at most `limit`. For vectors, `ours` and `reference` are norms."""

    name: str
    ours: float
    reference: float
    difference: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.limit


def check_model(model: GPT, seed: int = 0) -> Iterator[Line]:
    """Yield the lines of the check, on random tokens: about ten loss evaluations for each group of parameters."""
    rng = np.random.default_rng(seed)
    double = type(model)(model.config, rng, dtype="float64")
    double.load_state_dict({name: value.astype(np.float64) for name, value in model.state_dict().items()})
    double.eval()
    tokens = rng.integers(0, model.config.vocab_size, size=(2, min(8, model.config.block_size) + 1))

    def loss(m: GPT) -> Any:
        return m.loss(tokens[:, :-1], tokens[:, 1:])

    gradient = _arrays(tg.grad(loss)(double))
    for group, names in _groups(gradient).items():
        part = {name: gradient[name] for name in names}
        yield _slope_line(double, loss, part, f"{group}: a direction", _direction(part, rng))
        yield _slope_line(double, loss, part, f"{group}: an entry", _entry(part, rng))
    yield from _hessian_lines(double, loss, _direction(gradient, rng), _direction(gradient, rng))


def _hessian_lines(model: GPT, loss: Callable[[GPT], Any], u: Tree, v: Tree) -> Iterator[Line]:
    def slope(m: GPT) -> Any:
        gradient = tg.grad(loss)(m)
        return sum(tg.sum(gradient[name] * v[name]) for name in v)

    forward = _arrays(tg.hvp(loss, model, v))
    reverse = _arrays(tg.grad(slope)(model))
    other = _arrays(tg.hvp(loss, model, u))
    differences = _finite_difference(model, v, lambda: _arrays(tg.grad(loss)(model)))
    yield _vector_line("H v: forward-over-reverse = reverse-over-reverse", forward, reverse, 1e-10)
    yield _vector_line("H v: forward-over-reverse = difference of gradients", forward, differences, 1e-6)
    left, right = _dot(u, forward), _dot(v, other)
    yield Line("u'H v = v'H u", left, right, abs(left - right), 1e-10 * max(abs(left), abs(right), 1.0))


def _slope_line(model: GPT, loss: Callable[[GPT], Any], gradient: Tree, name: str, v: Tree) -> Line:
    def value() -> Tree:
        with tg.no_grad():
            return {"loss": loss(model).numpy()}

    ours, reference = _dot(gradient, v), float(_finite_difference(model, v, value)["loss"])
    return Line(name, ours, reference, abs(ours - reference), 1e-9 + 1e-6 * max(abs(ours), abs(reference)))


def _vector_line(name: str, ours: Tree, reference: Tree, limit: float) -> Line:
    norms = np.sqrt(_dot(ours, ours)), np.sqrt(_dot(reference, reference))
    apart = {key: ours[key] - reference[key] for key in ours}
    return Line(name, *norms, np.sqrt(_dot(apart, apart)), limit * max(*norms))


def _finite_difference(model: GPT, v: Tree, value: Callable[[], Tree]) -> Tree:
    """d value / dh at h = 0 of the model moved by h v: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h."""
    moved = {name: parameter for name, parameter in model.named_parameters() if name in v}
    start = {name: parameter.data.copy() for name, parameter in moved.items()}

    def at(h: float) -> Tree:
        for name, parameter in moved.items():
            parameter.data = start[name] + h * v[name]
        return value()

    far_left, left, right, far_right = (at(i * STEP) for i in (-2, -1, 1, 2))
    at(0.0)
    return {key: (8 * (right[key] - left[key]) - (far_right[key] - far_left[key])) / (12 * STEP) for key in left}


def _groups(tree: Tree) -> dict[str, list[str]]:
    """Parameters by the part of the model they belong to: wte, wpe, ln_f, and h.i.{ln_1, attn, ln_2, mlp}."""
    groups: dict[str, list[str]] = {}
    for name in tree:
        parts = name.split(".")
        groups.setdefault(".".join(parts[:3] if parts[0] == "h" else parts[:1]), []).append(name)
    return groups


def _direction(like: Tree, rng: np.random.Generator) -> Tree:
    """A random direction of length 1."""
    v = {name: rng.standard_normal(value.shape) for name, value in like.items()}
    length = np.sqrt(_dot(v, v))
    return {name: value / length for name, value in v.items()}


def _entry(like: Tree, rng: np.random.Generator) -> Tree:
    """The direction along one random entry of one random array, among the entries that are not zero if it has any."""
    name = list(like)[rng.integers(len(like))]
    v = np.zeros(like[name].shape)
    candidates = np.flatnonzero(like[name])
    v.flat[rng.choice(candidates if candidates.size else v.size)] = 1.0
    return {name: v}


def _dot(a: Tree, b: Tree) -> float:
    return float(sum(np.vdot(a[name], b[name]) for name in b))


def _arrays(tree: Any) -> Tree:
    return {name: value.numpy() for name, value in tree.items()}
