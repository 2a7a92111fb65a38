"""Elementwise functions of whole arrays: those that NumPy lacks or computes slowly, and arithmetic on several threads.

Each reads and writes every element once, 8 bytes in float32 (12 for two arrays), for 1 to 40 FLOPs: on several cores memory
is the limit. Sums, differences, products, quotients and relu have the bits that NumPy's have.
"""

from numba import prange

from tensorgrad.kernels import functions
from tensorgrad.kernels.jit import parallel, serial
from tensorgrad.kernels.rows import Array, bounds, empty, pieces, vector

_EXP, _LOG, _TANH, _SIGMOID, _ERF, _ERFC, _RELU = range(7)
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = range(4)


def exp(x: Array) -> Array:
    """(..) -> (..);  y = e^x."""
    return _map(_EXP, x)


def log(x: Array) -> Array:
    """(..) -> (..);  y = log x; -inf at 0, nan below."""
    return _map(_LOG, x)


def tanh(x: Array) -> Array:
    """(..) -> (..);  y = tanh x."""
    return _map(_TANH, x)


def sigmoid(x: Array) -> Array:
    """(..) -> (..);  y = 1 / (1 + e^-x)."""
    return _map(_SIGMOID, x)


def erf(x: Array) -> Array:
    """(..) -> (..);  y = 2/sqrt(pi) int_0^x e^-t^2 dt."""
    return _map(_ERF, x)


def erfc(x: Array) -> Array:
    """(..) -> (..);  y = 1 - erf x, accurate where that is small."""
    return _map(_ERFC, x)


def relu(x: Array) -> Array:
    """(..) -> (..);  y = max(x, 0), nan of nan."""
    return _map(_RELU, x)


def add(x: Array, y: Array) -> Array:
    """(..), (..) -> (..), of one shape;  z = x + y."""
    return _pair(_ADD, x, y)


def subtract(x: Array, y: Array) -> Array:
    """(..), (..) -> (..), of one shape;  z = x - y."""
    return _pair(_SUBTRACT, x, y)


def multiply(x: Array, y: Array) -> Array:
    """(..), (..) -> (..), of one shape;  z = x y."""
    return _pair(_MULTIPLY, x, y)


def divide(x: Array, y: Array) -> Array:
    """(..), (..) -> (..), of one shape;  z = x / y."""
    return _pair(_DIVIDE, x, y)


def _map(which: int, x: Array) -> Array:
    y = empty(x.shape, x.dtype)
    _map_chunks.at(4 * x.size)(which, vector(x), y.reshape(-1), pieces(x.size))
    return y


def _pair(which: int, x: Array, y: Array) -> Array:
    z = empty(x.shape, x.dtype)
    _pair_chunks.at(x.size)(which, vector(x), vector(y), z.reshape(-1), pieces(x.size))
    return z


@parallel
def _map_chunks(which, x, y, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _map_chunk(which, x[start:stop], y[start:stop])


@parallel
def _pair_chunks(which, x, y, z, chunks):
    for c in prange(chunks):
        start, stop = bounds(c, chunks, x.size)
        _pair_chunk(which, x[start:stop], y[start:stop], z[start:stop])


@serial
def _map_chunk(which, x, y):
    """One loop a function, in one kernel: a driver for each would take six times as long to compile and load."""
    if which == _EXP:
        for i in range(x.size):
            y[i] = functions.exp(x[i])
    elif which == _LOG:
        for i in range(x.size):
            y[i] = functions.log(x[i])
    elif which == _TANH:
        for i in range(x.size):
            y[i] = functions.tanh(x[i])
    elif which == _SIGMOID:
        for i in range(x.size):
            y[i] = functions.sigmoid(x[i])
    elif which == _ERF:
        for i in range(x.size):
            y[i] = functions.erf(x[i])
    elif which == _ERFC:
        for i in range(x.size):
            y[i] = functions.erfc(x[i])
    else:
        for i in range(x.size):
            y[i] = x.dtype.type(0) if x[i] <= 0 else x[i]


@serial
def _pair_chunk(which, x, y, z):
    if which == _ADD:
        for i in range(x.size):
            z[i] = x[i] + y[i]
    elif which == _SUBTRACT:
        for i in range(x.size):
            z[i] = x[i] - y[i]
    elif which == _MULTIPLY:
        for i in range(x.size):
            z[i] = x[i] * y[i]
    else:
        for i in range(x.size):
            z[i] = x[i] / y[i]
