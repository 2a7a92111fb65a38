"""Every layer against torch.nn: the same state, outputs and gradients, in float64 to rounding."""

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn

torch = pytest.importorskip("torch")


def pair(name, *args, **kwargs):
    """Our layer and torch's with the same random weights, in float64."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    ours = getattr(nn, name)(*args, **kwargs).astype(np.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.rand(p.shape, generator=generator, dtype=torch.float64) - 0.5)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def leaves(out):
    return [leaf for part in out for leaf in leaves(part)] if isinstance(out, tuple) else [] if out is None else [out]


def agree(ours, theirs, inputs, **kwargs):
    """Outputs and the gradients of a random projection of them with respect to inputs and parameters are equal."""
    rng = np.random.default_rng(1)
    mine = [tg.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    other = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    got = leaves(ours(*mine, **kwargs))
    expected = leaves(theirs(*other, **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}))
    assert len(got) == len(expected)
    total, target = 0, 0
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-10, atol=1e-12)
        direction = rng.standard_normal(a.shape)
        total, target = total + (a * direction).sum(), target + (b * torch.tensor(direction)).sum()
    total.backward()
    target.backward()
    gradients = zip([*mine, *ours.parameters()], [*other, *theirs.parameters()], strict=True)
    for a, b in gradients:
        if b.grad is not None:
            np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-9, atol=1e-11)


def normal(*shape, seed=2):
    return np.random.default_rng(seed).standard_normal(shape)


SAMPLES = [
    ("Linear", (3, 4), {}, [normal(2, 5, 3)]),
    ("Linear", (3, 4), {"bias": False}, [normal(3)]),
    ("Embedding", (7, 3), {}, [np.array([[1, 6], [1, 0]])]),
    ("Embedding", (7, 3), {"padding_idx": -1}, [np.array([[1, 6, 6], [1, 0, 6]])]),
    ("LayerNorm", (5,), {}, [normal(2, 3, 5)]),
    ("LayerNorm", (5,), {"bias": False, "eps": 1e-3}, [normal(2, 5)]),
    ("LayerNorm", ((3, 5),), {}, [normal(2, 3, 5)]),
    ("LayerNorm", ((3, 5),), {"elementwise_affine": False}, [normal(2, 3, 5)]),
    ("RMSNorm", (5,), {}, [normal(2, 3, 5)]),
    ("RMSNorm", ((3, 5),), {"eps": 1e-2}, [normal(2, 3, 5)]),
    ("ReLU", (), {}, [normal(2, 3)]),
    ("LeakyReLU", (0.2,), {}, [normal(2, 3)]),
    ("ELU", (0.7,), {}, [normal(2, 3)]),
    ("GELU", (), {}, [normal(2, 3)]),
    ("GELU", ("tanh",), {}, [normal(2, 3)]),
    ("SiLU", (), {}, [normal(2, 3)]),
    ("Sigmoid", (), {}, [normal(2, 3)]),
    ("Tanh", (), {}, [normal(2, 3)]),
    ("Softplus", (2.0,), {}, [normal(2, 3)]),
    ("Softmax", (1,), {}, [normal(2, 3, 2)]),
    ("LogSoftmax", (0,), {}, [normal(2, 3, 2)]),
    ("Flatten", (), {}, [normal(2, 3, 2)]),
    ("Identity", (), {}, [normal(2, 3)]),
    ("Conv1d", (4, 6, 3), {}, [normal(2, 4, 7)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2, "groups": 2, "bias": False}, [normal(2, 4, 7)]),
    ("Conv2d", (3, 2, (2, 3)), {"stride": 2, "padding": (1, 0)}, [normal(2, 3, 5, 6)]),
    ("Conv2d", (3, 2, 3), {}, [normal(3, 5, 6)]),
    ("BatchNorm1d", (3,), {}, [normal(4, 3)]),
    ("BatchNorm1d", (3,), {"affine": False}, [normal(4, 3, 5)]),
    ("BatchNorm2d", (3,), {"track_running_stats": False, "eps": 1e-3}, [normal(2, 3, 2, 2)]),
    ("MaxPool2d", (2,), {}, [normal(2, 3, 5, 6)]),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, [normal(2, 3, 6, 6)]),
    ("AvgPool2d", (2,), {}, [normal(2, 3, 5, 6)]),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, [normal(2, 3, 6, 6)]),
    ("LSTM", (3, 4), {}, [normal(5, 2, 3)]),
    ("LSTM", (3, 4), {"bias": False, "batch_first": True}, [normal(2, 5, 3)]),
    ("LSTM", (3, 4, 2), {"bidirectional": True}, [normal(5, 2, 3)]),
    ("LSTM", (3, 4), {}, [normal(5, 3)]),
    ("GRU", (3, 4), {}, [normal(5, 2, 3)]),
    ("GRU", (3, 4, 2), {"bidirectional": True, "batch_first": True}, [normal(2, 5, 3)]),
    ("GRU", (3, 4), {}, [normal(5, 3), normal(1, 4)]),
    ("GRU", (3, 4, 2), {}, [normal(5, 2, 3), normal(2, 2, 4)]),
    ("MultiheadAttention", (6, 2), {}, [normal(4, 2, 6), normal(5, 2, 6), normal(5, 2, 6, seed=3)]),
    ("MultiheadAttention", (6, 3), {"batch_first": True, "bias": False}, [normal(2, 4, 6)] + [normal(2, 5, 6)] * 2),
    ("MultiheadAttention", (6, 2), {"kdim": 3, "vdim": 5}, [normal(4, 2, 6), normal(5, 2, 3), normal(5, 2, 5)]),
    ("MultiheadAttention", (6, 2), {"add_bias_kv": True, "add_zero_attn": True}, [normal(4, 2, 6)] * 3),
    ("MultiheadAttention", (6, 2), {}, [normal(4, 6), normal(5, 6), normal(5, 6)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs", "inputs"), SAMPLES, ids=[f"{i}-{s[0]}" for i, s in enumerate(SAMPLES)])
def test_a_layer_is_torchs(name, args, kwargs, inputs):
    ours, theirs = pair(name, *args, **kwargs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(theirs.state_dict())
    agree(ours, theirs, inputs)


def test_an_lstm_takes_both_initial_states():
    ours, theirs = pair("LSTM", 3, 4, 2, bidirectional=True)
    x, h, c = normal(5, 2, 3), normal(4, 2, 4), normal(4, 2, 4, seed=5)
    y, (hn, cn) = ours(x, (h, c))
    with torch.no_grad():
        expected, (eh, ec) = theirs(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    for a, b in ((y, expected), (hn, eh), (cn, ec)):
        np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-10, atol=1e-12)


PADDING = np.array([[False] * 5, [False, True, False, False, True]])
MASKS = {
    "padding": {"key_padding_mask": PADDING},
    "padding-and-extra": {"key_padding_mask": PADDING, "extra": True},
    "hidden": {"attn_mask": np.triu(np.ones((4, 5), bool), 2)},
    "added": {"attn_mask": normal(4, 5)},
    "added-by-head": {"attn_mask": normal(4, 4, 5)},
    "hidden-by-head": {"attn_mask": np.random.default_rng(0).random((4, 4, 5)) < 0.4},
    "both": {"attn_mask": np.triu(np.ones((4, 5), bool), 3), "key_padding_mask": PADDING},
    "by-head": {"average_attn_weights": False, "key_padding_mask": PADDING},
    "no-weights": {"need_weights": False, "attn_mask": normal(4, 5)},
}


@pytest.mark.parametrize("case", MASKS)
def test_attention_takes_torchs_masks(case):
    kwargs = dict(MASKS[case])
    extra = kwargs.pop("extra", False)
    ours, theirs = pair("MultiheadAttention", 6, 2, add_bias_kv=extra, add_zero_attn=extra)
    agree(ours, theirs, [normal(4, 2, 6), normal(5, 2, 6), normal(5, 2, 6, seed=3)], **kwargs)


def test_causal_attention_is_torchs():
    ours, theirs = pair("MultiheadAttention", 6, 2)
    x = normal(4, 2, 6)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(*[torch.tensor(x)] * 3, attn_mask=mask, need_weights=False)[0].numpy()
    np.testing.assert_allclose(ours(x, x, x, is_causal=True, need_weights=False)[0].data, expected, rtol=1e-10)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_batch_statistics_follow_torchs(momentum):
    ours, theirs = pair("BatchNorm1d", 3, momentum=momentum)
    for seed in range(3):
        x = normal(4, 3, seed=seed)
        if seed == 1:
            tg.grad(lambda m, x: m(x).sum())(ours, x)  # a step by a transform moves the same statistics
        else:
            ours(x)
        theirs(torch.tensor(x))
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=1e-12, err_msg=name)
    agree(ours.eval(), theirs.eval(), [normal(4, 3)])
    assert ours.num_batches_tracked.item() == 3


def test_a_recomputation_is_not_another_batch():
    model = nn.BatchNorm1d(2, momentum=None)
    x = tg.tensor(normal(4, 2), requires_grad=True)
    tg.checkpoint(model)(x).sum().backward()
    assert model.num_batches_tracked.item() == 1
    np.testing.assert_allclose(model.running_mean.data, x.data.mean(0), rtol=1e-6)


def test_nested_models_have_torchs_names_in_torchs_order():
    def build(nn):
        return nn.Sequential(
            nn.Linear(2, 3), nn.ModuleDict({"a": nn.ModuleList([nn.Linear(1, 1), nn.LayerNorm(2)])}), nn.GRU(2, 2)
        )

    ours, theirs = build(nn), build(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]


def test_a_shared_module_and_a_tied_weight_are_stored_and_counted_as_torch_does():
    def build(nn):
        layer = nn.Linear(2, 2)
        model = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(2, 2))
        model[3].weight = layer.weight
        return model

    ours, theirs = build(nn), build(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_torch_loads_our_state_strictly():
    ours = nn.Sequential(nn.LSTM(2, 3, 2), nn.MultiheadAttention(4, 2), nn.RMSNorm(3))
    theirs = torch.nn.Sequential(torch.nn.LSTM(2, 3, 2), torch.nn.MultiheadAttention(4, 2), torch.nn.RMSNorm(3))
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    x = normal(5, 2, 2).astype(np.float32)
    expected = theirs[0](torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(ours[0](x)[0].data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "LSTM", "MultiheadAttention", "Embedding"])
def test_weights_start_spread_as_torchs(name):
    args = {
        "Linear": (300, 200),
        "Conv2d": (30, 400, 3),
        "LSTM": (100, 200),
        "MultiheadAttention": (200, 4),
        "Embedding": (200, 300),
    }[name]
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args, rng=np.random.default_rng(0)), getattr(torch.nn, name)(*args)
    for (label, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert a.std() == pytest.approx(b.numpy().std(), rel=0.2, abs=1e-12), label
        assert np.abs(a).max() == pytest.approx(np.abs(b.numpy()).max(), rel=0.2, abs=1e-12), label
