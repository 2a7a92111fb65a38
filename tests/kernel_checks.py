"""What every fused kernel is held to: its definition in float64 NumPy, two independent derivatives of that, and good manners."""

import numba
import numpy as np
import pytest

ROWS = [(1, 1), (7, 63), (3, 64), (64, 65), (65, 7), (2, 257), (2, 3, 5), (9,), (0, 5), (5, 0), (2, 0, 3)]


def normal(*shape, seed=0):
    """float64 samples that float32 represents exactly, so that both precisions get the same inputs."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32).astype(np.float64)


def check_kernel(module, definition, arrays, params=None, analytic=True, steepness=0.0):
    """Values and gradients of a kernel in both precisions. `definition` takes float64 arrays, or complex ones if analytic.

    A float32 gradient may be off by 1e-6 of its largest entry, or of g times `steepness`, the size of the terms of
    dy/dx where they can cancel to nothing.
    """
    params = params or {}
    y, grads = run(module, arrays, params)
    wanted = definition(*arrays, **params)
    g = upstream(y)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13 * scale(wanted))
    for k, grad in enumerate(grads):
        check_slope(definition, arrays, params, k, g, grad, central, 1e-6)
        if analytic:
            check_slope(definition, arrays, params, k, g, grad, complex_step, 1e-12)
    singles = [x.astype(np.float32) for x in arrays]
    y32, grads32 = run(module, singles, params)
    length = max((1, *arrays[0].shape[-1:]))
    np.testing.assert_allclose(y32, wanted, rtol=1.3e-6 * length**0.5, atol=1e-6 * scale(wanted))
    for grad32, grad in zip(grads32, grads, strict=True):
        np.testing.assert_allclose(grad32, grad, rtol=1e-4, atol=1e-6 * max(scale(grad), steepness * scale(g)))


def run(module, arrays, params):
    """(value, gradients), after checking that shapes and dtypes fit and that nothing given was changed or is shared."""
    y, saved = module.forward(*arrays, **params)
    g = upstream(y)
    given = [*arrays, g, y, *saved]
    before = [x.tobytes() for x in given]
    grads = module.backward(g, y, saved, *arrays, **params)
    assert [x.tobytes() for x in given] == before
    assert y.dtype == arrays[0].dtype
    assert [(x.shape, x.dtype) for x in grads] == [(x.shape, x.dtype) for x in arrays]
    everything = [*given, *grads]
    assert not any(np.shares_memory(a, b) for a in grads for b in everything if a is not b)
    return y, grads


def upstream(y):
    return np.random.default_rng(9).normal(size=y.shape).astype(y.dtype)


def scale(x):
    return np.abs(x).max(initial=0)


def check_slope(definition, arrays, params, k, g, grad, method, tolerance):
    """<grad, v> equals the derivative of <g, f> along v, for two random directions v of input k."""
    for seed in range(2):
        v = np.random.default_rng(seed).normal(size=arrays[k].shape)
        slope, size = method(lambda x: g * definition(*arrays[:k], x, *arrays[k + 1 :], **params), arrays[k], v)
        assert abs(np.sum(grad * v) - slope) <= tolerance * (1 + size + np.sum(np.abs(grad * v)))


def complex_step(f, x, v):
    terms = f(x + 1e-20j * v).imag / 1e-20
    return terms.sum(), np.abs(terms).sum()


def central(f, x, v):
    h = 6e-6
    terms = (f(x + h * v) - f(x - h * v)) / (2 * h)
    return terms.sum(), np.abs(terms).sum()


def check_layouts(module, arrays, params=None):
    """Strided, reversed, Fortran-ordered, misaligned and read-only inputs give the bits that contiguous ones give."""
    params = params or {}
    for dtype in (np.float32, np.float64):
        plain = [np.ascontiguousarray(x, dtype) for x in arrays]
        y, grads = run(module, plain, params)
        for layout in (stretched, reversed_, fortran, misaligned, readonly):
            other_y, other_grads = run(module, [layout(x) for x in plain], params)
            for a, b in zip([y, *grads], [other_y, *other_grads], strict=True):
                np.testing.assert_array_equal(a, b)


def stretched(x):
    wide = np.frombuffer(b"\xff" * (x.nbytes << x.ndim), x.dtype).reshape([2 * n for n in x.shape]).copy()  # nan, or -1
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_(x):
    return np.ascontiguousarray(np.flip(x))[tuple(slice(None, None, -1) for _ in x.shape)]


def fortran(x):
    return np.asfortranarray(x)


def misaligned(x):
    view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def readonly(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def same_on_threads(call):
    """The arrays that `call` returns have the same bits on one thread and on two."""
    try:
        numba.set_num_threads(1)
        alone = call()
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        for _ in range(5):
            for a, b in zip(alone, call(), strict=True):
                assert a.tobytes() == b.tobytes()
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def flat(result):
    y, grads = result
    return [y, *grads]


def check_threads(module, arrays, params=None):
    params = params or {}
    for dtype in (np.float32, np.float64):
        typed = [x.astype(dtype) for x in arrays]
        same_on_threads(lambda typed=typed: flat(run(module, typed, params)))


both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
