"""Ops with a definition and a kernel: the definition is the mathematics, in Tensor ops; the kernel computes it in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .. import kernels, random
from ..graph import Tensor, as_tensor
from .elementwise import clip, erfc, exp, log, sigmoid, softplus, square, tanh, where
from .index import take_along_axis
from .kinds import fused
from .linalg import _matmul
from .reduce import floating, logsumexp, mean, sum
from .shape import _reshape, matrix_transpose, moveaxis

Reduction = Literal["mean", "sum", "none"]


# Softmax and what is built on it


@fused(kernels.softmax)
def _softmax(x):
    """(.., n) -> (.., n);  y_i = exp x_i / sum_j exp x_j."""
    e = exp(x - _peak(x))
    return e / sum(e, -1, keepdims=True)


@fused(kernels.log_softmax)
def _log_softmax(x):
    """(.., n) -> (.., n);  y_i = x_i - log sum_j exp x_j."""
    shifted = x - _peak(x)
    return shifted - log(sum(exp(shifted), -1, keepdims=True))


def _peak(x: Tensor) -> Tensor:
    """The maximum of each row, a shift that cancels: constant for every derivative, and 0 instead of -inf or inf."""
    most = np.max(x._array, -1, keepdims=True, initial=-np.inf)
    return Tensor(np.where(np.isinf(most), 0, most).astype(x.dtype))


def _along(op: Any, x: Any, axis: int) -> Tensor:
    x = as_tensor(x)
    if x.ndim == 0:
        x = _reshape(x, shape=(1,))
        return _reshape(op(x), shape=())
    return op(x) if axis in (-1, x.ndim - 1) else moveaxis(op(moveaxis(x, axis, -1)), -1, axis)


@floating
def softmax(x: Any, axis: int = -1) -> Tensor:
    """y_i = exp x_i / sum_j exp x_j along `axis`;  nan where all x are -inf."""
    return _along(_softmax, x, axis)


@floating
def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """y_i = x_i - log sum_j exp x_j along `axis`."""
    return _along(_log_softmax, x, axis)


@fused(kernels.cross_entropy)
def _cross_entropy(logits, *, targets, ignore_index, label_smoothing, over=None):
    """(N, V), (N,) -> (N,);  y = (1 - e)(lse - x_t) + e (lse - mean_j x_j), 0 for ignored targets;  or their sum / over."""
    used = targets != ignore_index
    x = where(used[:, None], logits, 0.0)
    lse = logsumexp(x, -1)
    chosen = take_along_axis(x, np.where(used, targets, 0)[:, None], -1).reshape(-1)
    y = lse - chosen
    if label_smoothing:
        y = (1 - label_smoothing) * y + label_smoothing * (lse - mean(x, -1))
    y = where(used, y, 0.0)
    return y if over is None else sum(y) / over


@floating
def cross_entropy(
    logits: Any, targets: Any, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """(.., V), (..) integers -> mean over targets t != ignore_index of -log softmax(x)_t; classes are the last axis.

    With label smoothing e, the target is (1 - e) one-hot + e / V (Szegedy et al. 2016, section 7).  0 when every target is
    ignored.  Targets of the shape of the logits are probabilities.  Raises IndexError for a target outside [0, V).
    """
    logits = as_tensor(logits)
    targets = targets._array if isinstance(targets, Tensor) else np.asarray(targets)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    classes = logits.shape[-1]
    if targets.shape == logits.shape and targets.dtype.kind == "f":
        wanted = targets * (1 - label_smoothing) + label_smoothing / classes
        return _reduced(-sum(log_softmax(logits) * wanted.astype(logits.dtype), -1), reduction, math.prod(logits.shape[:-1]))
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"cross_entropy: targets of shape {targets.shape} do not fit logits of shape {logits.shape}")
    flat, count = _classes(targets, classes, ignore_index)
    rows = logits if logits.ndim == 2 else _reshape(logits, shape=(flat.size, classes))
    over = {"none": None, "sum": 1, "mean": count or 1}[_known(reduction)]
    loss = _cross_entropy(rows, targets=flat, ignore_index=int(ignore_index), label_smoothing=float(label_smoothing), over=over)
    return _reshape(loss, shape=targets.shape) if over is None else loss


def _classes(targets: np.ndarray, classes: int, ignore_index: int) -> tuple[np.ndarray, int]:
    """The targets as a vector of int64, and how many are not ignored.  Raises for what is neither ignored nor a class."""
    if targets.size and targets.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets must be integers, or probabilities for every class, got {targets.dtype}")
    flat = targets.reshape(-1).astype(np.int64)
    outside = flat.view(np.uint64) >= classes  # negative ones are large then
    if not 0 <= ignore_index < classes and not outside.any():
        return flat, flat.size
    used = flat != ignore_index
    bad = used & outside
    if bad.any():
        place = tuple(map(int, np.unravel_index(int(np.argmax(bad)), targets.shape)))
        raise IndexError(f"cross_entropy: target {targets[place]} at {place} is not a class of 0 .. {classes - 1}")
    return flat, int(np.count_nonzero(used))


def _reduced(losses: Tensor, reduction: Reduction, count: int) -> Tensor:
    if _known(reduction) == "none":
        return losses
    return sum(losses) / (count or 1) if reduction == "mean" else sum(losses)


def _known(reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def _same_shape(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes {a.shape} and {b.shape} differ")


def binary_cross_entropy(logits: Any, targets: Any, reduction: Reduction = "mean") -> Tensor:
    """y = softplus(x) - t x = -(t log p + (1 - t) log(1 - p)) with p = sigmoid x, the log-odds x given, t in [0, 1]."""
    logits = as_tensor(logits)
    targets = as_tensor(targets, [logits])
    _same_shape("binary_cross_entropy", logits, targets)
    return _reduced(softplus(logits) - targets * logits, reduction, logits.size)


def mse_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """y = (x - t)^2.  Raises ValueError if the shapes differ."""
    x = as_tensor(x)
    target = as_tensor(target, [x])
    _same_shape("mse_loss", x, target)
    return _reduced(square(x - target), reduction, x.size)


def kl_div(log_q: Any, p: Any, reduction: Reduction = "sum") -> Tensor:
    """KL(p || q) = sum_i p_i (log p_i - log q_i), with 0 log 0 = 0, from log q and p."""
    log_q = as_tensor(log_q)
    p = as_tensor(p, [log_q])
    _same_shape("kl_div", log_q, p)
    some = p._array > 0
    surprise = log(where(some, p, 1.0)) - where(some, log_q, 0.0)
    return _reduced(where(some, p * surprise, 0.0), reduction, p.size)


# Normalisation


@fused(kernels.layer_norm)
def _layer_norm(x, weight=None, bias=None, *, eps):
    """(.., n) -> (.., n);  y = (x - mean) / sqrt(var + eps) * weight + bias."""
    centred = x - mean(x, -1, keepdims=True)
    y = centred / (mean(square(centred), -1, keepdims=True) + eps) ** 0.5
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@floating
def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """(.., n) -> (.., n);  y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016, eq. 4)."""
    x, weight, bias = _fitting("layer_norm", x, weight, bias)
    if weight is None and bias is not None:
        return _layer_norm(x, eps=float(eps)) + bias
    return _layer_norm(*[part for part in (x, weight, bias) if part is not None], eps=float(eps))


def _fitting(name: str, x: Tensor, *parts: Any) -> list[Any]:
    """x and its weights as Tensors.  Raises ValueError unless each has one number for each entry of x's last axis."""
    tensors = [None if part is None else as_tensor(part, [x]) for part in parts]
    for part in tensors:
        if x.ndim == 0 or (part is not None and part.shape != x.shape[-1:]):
            what = "" if part is None else f" and a weight or bias of shape {part.shape}"
            raise ValueError(f"{name}: expected x of shape (.., n) and weights of shape (n,), got x of shape {x.shape}{what}")
    return [x, *tensors]


