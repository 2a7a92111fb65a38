"""Convolution, batch normalisation and pooling over (N, C, L) and (N, C, H, W) as modules; arguments are PyTorch's."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from ..graph import Tensor, as_tensor, state
from ..ops import conv
from ..ops.conv import Size
from .layers import Rng, constant, uniform
from .module import Module, Parameter


class _Conv(Module):
    """weight (out, in / groups, *kernel) and bias (out,) start uniform in +-1/sqrt(in / groups * prod kernel)."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | Literal["valid", "same"] = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Rng = None,
    ):
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups must divide the channels, got {groups} for {in_channels} and {out_channels}")
        kernel = (kernel_size,) * self.axes if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != self.axes or min(kernel) < 1:
            raise ValueError(f"kernel_size must be {self.axes} lengths >= 1, got {kernel_size}")
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        rng = rng or np.random.default_rng()
        shape = (out_channels, in_channels // groups, *kernel)
        bound = 1 / math.sqrt(math.prod(shape[1:])) if in_channels else 0.0
        self.weight = uniform(rng, bound, *shape)
        self.bias = uniform(rng, bound, out_channels) if bias else None

    def forward(self, x: Any) -> Tensor:
        op = conv.conv1d if self.axes == 1 else conv.conv2d
        return op(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        out, channels, *kernel = self.weight.shape
        return f"{channels * self.groups}, {out}, {tuple(kernel)}, stride={self.stride}, padding={self.padding}"


class Conv1d(_Conv):
    """(N, C, L) -> (N, O, L');  y_nol = b_o + sum_cj w_ocj x_n,c,(l stride + j dilation); see tg.conv1d."""

    axes = 1


class Conv2d(_Conv):
    """(N, C, H, W) -> (N, O, H', W'), as Conv1d along two axes; see tg.conv2d."""

    axes = 2


class _BatchNorm(Module):
    """weight and bias (C,), and running statistics that follow those of the batches when training."""

    dimensions: tuple[int, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = constant(1.0, num_features) if affine else None
        self.bias = constant(0.0, num_features) if affine else None
        start = np.zeros(num_features, np.float32), np.ones(num_features, np.float32), np.array(0)
        for name, value in zip(("running_mean", "running_var", "num_batches_tracked"), start, strict=True):
            self.register_buffer(name, value if track_running_stats else None)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in self.dimensions or x.shape[1] != self.num_features:
            expected = " or ".join(f"{n} axes" for n in self.dimensions)
            raise ValueError(
                f"{type(self).__name__}({self.num_features}) needs {expected}, the second of that length, got {x.shape}"
            )
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            if state.tape is None or state.tape.replaying is None:  # a recomputation is no new batch
                self.num_batches_tracked.data = self.num_batches_tracked._array + 1
            if momentum is None:
                momentum = 1 / float(self.num_batches_tracked._array)
        batch = self.training or self.running_mean is None
        return conv.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, momentum or 0.0, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """(N, C) or (N, C, L);  y = (x - mean) / sqrt(var + eps) * weight + bias, by channel (Ioffe and Szegedy 2015).

    mean and var are the batch's when training, then the running ones, which move by the fraction `momentum`, or are the
    mean over all batches when it is None.
    """

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """(N, C, H, W), as BatchNorm1d."""

    dimensions = (4,)


class MaxPool2d(Module):
    """(N, C, H, W) -> (N, C, H', W'): the largest entry of each window; see tg.max_pool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        *,
        ceil_mode: bool = False,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Tensor:
        return conv.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """(N, C, H, W) -> (N, C, H', W'): the mean of each window; see tg.avg_pool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Tensor:
        return conv.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"
