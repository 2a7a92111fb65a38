import numpy as np
import pytest
from kernel_checks import check_kernel, check_layouts, check_none, check_tangents, check_threads, normal

from tensorgrad.kernels import linear

SHAPES = [((1, 1), 1), ((7, 63), 64), ((2, 3, 5), 65), ((9,), 4), ((0, 5), 3), ((5, 0), 3), ((5, 3), 0), ((64, 65), 7)]


def definition(x, weight, bias=0.0):
    return np.einsum("...n,mn->...m", x, weight) + bias


def inputs(shape, outputs, count=3):
    return [normal(*shape), normal(outputs, shape[-1], seed=1), normal(outputs, seed=2)][:count]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_equals_the_definition(shape, outputs, count):
    check_kernel(linear, definition, inputs(shape, outputs, count))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_tangents(shape, outputs, count):
    check_tangents(linear, definition, inputs(shape, outputs, count))


def test_what_stands_still():
    check_none(linear, inputs((2, 3, 5), 4))


def test_layouts_and_threads():
    check_layouts(linear, inputs((5, 67), 3))
    check_threads(linear, inputs((1000, 65), 70))
