"""Modules: names, state, ties, hooks, modes, and differentiation with respect to a whole module."""

import copy
import pickle

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn


class Affine(nn.Module):
    """y = scale * (w x) + offset, with a buffer."""

    def __init__(self, w=2.0):
        self.w = nn.Parameter(np.array([w, -1.0]))
        self.register_buffer("scale", tg.tensor(np.array(3.0)))
        self.register_buffer("scratch", tg.tensor(np.array(0.0)), persistent=False)

    def forward(self, x):
        return self.scale * self.w * x


class Net(nn.Module):
    def __init__(self):
        self.first = Affine(2.0)
        self.branches = nn.ModuleDict({"a": Affine(0.5), "keys": Affine(-1.0)})
        self.rest = nn.ModuleList([Affine(1.5), self.first])
        self.tied = Affine(7.0)
        self.tied.w = self.first.w

    def forward(self, x):
        for module in (self.first, *self.branches.values(), *self.rest, self.tied):
            x = x + tg.sin(module(x))
        return x.sum()


X = np.array([0.3, -0.2])


def numeric_gradient(net, name):
    """Central differences through the state, the definition of the derivative."""
    state, out = net.state_dict(), []
    ties = [other for other in state if other.endswith("w") and np.shares_memory(parameter(net, other), parameter(net, name))]
    for i in range(2):
        values = []
        for step in (1e-6, -1e-6):
            moved = {k: v.copy() for k, v in state.items()}
            for tie in ties:
                moved[tie][i] += step
            net.load_state_dict(moved)
            values.append(net(tg.tensor(X)).item())
        out.append((values[0] - values[1]) / 2e-6)
    net.load_state_dict(state)
    return np.array(out)


def parameter(net, name):
    for part in name.split("."):
        net = dict(net.named_children()).get(part) or getattr(net, part)
    return net._array


def test_state_holds_ties_and_shared_modules_under_every_name_and_parameters_once():
    net = Net()
    assert list(net.state_dict()) == [
        f"{m}.{t}" for m in ("first", "branches.a", "branches.keys", "rest.0", "rest.1", "tied") for t in ("w", "scale")
    ]
    assert [n for n, _ in net.named_parameters()] == ["first.w", "branches.a.w", "branches.keys.w", "rest.0.w"]
    assert [n for n, _ in net.named_buffers()][:2] == ["first.scale", "first.scratch"]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "first",
        "branches",
        "branches.a",
        "branches.keys",
        "rest",
        "rest.0",
        "tied",
    ]


def test_a_state_is_a_copy_and_ties_survive_loading():
    """Cases 134 and 187: after loading there is still one tensor under all its names."""
    net, other = Net(), Net()
    state = net.state_dict()
    state["first.w"][:] = state["rest.1.w"][:] = state["tied.w"][:] = 9
    assert net.first.w.data[0] == 2
    other.load_state_dict(state)
    assert other.tied.w is other.first.w and other.rest[1] is other.first
    assert other.tied.w.data.tolist() == [9, 9]


def test_loading_names_every_fault_and_then_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = {**before, "new": np.ones(2), "tied.w": np.ones(3), "branches.a.w": np.array(["x", "y"])}
    del state["rest.0.w"], state["first.scale"]
    with pytest.raises(ValueError, match="cannot load into Net") as error:
        net.load_state_dict(state)
    for part in ("missing first.scale", "missing rest.0.w", "unexpected new", "tied.w has shape (3,), expected (2,)"):
        assert part in str(error.value)
    assert "branches.a.w has dtype <U1, not numbers" in str(error.value)
    assert all(np.array_equal(net.state_dict()[name], value) for name, value in before.items())
    with pytest.raises(ValueError, match=r"tied\.w has shape"):
        net.load_state_dict(state, strict=False)
    net.load_state_dict({"first.w": np.zeros(2), "unknown": np.zeros(1)}, strict=False)
    assert net.tied.w.data.tolist() == [0, 0]


def test_loading_keeps_the_dtype_and_is_noticed_by_a_pending_backward():
    net = Affine()
    y = (net(tg.tensor(X)) ** 2).sum()
    net.load_state_dict({"w": np.array([1, 2]), "scale": np.float32(3)})
    assert net.w.dtype == np.float64
    with pytest.raises(RuntimeError, match="changed"):
        y.backward()


@pytest.mark.parametrize("name", ["first.w", "branches.a.w", "branches.keys.w", "rest.0.w"])
def test_gradients_of_ties_shared_modules_and_containers(name):
    """Case 134: the gradient of a tied tensor is the sum over its uses."""
    net = Net()
    gradient = tg.grad(lambda m: m(tg.tensor(X)))(net)
    assert list(gradient) == [n for n, _ in net.named_parameters()]
    net(tg.tensor(X)).backward()
    expected = numeric_gradient(net, name)
    np.testing.assert_allclose(gradient[name].data, expected, rtol=1e-6)
    np.testing.assert_allclose(dict(net.named_parameters())[name].grad.data, expected, rtol=1e-6)