@fused(kernels.rms_norm)
def _rms_norm(x, weight=None, *, eps):
    """(.., n) -> (.., n);  y = x / sqrt(mean x^2 + eps) * weight."""
    y = x / (mean(square(x), -1, keepdims=True) + eps) ** 0.5
    return y if weight is None else y * weight


@floating
def rms_norm(x: Any, weight: Any = None, eps: float = 1e-6) -> Tensor:
    """(.., n) -> (.., n);  y = x / sqrt(mean x^2 + eps) * weight over the last axis (Zhang and Sennrich 2019, eq. 4)."""
    return _rms_norm(*[part for part in _fitting("rms_norm", x, weight) if part is not None], eps=float(eps))


# Activations


@fused(kernels.gelu)
def _gelu(x, *, approximate):
    """y = x Phi(x), Phi the distribution function of the standard normal."""
    if approximate == "tanh":
        return _gated(x, lambda x: 0.5 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))))
    return _gated(x, lambda x: 0.5 * erfc(x * -math.sqrt(0.5)))


def _gated(x: Tensor, gate: Callable) -> Tensor:
    """x gate(x), for a gate that is 0 at -1000 and 1 at 1000 to all digits: 0 and x beyond, where -inf 0 would be nan."""
    near = clip(x, -1000, 1000)
    return where(x._array > 1000, x, near * gate(near))


