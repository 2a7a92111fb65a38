import numpy as np
import pytest
from kernel_checks import both, check_kernel, check_layouts, check_none, check_tangents, check_threads, normal, run

from tensorgrad.kernels import rotary

SHAPES = [(1, 2), (7, 6), (2, 63, 64), (2, 3, 65, 10), (1, 2, 2, 3, 130), (0, 4), (3, 0), (2, 0, 5, 2), (1000, 2)]


def definition(x, *, cos, sin, interleaved):
    n = x.shape[-1]
    first, second = (slice(0, n, 2), slice(1, n, 2)) if interleaved else (slice(0, n // 2), slice(n // 2, n))
    z = (x[..., first] + 1j * x[..., second]) * (cos + 1j * sin) if np.isrealobj(x) else None
    a, b = (z.real, z.imag) if z is not None else (x[..., first] * cos - x[..., second] * sin,
                                                   x[..., second] * cos + x[..., first] * sin)  # fmt: skip
    y = np.empty_like(x)
    y[..., first], y[..., second] = a, b
    return y


class Typed:
    """The kernel with tables of the type of x."""

    def __getattr__(self, name):
        def call(*args, cos, sin, **how):
            dtype = next(a.dtype for a in reversed(args) if isinstance(a, np.ndarray))
            return getattr(rotary, name)(*args, cos=cos.astype(dtype), sin=sin.astype(dtype), **how)

        return call


def tables(shape, interleaved):
    angle = normal(shape[-2], shape[-1] // 2, seed=3)
    return {"cos": np.cos(angle), "sin": np.sin(angle), "interleaved": interleaved}


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, interleaved):
    check_kernel(Typed(), definition, [normal(*shape)], tables(shape, interleaved))
    check_tangents(Typed(), definition, [normal(*shape)], tables(shape, interleaved))


@pytest.mark.parametrize("interleaved", [False, True])
def test_layouts_threads_and_what_stands_still(interleaved):
    check_layouts(Typed(), [normal(2, 3, 5, 6)], tables((5, 6), interleaved))
    check_threads(Typed(), [normal(4, 5, 70, 64)], tables((70, 64), interleaved))
    check_none(Typed(), [normal(3, 4)], tables((3, 4), interleaved))


@both
def test_heads_of_a_projection_without_a_copy(dtype):
    x = normal(2, 7, 3, 4).astype(dtype)
    how = tables((7, 4), False)
    np.testing.assert_array_equal(
        run(Typed(), [x.swapaxes(1, 2)], how)[0], run(Typed(), [np.ascontiguousarray(x.swapaxes(1, 2))], how)[0]
    )