def test_a_penalty_over_the_parameters_of_the_argument_is_differentiated_to_second_order():
    net = Net()
    penalty = lambda m: sum(((p * p * p).sum() for p in m.parameters()), start=tg.tensor(0.0))
    gradient = tg.grad(penalty)(net)
    for name, p in net.named_parameters():
        np.testing.assert_allclose(gradient[name].data, 3 * p.data**2)
    direction = {name: np.ones(p.shape) for name, p in net.named_parameters()}
    product = tg.hvp(penalty, net, direction)
    for name, p in net.named_parameters():
        np.testing.assert_allclose(product[name].data, 6 * p.data)


def test_children_reached_through_a_plain_list_are_the_ones_differentiated():
    class Ordered(nn.Module):
        def __init__(self):
            self.a, self.b = Affine(1.0), Affine(2.0)
            self.order = [self.b, {"then": (self.a,)}]

        def forward(self, x):
            return self.order[1]["then"][0](self.order[0](x)).sum()

    net = Ordered()
    gradient = tg.grad(lambda m: m(tg.tensor(X)))(net)
    np.testing.assert_allclose(gradient["a.w"].data, 9 * net.b.w.data * X)
    assert net.order[0] is net.b and "order.0.w" not in net.state_dict()


def test_a_module_is_one_argument_among_others():
    net = Affine()
    f = lambda m, x: (m(x) ** 2).sum()
    by_module, by_x = tg.grad(f, argnums=(0, 1))(net, tg.tensor(X))
    np.testing.assert_allclose(by_module["w"].data, 2 * 9 * net.w.data * X**2)
    np.testing.assert_allclose(by_x.data, 2 * 9 * net.w.data**2 * X)
    assert net.w.grad is None and isinstance(net.w, nn.Parameter)


def test_hooks_see_change_and_go():
    net = Affine()
    seen = []
    net.register_forward_hook(lambda m, args, out: seen.append((m is net, args[0].shape, out.shape)))
    double = net.register_forward_pre_hook(lambda m, args: args[0] * 2)
    with net.register_forward_hook(lambda m, args, out: out + 1):
        np.testing.assert_allclose(net(tg.tensor(X)).data, 6 * net.w.data * X + 1)
    np.testing.assert_allclose(net(tg.tensor(X)).data, 6 * net.w.data * X)
    double.remove()
    double.remove()
    np.testing.assert_allclose(net(tg.tensor(X)).data, 3 * net.w.data * X)
    assert seen == [(True, (2,), (2,))] * 3


def test_hooks_are_called_and_differentiated_under_a_transform():
    net = Affine()
    net.register_forward_hook(lambda m, args, out: out * m.w)
    np.testing.assert_allclose(tg.grad(lambda m: m(tg.tensor(X)).sum())(net)["w"].data, 6 * net.w.data * X)


def test_modes_freezing_and_dtypes_reach_everything_below():
    net = Net()
    assert all(m.training for m in net.modules())
    assert not any(m.training for m in net.eval().modules())
    net.requires_grad_(False)
    assert not net(tg.tensor(X)).requires_grad
    net.astype(np.float32)
    assert {t.dtype for t in (*net.parameters(), *net.buffers())} == {np.dtype(np.float32)}
    assert net.tied.w is net.first.w


def test_results_say_where_in_the_model_they_were_made():
    class Outer(nn.Module):
        def __init__(self):
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Tanh())])
            self.heads = nn.ModuleDict({"mean": nn.Linear(2, 1)})

        def forward(self, x):
            return self.heads["mean"](self.blocks[0](x))

    y = Outer()(tg.tensor(X))
    assert y.scope == ("Outer", "heads.mean")
    scopes, stack = set(), [y]
    while stack:
        t = stack.pop()
        scopes.add(t.scope)
        stack.extend(t.inputs)
    assert {("Outer", "blocks.0", "0"), ("Outer", "blocks.0", "1")} <= scopes


def test_containers_behave_like_their_python_namesakes():
    a, b, c = (nn.Linear(1, 1) for _ in range(3))
    items = nn.ModuleList([a]).append(c)
    items.insert(1, b)
    assert list(items) == [a, b, c] and items[-1] is c and list(items[1:]) == [b, c] and len(items) == 3
    items[0] = c
    assert items[0] is c
    with pytest.raises(TypeError, match="expected a Module, got int"):
        items.append(3)
    named = nn.ModuleDict({"x": a})
    named["forward"] = b
    assert list(named) == ["x", "forward"] and "x" in named and named.pop("x") is a and len(named) == 1
    with pytest.raises(ValueError, match="without dots"):
        named["a.b"] = a
    chain = nn.Sequential(nn.Tanh(), nn.Sigmoid(), nn.ReLU())
    np.testing.assert_allclose(chain[:2](tg.tensor(X)).data, 1 / (1 + np.exp(-np.tanh(X))))