def gelu(x: Any, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """y = x Phi(x) = x/2 erfc(-x / sqrt 2), or its tanh approximation (Hendrycks and Gimpel 2016, section 2)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu(x, approximate=approximate)


@fused(kernels.silu)
def silu(x):
    """y = x sigmoid(x)  (Elfwing et al. 2017, eq. 3)."""
    return _gated(x, sigmoid)


# Linear maps, and noise


@fused(kernels.linear)
def _linear(x, weight, bias=None):
    """(.., n), (m, n), (m,) -> (.., m);  y = x W^T + b."""
    rows = _reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
    y = _matmul(rows, matrix_transpose(weight))
    y = y if bias is None else y + bias
    return _reshape(y, shape=(*x.shape[:-1], weight.shape[0]))


@fused(kernels.residual_linear)
def _residual_linear(residual, x, weight, bias=None):
    """(.., m), (.., n), (m, n), (m,) -> (.., m);  y = r + x W^T + b."""
    return residual + (_linear(x, weight) if bias is None else _linear(x, weight, bias))


def linear(x: Any, weight: Any, bias: Any = None, residual: Any = None) -> Tensor:
    """(.., n), (m, n), (m,), (.., m) -> (.., m);  y = x W^T + b + residual.  Raises ValueError naming shapes that do not fit."""
    weight = as_tensor(weight)
    x = as_tensor(x, [weight])
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x of shape {x.shape} does not fit a weight of shape {weight.shape}, (outputs, inputs)")
    parts = [x, weight]
    if bias is not None:
        parts.append(bias := as_tensor(bias))
        if bias.shape != weight.shape[:1]:
            what = f"a bias of shape {bias.shape} does not fit a weight of shape {weight.shape}"
            raise ValueError(f"linear: {what}, (outputs, inputs)")
    if residual is None:
        return _linear(*parts)
    residual = as_tensor(residual, [x])
    if residual.shape != (*x.shape[:-1], weight.shape[0]):
        raise ValueError(
            f"linear: expected a residual of the result's shape {(*x.shape[:-1], weight.shape[0])}, got {residual.shape}"
        )
    return _residual_linear(residual, *parts)


@fused(kernels.feed_forward)
def _feed_forward(x, w1, w2, *rest):
    """(.., n), (m, n), (n, m) -> (.., n);  y = gelu(x W1^T + b1) W2^T + b2 + r, the rest being b1 and b2, or r, or all three."""
    biases = rest[: len(rest) // 2 * 2]
    y = _linear(_gelu(_linear(x, w1, *biases[:1]), approximate="none"), w2, *biases[1:])
    return y + rest[-1] if len(rest) % 2 else y


def feed_forward(x: Any, w1: Any, w2: Any, b1: Any = None, b2: Any = None, residual: Any = None) -> Tensor:
    """(.., n), (m, n), (n, m), (m,), (n,), (.., n) -> (.., n);  y = gelu(x W1^T + b1) W2^T + b2 + residual.

    The feed-forward network of GPT (Radford et al. 2018, section 4.1), which keeps one array of its hidden size for the backward
    pass instead of two.  Raises ValueError for shapes that do not fit, or for one bias without the other.
    """
    given = {"x": x, "w1": w1, "w2": w2, "b1": b1, "b2": b2, "residual": residual}
    w1 = as_tensor(w1)
    tensors = {name: as_tensor(part, [w1]) for name, part in given.items() if part is not None}
    x = tensors["x"]
    if w1.ndim != 2 or x.ndim == 0 or x.shape[-1] != w1.shape[1] or (b1 is None) != (b2 is None):
        biases = ", ".join(name for name in ("b1", "b2") if name in tensors) or "no biases"
        raise ValueError(f"feed_forward: x of shape {x.shape} does not fit w1 of shape {w1.shape}, (hidden, n), with {biases}")
    m, n = w1.shape
    wanted = {"x": x.shape, "w1": (m, n), "w2": (n, m), "b1": (m,), "b2": (n,), "residual": x.shape}
    for name, part in tensors.items():
        if part.shape != wanted[name]:
            raise ValueError(f"feed_forward: expected {name} of shape {wanted[name]}, got {part.shape}")
    return _feed_forward(*tensors.values())


_ROW = 4096  # entries of a row of random words; see kernels/dropout.py


@fused(kernels.dropout)
def _dropout(x, *, p, seed):
    """y = x m / (1 - p)."""
    rows = random.kept(p, -(-x.size // _ROW), _ROW, seed)
    return where(rows.ravel()[: x.size].reshape(x.shape), x * (1 / random.rate_kept(p)), 0.0)


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """y = x m / (1 - p), each entry of m being 0 with probability p, else 1 (Srivastava et al. 2014, section 4).

    The identity when not training or p = 0; 0 when p = 1.  Raises ValueError for p outside [0, 1] and for a missing `rng`.
    """
    x = as_tensor(x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be in [0, 1], got {p}")
    if not training or p == 0:
        return x
    seed = dropout_seed(rng)
    return where(np.False_, x, 0.0) if p == 1 else _dropout(x, p=float(p), seed=seed)


def dropout_seed(rng: np.random.Generator | None) -> int:
    """What decides which entries are dropped.  Raises ValueError for a missing `rng`."""
    if rng is None:
        raise ValueError("dropout needs rng, a numpy.random.Generator, when training")
    return random.draw_seed(rng)
