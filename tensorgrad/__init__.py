"""tensorgrad: reverse- and forward-mode automatic differentiation of any order on NumPy arrays."""

from . import array_api, check, curvature, interchange, linalg, nn, numpy_protocol, optim, syntax
from .anomaly import AnomalyError, detect_anomaly
from .array_api import float32, float64, int32, int64
from .autodiff import grad, jvp, linearize, stop_gradient, value_and_grad, vjp
from .cost import cost
from .creation import arange, asarray, eye, from_dlpack, full, full_like, linspace, ones, ones_like, zeros, zeros_like
from .draw import draw, render
from .graph import Tensor, tensor
from .modes import definitions, enable_grad, no_grad
from .ops.attention import attention, rotary, self_attention
from .ops.conv import avg_pool2d, batch_norm, conv1d, conv2d, max_pool2d
from .ops.einsum import einsum
from .ops.elementwise import (
    abs,
    acos,
    acosh,
    add,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    clip,
    cos,
    cosh,
    divide,
    elu,
    erf,
    erfc,
    exp,
    expm1,
    floor,
    hypot,
    leaky_relu,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    reciprocal,
    relu,
    round,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)
from .ops.fused import (
    binary_cross_entropy,
    cross_entropy,
    dropout,
    feed_forward,
    gelu,
    kl_div,
    layer_norm,
    linear,
    log_softmax,
    mse_loss,
    rms_norm,
    silu,
    softmax,
)
from .ops.index import (
    argmax,
    argmin,
    argsort,
    embedding,
    getitem,
    index_update,
    nonzero,
    scatter_add,
    searchsorted,
    sort,
    take,
    take_along_axis,
    topk,
)
from .ops.linalg import (
    matmul,
    outer,
    tensordot,
    vecdot,
)
from .ops.logic import (
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from .ops.reduce import (
    all,
    any,
    cumulative_prod,
    cumulative_sum,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    std,
    sum,
    var,
)
from .ops.shape import (
    astype,
    broadcast_to,
    concat,
    diagonal,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    pad,
    permute_dims,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    tril,
    triu,
    unstack,
)
from .trace import trace
from .transforms import checkpoint, custom_vjp, ggnvp, hessian, hvp, jacfwd, jacobian, jacrev
