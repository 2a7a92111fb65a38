"""Layers over signals and images, (N, C, L) or (N, C, H, W): convolution, pooling, batch normalisation.

A convolution is a matrix product with the windows of x.  Reading the windows is linear, a strided view without a copy; its
adjoint adds every window back to where it was read.  Arguments and their order are those of torch.nn.functional.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..graph import Tensor, as_tensor, state
from .elementwise import square
from .kinds import linear
from .linalg import _matmul
from .reduce import max, mean, sum
from .shape import _pad, _reshape, astype, pad, permute_dims

Size = int | Sequence[int]
Lengths = tuple[int, ...]


# Windows


@linear(
    lambda g, x, *, kernel, stride, dilation: _fold(
        g, size=x.shape[-len(kernel) :], kernel=kernel, stride=stride, dilation=dilation
    )
)
def _unfold(x, *, kernel, stride, dilation):
    """(.., *size) -> (.., *kernel, *out);  y[.., k, o] = x[.., o stride + k dilation]."""
    lead = x.ndim - len(kernel)
    out = _places(x.shape[lead:], kernel, stride, dilation)
    steps = [s * d for s, d in zip(x.strides[lead:], dilation, strict=True)] + [
        s * d for s, d in zip(x.strides[lead:], stride, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(x, x.shape[:lead] + kernel + out, x.strides[:lead] + tuple(steps), writeable=False)


@linear(lambda g, x, *, size, kernel, stride, dilation: _unfold(g, kernel=kernel, stride=stride, dilation=dilation))
def _fold(x, *, size, kernel, stride, dilation):
    """(.., *kernel, *out) -> (.., *size);  y[.., i] = the sum of x[.., k, o] over all places o stride + k dilation = i."""
    n = len(kernel)
    y = np.zeros(x.shape[: -2 * n] + size, np.float32 if x.dtype == np.float16 else x.dtype)
    if x.size:
        for k in itertools.product(*map(range, kernel)):
            read = [
                slice(i * d, i * d + (o - 1) * s + 1, s) for i, d, o, s in zip(k, dilation, x.shape[-n:], stride, strict=True)
            ]
            y[(..., *read)] += x[(..., *k, *[slice(None)] * n)]
    return y.astype(x.dtype, copy=False)


def _places(size: Lengths, kernel: Lengths, stride: Lengths, dilation: Lengths) -> Lengths:
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation, strict=True))


def _each(op: str, name: str, value: Size, n: int, least: int) -> Lengths:
    """`value` for each of n axes."""
    values = (value,) * n if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) == 1:
        values *= n
    if len(values) != n or any(int(v) != v or v < least for v in values):
        raise ValueError(f"{op}: {name} must be {n} integer{'s' * (n > 1)} >= {least}, or one, got {value!r}")
    return tuple(int(v) for v in values)


def _fits(op: str, size: Lengths, padded: Lengths, kernel: Lengths, dilation: Lengths) -> None:
    if any(d * (k - 1) + 1 > n for k, d, n in zip(kernel, dilation, padded, strict=True)):
        raise ValueError(
            f"{op}: a kernel of {kernel}, dilation {dilation}, does not fit in an input of {size}, {padded} with padding"
        )


# Convolution


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | Literal["valid", "same"] = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """(N, C, L), (O, C/groups, k), (O,) -> (N, O, L');  y_nol = b_o + sum_cj w_ocj x_n,c,(l stride + j dilation).

    L' = (L + 2 padding - dilation (k - 1) - 1) // stride + 1.  Outputs of group i read channels of group i.  x may lack N.
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | Literal["valid", "same"] = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """(N, C, H, W), (O, C/groups, kh, kw), (O,) -> (N, O, H', W'), as `conv1d` along two axes (LeCun et al. 1989).

    Raises ValueError naming the shapes when channels and weight do not fit, or the kernel does not fit in the padded input.
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def _conv(op: str, n: int, x: Any, weight: Any, bias: Any, stride: Size, padding: Any, dilation: Size, groups: int) -> Tensor:
    x, weight = as_tensor(x, [weight]), as_tensor(weight)
    if x.ndim == n + 1:
        return _conv(op, n, _reshape(x, shape=(1, *x.shape)), weight, bias, stride, padding, dilation, groups)[0]
    stride, dilation = _each(op, "stride", stride, n, 1), _each(op, "dilation", dilation, n, 1)
    if (
        weight.ndim != n + 2
        or x.ndim != n + 2
        or groups < 1
        or x.shape[1] != weight.shape[1] * groups
        or weight.shape[0] % groups
    ):
        raise ValueError(
            f"{op}: x {x.shape}, weight {weight.shape} and groups {groups} are not (N, C, ..), (O, C/groups, ..), a divisor of O"
        )
    kernel = weight.shape[2:]
    x, size = _padded(op, x, padding, kernel, stride, dilation), x.shape[2:]
    _fits(op, size, x.shape[2:], kernel, dilation)
    windows = _unfold(x, kernel=kernel, stride=stride, dilation=dilation)  # (N, C, *kernel, *out)
    out, batch = windows.shape[2 + n :], x.shape[0]
    windows = permute_dims(windows, (*range(1, 2 + n), 0, *range(2 + n, 2 + 2 * n)))  # (C, *kernel, N, *out)
    columns = _reshape(windows, shape=(groups, math.prod(weight.shape[1:]), batch * math.prod(out)))
    rows = _reshape(weight, shape=(groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))
    y = _reshape(_matmul(rows, columns), shape=(weight.shape[0], batch, *out))
    y = permute_dims(y, (1, 0, *range(2, 2 + n)))
    return y if bias is None else y + _channels(op, "bias", bias, weight.shape[0], n)


def _channels(op: str, name: str, x: Any, channels: int, n: int) -> Tensor:
    """(C,) -> (C, 1, ..), to go with (N, C, ..) of n more axes."""
    x = as_tensor(x)
    if x.shape != (channels,):
        raise ValueError(f"{op}: {name} must have shape ({channels},), one entry a channel, got {x.shape}")
    return _reshape(x, shape=(*x.shape, *(1,) * n))


def _padded(op: str, x: Tensor, padding: Any, kernel: Lengths, stride: Lengths, dilation: Lengths) -> Tensor:
    """x in the zeros that `padding` asks for."""
    if padding == "same":
        if set(stride) != {1}:
            raise ValueError(f"{op}: padding 'same' needs stride 1, got {stride}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        widths = tuple((t // 2, t - t // 2) for t in total)
    else:
        widths = tuple((p, p) for p in _each(op, "padding", 0 if padding == "valid" else padding, len(kernel), 0))
    return _pad(x, widths=((0, 0), (0, 0), *widths)) if any(map(any, widths)) else x


# Pooling


def max_pool2d(
    x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, ceil_mode: bool = False
) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W'): the largest entry of each window; the derivative is split evenly among equal ones.

    The stride is the kernel's size unless given; padding counts as -inf; `ceil_mode` keeps windows that hang over the end.
    """
    x, kernel, stride, widths = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    dilation = _each("max_pool2d", "dilation", dilation, 2, 1)
    x = pad(x, widths, -math.inf) if any(map(any, widths)) else x
    return max(_unfold(x, kernel=kernel, stride=stride, dilation=dilation), (-4, -3))


def avg_pool2d(
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W'): the mean of each window; zeros of the padding count as entries if `count_include_pad`.

    The stride is the kernel's size unless given.  What `ceil_mode` adds beyond the padding never counts.
    """
    x, kernel, stride, widths = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    p = _each("avg_pool2d", "padding", padding, 2, 0)
    counted = [(b, b) if count_include_pad else (0, 0) for b in p]
    ones = np.pad(np.ones(x.shape[-2:], x.dtype), counted, constant_values=1)
    ones = np.pad(ones, [(a - c, b - d) for (a, b), (c, d) in zip(widths[-2:], counted, strict=True)])
    counts = _unfold.body(ones, kernel=kernel, stride=stride, dilation=(1, 1)).sum(axis=(0, 1))
    x = _pad(x, widths=widths) if any(map(any, widths)) else x
    return sum(_unfold(x, kernel=kernel, stride=stride, dilation=(1, 1)), (-4, -3)) / Tensor(counts)


def _windows(
    op: str, x: Any, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
) -> tuple[Tensor, Lengths, Lengths, tuple[tuple[int, int], ...]]:
    """x, the kernel, the stride, and by how much to pad each axis of x."""
    x = as_tensor(x)
    if x.ndim not in (3, 4) or x.dtype.kind != "f":
        raise ValueError(f"{op}: x must be floating-point (N, C, H, W) or (C, H, W), got shape {x.shape}, {x.dtype}")
    kernel, dilation = _each(op, "kernel_size", kernel_size, 2, 1), _each(op, "dilation", dilation, 2, 1)
    stride = kernel if stride is None else _each(op, "stride", stride, 2, 1)
    pads = _each(op, "padding", padding, 2, 0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"{op}: padding {pads} is more than half the kernel {kernel}")
    size = x.shape[-2:]
    padded = tuple(n + 2 * p for n, p in zip(size, pads, strict=True))
    _fits(op, size, padded, kernel, dilation)
    widths = [
        (p, p + _overhang(n, p, k, s, d) * ceil_mode) for n, p, k, s, d in zip(size, pads, kernel, stride, dilation, strict=True)
    ]
    return x, kernel, stride, ((0, 0),) * (x.ndim - 2) + tuple(widths)


def _overhang(n: int, p: int, k: int, s: int, d: int) -> int:
    """How far the last window goes beyond the padding, if one that starts before the end of the input does."""
    rest = n + 2 * p - d * (k - 1) - 1
    count = -(-rest // s)
    return count * s - rest if count * s < n + p else 0


# Batch normalisation


def batch_norm(
    x: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(N, C, ..) -> (N, C, ..);  y = (x - mean) / sqrt(var + eps) * weight + bias, each (C,)  (Ioffe and Szegedy 2015, alg. 1).

    When training, mean and var are those of the batch, over all axes but C, and the values of the leaves running_mean and
    running_var, unless None, become (1 - momentum) old + momentum new, the new var being the unbiased one; once, also inside
    `tg.checkpoint`.  Else they are running_mean and running_var.  Raises ValueError if those are missing or a channel has one.
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must be (N, C, ..), got shape {x.shape}")

    def channels(name: str, values: Any) -> Tensor:
        return _channels("batch_norm", name, values, x.shape[1], x.ndim - 2)

    if training:
        centre, spread = _batch_statistics(x, running_mean, running_var, momentum)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm needs running_mean and running_var when not training")
    else:
        centre, spread = channels("running_mean", running_mean), channels("running_var", running_var)
        centre, spread = astype(centre, x.dtype), astype(spread, x.dtype)
    y = (x - centre) / (spread + eps) ** 0.5
    y = y if weight is None else y * channels("weight", weight)
    return y if bias is None else y + channels("bias", bias)


def _batch_statistics(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1] if x.size else 0
    if count < 2:
        raise ValueError(f"batch_norm: x of shape {x.shape} has {count} entries a channel, and training needs two")
    centre = mean(x, axes, keepdims=True)
    spread = mean(square(x - centre), axes, keepdims=True)
    repeating = state.tape is not None and state.tape.replaying is not None
    if not repeating:
        for running, new in ((running_mean, centre._array), (running_var, spread._array * (count / (count - 1)))):
            if running is not None:
                running.data = (1 - momentum) * running._array + momentum * new.reshape(-1)
    return centre, spread
