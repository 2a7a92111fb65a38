"""Vectors of arrays of any layout, as the compiler wants them: contiguous by type, so that loops over them vectorise."""

from numba import carray, types
from numba.extending import intrinsic

from tensorgrad.kernels.jit import config, inline


@intrinsic
def _pointer(typing, address, like):
    def emit(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), emit


@inline
def address(x, b, h, t):
    """Of x[b, h, t, 0]."""
    return x.ctypes.data + b * x.strides[0] + h * x.strides[1] + t * x.strides[2]


@inline
def vector_at(x, b, h, t, like):
    """x[b, h, t], which must be contiguous; `like` is a number of its type."""
    return carray(_pointer(address(x, b, h, t), like), (x.shape[3],))


def _plain_vector(x, b, h, t, like):
    """vector_at in plain Python, for NUMBA_DISABLE_JIT."""
    return x[b, h, t]


if config.DISABLE_JIT:
    vector_at = _plain_vector
