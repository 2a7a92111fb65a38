"""What every fused kernel is held to: its definition in float64 NumPy, independent derivatives of that, and good manners."""

from itertools import product

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


def check_tangents(module, definition, arrays, params=None, analytic=True, steepness=0.0):
    """What a kernel's `tangent` and `backward_tangent` return, in both precisions: as `check_kernel`, one order higher.

    The tangent of the gradient is held to central differences of the gradient of the definition, taken by complex steps, and
    of the kernel's own `backward`; `steepness` is here the size of the terms of the second derivative.
    """
    params = params or {}
    g = upstream(module.forward(*arrays, **params)[0])
    tg, ts = motion(g, arrays)
    ty, grads = run_tangents(module, arrays, params, tg, ts)
    f = (lambda *xs: definition(*xs, **params)) if analytic else (lambda *xs: module.forward(*xs, **params)[0])
    np.testing.assert_allclose(ty, along(f, arrays, ts), rtol=1e-9, atol=1e-10 * max(scale(ty), 1))
    if analytic:
        z = f(*[x + 1e-20j * t for x, t in zip(arrays, ts, strict=True)])
        np.testing.assert_allclose(ty, z.imag / 1e-20, rtol=1e-10, atol=1e-12 * max(scale(ty), 1))

    def backward(g, *xs):
        y, saved = module.forward(*xs, **params)
        return np.concatenate([x.ravel() for x in module.backward(g, y, saved, *xs, **params)])

    wanted = along(backward, [g, *arrays], [tg, *ts])
    got = np.concatenate([x.ravel() for x in grads])
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-10 * max(scale(got), 1))
    for k in range(len(arrays) if analytic else 0):
        check_curvature(f, arrays, k, g, tg, ts, grads[k])
    single = [[x.astype(np.float32) for x in xs] for xs in (arrays, [tg], ts)]
    ty32, grads32 = run_tangents(module, single[0], params, single[1][0], single[2])
    np.testing.assert_allclose(ty32, ty, rtol=1e-4, atol=2e-6 * max(scale(ty), steepness))
    for grad32, grad in zip(grads32, grads, strict=True):
        np.testing.assert_allclose(grad32, grad, rtol=1e-4, atol=2e-6 * max(scale(grad), steepness))


def motion(g, arrays):
    """Tangents of the cotangent and of the inputs."""
    return normal(*g.shape, seed=90), [normal(*x.shape, seed=91 + i) for i, x in enumerate(arrays)]


def run_tangents(module, arrays, params, tg, ts):
    """(tangent of the value, tangents of the gradients), after checking manners and that None is a tangent of zero."""
    y, saved = module.forward(*arrays, **params)
    g = upstream(y)
    given = [*arrays, g, tg, *ts, y, *saved]
    before = [x.tobytes() for x in given]
    ty = module.tangent(tuple(ts), y, saved, *arrays, **params)
    grads = module.backward_tangent(tg, tuple(ts), g, y, saved, *arrays, **params)
    assert [x.tobytes() for x in given] == before
    assert (ty.shape, ty.dtype) == (y.shape, y.dtype)
    assert [(x.shape, x.dtype) for x in grads] == [(x.shape, x.dtype) for x in arrays]
    results = [ty, *grads]
    assert not any(np.shares_memory(a, b) for a in results for b in [*given, *results] if a is not b)
    return ty, grads


def along(f, xs, ts):
    """The derivative of f as xs move along ts, by central differences of fourth order."""
    h = 3e-4

    def at(step):
        return f(*[x + step * h * t for x, t in zip(xs, ts, strict=True)])

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


def check_curvature(f, arrays, k, g, tg, ts, grad):
    """<grad, v> equals the derivative, as g and the inputs move along tg and ts, of <g, derivative of f along v> in input k."""
    v = np.random.default_rng(k).normal(size=arrays[k].shape)

    def slope(g, *xs):
        moved = [x + 1e-20j * v if i == k else x for i, x in enumerate(xs)]
        return np.sum(g * (f(*moved).imag / 1e-20))

    tolerance = 1e-10 * (1 + np.abs(grad * v).sum())
    assert abs(np.sum(grad * v) - along(slope, [g, *arrays], [tg, *ts])) <= tolerance


def check_none(module, arrays, params=None):
    """None gives what a tangent of zero gives, for every choice of what stands still."""
    params = params or {}
    for dtype in (np.float32, np.float64):
        typed = [x.astype(dtype) for x in arrays]
        y, saved = module.forward(*typed, **params)
        g = upstream(y)
        tg, ts = motion(g, typed)
        moving = [t.astype(dtype) for t in (tg, *ts)]
        for still in product([False, True], repeat=len(moving)):
            nones = [None if stop else t for t, stop in zip(moving, still, strict=True)]
            zeros = [t * 0 if stop else t for t, stop in zip(moving, still, strict=True)]
            a, b = ([module.tangent(tuple(ts), y, saved, *typed, **params),
                     *module.backward_tangent(tg, tuple(ts), g, y, saved, *typed, **params)]
                    for tg, *ts in (nones, zeros))  # fmt: skip
            for some, other in zip(a, b, strict=True):
                np.testing.assert_allclose(some, other, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6 * scale(other))


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
        results = everything(module, plain, params)
        for layout in (stretched, reversed_, fortran, misaligned, readonly):
            for a, b in zip(results, everything(module, plain, params, layout), strict=True):
                np.testing.assert_array_equal(a, b)


def everything(module, arrays, params, layout=lambda x: x):
    """All that a kernel returns: value, gradients and, if it has them, their tangents."""
    y, grads = run(module, [layout(x) for x in arrays], params)
    results = [y, *grads]
    if hasattr(module, "tangent"):
        tg, ts = motion(y, arrays)
        tg, *ts = (layout(t.astype(y.dtype)) for t in (tg, *ts))
        ty, tangents = run_tangents(module, [layout(x) for x in arrays], params, tg, ts)
        results += [ty, *tangents]
    return results


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


def check_threads(module, arrays, params=None):
    params = params or {}
    for dtype in (np.float32, np.float64):
        typed = [x.astype(dtype) for x in arrays]
        same_on_threads(lambda typed=typed: everything(module, typed, params))


both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