def test_parameters_may_be_replaced_and_deleted_but_not_by_a_plain_tensor():
    net = Affine()
    with pytest.raises(TypeError, match="w is a parameter of Affine"):
        net.w = tg.tensor([1.0, 2.0])
    net.w = nn.Parameter(np.zeros(2))
    net.w.grad = tg.ones(2)
    net.zero_grad()
    assert net.w.grad is None
    del net.w
    net.w = tg.tensor([1.0, 2.0])
    assert not list(net.parameters()) and "w" not in net.state_dict()


def test_a_module_inside_itself_is_an_error_that_says_where():
    net = Affine()
    net.child = nn.Sequential(net)
    with pytest.raises(ValueError, match=r"Affine contains itself, as 'child\.0'"):
        list(net.parameters())


def test_copies_and_pickles_are_independent_and_keep_ties():
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.tied.w is other.first.w and other.first.w is not net.first.w
        assert isinstance(other.first.w, nn.Parameter)
        assert other(tg.tensor(X)).item() == net(tg.tensor(X)).item()
        assert list(other.state_dict()) == list(net.state_dict())


def test_repr_shows_the_tree():
    assert repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Dropout(0.1))) == (
        "Sequential(\n  (0): Linear(2, 3, bias=False)\n  (1): Dropout(0.1)\n)"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Dropout(1.5), "p must be in"),
        (lambda: nn.Dropout(float("nan")), "p must be in"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx must be a row"),
        (lambda: nn.MultiheadAttention(5, 2), "multiple of num_heads"),
        (lambda: nn.Conv2d(3, 4, 2, groups=2), "groups must divide the channels, got 2 for 3 and 4"),
        (lambda: nn.Conv1d(3, 4, (2, 2)), "kernel_size must be 1 lengths"),
        (lambda: nn.BatchNorm2d(3)(tg.ones((2, 3))), "needs 4 axes"),
        (
            lambda: nn.BatchNorm1d(3)(tg.ones((2, 4))),
            r"needs 2 axes or 3 axes, the second of that length, got \(2, 4\)",
        ),
        (lambda: nn.LSTM(2, 0), "at least 1"),
        (lambda: nn.GRU(2, 2, dropout=2.0), "dropout must be in"),
        (lambda: nn.LayerNorm(3)(tg.ones((2, 4))), r"over \(3,\) got a tensor of shape \(2, 4\)"),
        (
            lambda: nn.LSTM(2, 3)(tg.ones((4, 1, 2)), (tg.ones((1, 1, 2)), tg.ones((1, 1, 3)))),
            "initial state has shape",
        ),
    ],
)
def test_faults_are_explained(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_dropout_follows_the_mode_and_the_generator():
    layer = nn.Dropout(0.5)
    x = tg.ones((1000,))
    a, b = layer(x, rng=np.random.default_rng(1)), layer(x, rng=np.random.default_rng(1))
    assert np.array_equal(a.data, b.data) and set(np.unique(a.data)) == {0.0, 2.0}
    assert 400 < (a.data > 0).sum() < 600
    assert np.array_equal(layer.eval()(x).data, x.data)


@pytest.mark.parametrize("width", [1, 768, 769])
def test_padding_gets_no_gradient_at_all(width):
    """Case 74."""
    table = nn.Embedding(5, width, padding_idx=2)
    assert not table.weight.data[2].any()
    ids = np.random.default_rng(0).integers(0, 5, 10_000)
    tg.sum(table(ids) * 0.5).backward()
    counts = np.bincount(ids, minlength=5) * (np.arange(5) != 2)
    np.testing.assert_allclose(table.weight.grad.data, np.repeat(0.5 * counts[:, None], width, 1))


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_long_sequence_costs_in_proportion(cell, monkeypatch):
    """Case 27: the backward pass through n steps makes no array of the whole sequence for each step."""

    def zeros_made(length):
        layer = getattr(nn, cell)(1, 4)
        y = layer(np.ones((length, 1, 1), np.float32))[0].sum()
        made, zeros = [], np.zeros
        with monkeypatch.context() as patch:
            patch.setattr(
                np, "zeros", lambda shape, *args, **kwargs: made.append(np.prod(shape)) or zeros(shape, *args, **kwargs)
            )
            y.backward()
        return sum(made)

    assert zeros_made(512) < 16 * zeros_made(64)
