"""Results begin far from what lies before them in memory: a loop that writes close behind what it reads rounds differently."""

import numpy as np
import pytest

from tensorgrad import kernels
from tensorgrad.kernels.rows import empty, zeros


@pytest.mark.parametrize("make", [empty, zeros])
@pytest.mark.parametrize(("shape", "dtype"), [(3, "float64"), ((2, 5), "float32"), ((0, 4), "float64"), ((), "float32")])
def test_new_arrays_keep_their_distance(make, shape, dtype):
    x = make(shape, dtype)
    assert x.shape == np.empty(shape).shape and x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned
    assert x.ctypes.data - x.base.ctypes.data >= 512


def test_kernels_use_them():
    x = np.random.default_rng(0).standard_normal((2, 5))
    y, saved = kernels.softmax.forward(x)
    (dx,) = kernels.softmax.backward(x, y, saved, x)
    for result in (y, dx, kernels.layer_norm.forward(x, eps=1e-5)[0], kernels.gelu.forward(x, approximate="none")[0]):
        base = result
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert result.ctypes.data - base.ctypes.data >= 512
