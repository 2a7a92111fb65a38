"""The public contract: every name that the design fixes is there, as what it is meant to be."""

import inspect

import numpy as np
import pytest

import tensorgrad as tg

CREATION = "tensor zeros ones full arange linspace eye zeros_like ones_like full_like"
ELEMENTWISE = """add subtract multiply divide negative pow abs sign square sqrt reciprocal exp expm1 log log1p log2
    log10 sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh hypot erf erfc sigmoid
    softplus relu leaky_relu elu silu gelu maximum minimum clip where logaddexp floor ceil round"""
COMPARISONS = """equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor logical_not
    isnan isinf isfinite"""
SHAPE = """reshape permute_dims transpose matrix_transpose swapaxes moveaxis expand_dims squeeze broadcast_to
    flip roll concat stack unstack split tile repeat pad tril triu diagonal"""
INDEX = """take take_along_axis getitem scatter_add index_update sort argsort topk argmax argmin nonzero
    searchsorted"""
REDUCE = "sum prod mean var std max min logsumexp norm cumulative_sum cumulative_prod any all"
LINEAR_ALGEBRA = "matmul einsum tensordot vecdot outer trace"
LEARNING = """softmax log_softmax cross_entropy binary_cross_entropy mse_loss kl_div layer_norm rms_norm
    batch_norm linear feed_forward embedding attention dropout rotary conv1d conv2d max_pool2d avg_pool2d"""
DERIVATIVES = """grad value_and_grad vjp jvp linearize jacrev jacfwd jacobian hessian hvp ggnvp checkpoint
    stop_gradient no_grad custom_vjp definitions detect_anomaly"""
SEEING = "draw"

FUNCTIONS = " ".join(
    [CREATION, ELEMENTWISE, COMPARISONS, SHAPE, INDEX, REDUCE, LINEAR_ALGEBRA, LEARNING, DERIVATIVES, SEEING]
).split()
SUBMODULES = {
    "linalg": "norm inv solve det slogdet cholesky",
    "check": "check_grads taylor_test",
    "nn": """Module Parameter Linear Embedding LayerNorm RMSNorm Dropout Sequential ModuleList ModuleDict Conv1d
    Conv2d BatchNorm1d BatchNorm2d MultiheadAttention LSTM GRU""",
    "optim": """SGD RMSprop Adagrad Adam AdamW Muon lbfgs newton_cg levenberg_marquardt constant linear cosine one_cycle
    warmup_cosine warmup_stable_decay Plateau clip_grad_norm""",
    "curvature": "eigenvalues spectral_density trace diagonal critical_point sensitivity",
}
ATTRIBUTES = "data shape dtype ndim size T requires_grad grad".split()
METHODS = """item numpy detach astype backward sum mean max min reshape transpose prod var std any all squeeze
    swapaxes flatten argmax argmin exp log sqrt tanh abs clip matmul""".split()
OPERATORS = """add radd sub rsub mul rmul truediv rtruediv pow rpow matmul rmatmul neg pos abs floordiv mod eq ne
    lt le gt ge and or xor invert lshift rshift getitem len iter bool float int index repr""".split()
PROTOCOLS = "array array_ufunc array_function array_namespace dlpack dlpack_device reduce".split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function = getattr(tg, name)
    assert callable(function)
    assert inspect.getdoc(function), f"tg.{name} says nothing of itself"


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in SUBMODULES.items() for name in names.split()])
def test_submodules(module, name):
    value = getattr(getattr(tg, module), name)
    assert callable(value)
    assert inspect.getdoc(value), f"tg.{module}.{name} says nothing of itself"


def test_tensor():
    t = tg.tensor([[1.0, 2.0]], requires_grad=True)
    for name in ATTRIBUTES:
        getattr(t, name)
    for name in METHODS:
        assert callable(getattr(t, name))
    for name in OPERATORS + PROTOCOLS:
        assert callable(getattr(t, f"__{name}__")), name
    assert isinstance(t.data, np.ndarray) and t.shape == (1, 2) and t.dtype == np.float32 and t.ndim == t.size == 2
    assert t.T.shape == (2, 1) and t.grad is None


SIGNATURES = {
    "tensor": "data dtype requires_grad",
    "grad": "f argnums has_aux",
    "value_and_grad": "f argnums has_aux",
    "jvp": "f primals tangents",
    "hvp": "f primals tangents",
    "checkpoint": "f",
    "conv2d": "x weight bias stride padding dilation groups",
    "conv1d": "x weight bias stride padding dilation groups",
    "max_pool2d": "x kernel_size stride padding dilation ceil_mode",
    "avg_pool2d": "x kernel_size stride padding ceil_mode count_include_pad",
    "batch_norm": "x running_mean running_var weight bias training momentum eps",
    "Tensor.backward": "self|output gradient retain_graph create_graph on_gradient",
    "check.check_grads": "f args order modes",
    "check.taylor_test": "f args",
    "linalg.norm": "x ord axis keepdims",
}


@pytest.mark.parametrize(("name", "wanted"), SIGNATURES.items(), ids=SIGNATURES)
def test_arguments_come_in_the_fixed_order(name, wanted):
    function = tg
    for part in name.split("."):
        function = getattr(function, part)
    given = [*inspect.signature(function).parameters]
    for place, names in enumerate(wanted.split()):
        assert given[place] in names.split("|")


@pytest.mark.parametrize("name", ["parameters", "named_parameters", "state_dict", "load_state_dict", "train", "eval"])
def test_modules(name):
    assert callable(getattr(tg.nn.Module, name))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_optimizers(name):
    optimizer = getattr(tg.optim, name)(tg.nn.Linear(2, 1).parameters(), lr=0.1)
    assert callable(optimizer.step) and callable(optimizer.zero_grad) and optimizer.state_dict() and optimizer.param_groups


def test_both_styles_train():
    """loss.backward(); optimizer.step() for those who come from PyTorch, tg.grad(f)(params) for those who come from JAX."""
    x, target = tg.tensor([[1.0, 2.0], [3.0, -1.0]]), tg.tensor([[1.0], [0.0]])
    model = tg.nn.Linear(2, 1)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    loss = tg.mse_loss(model(x), target)
    gradients = tg.grad(lambda m: tg.mse_loss(m(x), target))(model)
    optimizer.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad, rtol=1e-6)
    optimizer.step()
    assert tg.mse_loss(model(x), target).item() < loss.item()
