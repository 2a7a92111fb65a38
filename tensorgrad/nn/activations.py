"""Activations as modules: each names an op."""

from __future__ import annotations

from typing import Any, Literal

from ..graph import Tensor
from ..ops import elementwise, fused
from .module import Module


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return elementwise.relu(x)


class Sigmoid(Module):
    """y = 1 / (1 + e^-x)."""

    def forward(self, x: Any) -> Tensor:
        return elementwise.sigmoid(x)


class Tanh(Module):
    """y = tanh x."""

    def forward(self, x: Any) -> Tensor:
        return elementwise.tanh(x)


class SiLU(Module):
    """y = x sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return fused.silu(x)


class GELU(Module):
    """y = x Phi(x), or its tanh approximation."""

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return fused.gelu(x, self.approximate)


class LeakyReLU(Module):
    """y = x for x > 0, else negative_slope x."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return elementwise.leaky_relu(x, self.negative_slope)


class ELU(Module):
    """y = x for x > 0, else alpha (e^x - 1)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return elementwise.elu(x, self.alpha)


class Softplus(Module):
    """y = ln(1 + e^(beta x)) / beta."""

    def __init__(self, beta: float = 1.0):
        self.beta = beta

    def forward(self, x: Any) -> Tensor:
        return elementwise.divide(elementwise.softplus(x * self.beta), self.beta)


class Softmax(Module):
    """y_i = exp x_i / sum_j exp x_j along the axis `dim`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return fused.softmax(x, self.dim)


class LogSoftmax(Module):
    """y_i = x_i - log sum_j exp x_j along the axis `dim`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return fused.log_softmax(x, self.dim)
