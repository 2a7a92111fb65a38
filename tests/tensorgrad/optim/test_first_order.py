"""First-order optimizers: step by step as torch.optim, what they refuse, and how they are saved."""

import copy
import pickle

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, optim

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.0, 0.95), "weight_decay": 0.3}),
    ("Muon", {"lr": 0.05}),
    ("Muon", {"lr": 0.05, "nesterov": False, "weight_decay": 0.0, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(SETTINGS)]
STEPS = 100


def start(name, dtype):
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (3, 5)] if name == "Muon" else [(4, 3), (3,), ()]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def gradient(w, target):
    """Of a smooth, non-convex function of one tensor, in the dtype of w."""
    return (w - target) * w.dtype.type(0.5) + np.sin(3 * w)


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_a_hundred_steps_are_torchs(name, settings, dtype, tolerance, monkeypatch):
    torch = pytest.importorskip("torch")
    if name == "Muon":  # torch's rounds to bfloat16 within; without that it is exact enough to compare, in float64
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
        dtype, tolerance = np.float64, 1e-12
    ours = [nn.Parameter(w) for w in start(name, dtype)]
    theirs = [torch.nn.Parameter(torch.tensor(w)) for w in start(name, dtype)]
    mine, other = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    for step in range(STEPS):
        for a, b in zip(ours, theirs, strict=True):
            g = gradient(b.detach().numpy(), dtype(np.cos(step)))  # the same for both, so that only the step is compared
            a.grad, b.grad = tg.tensor(g), torch.tensor(g)
        mine.step()
        other.step()
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=f"step {step}")


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
def test_states_are_exchanged_with_torch(name, settings, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    theirs = [torch.nn.Parameter(torch.tensor(w)) for w in start(name, np.float64)]
    other = getattr(torch.optim, name)(theirs, **settings)
    for _ in range(3):
        for b in theirs:
            b.grad = torch.tensor(gradient(b.detach().numpy(), np.float64(0.5)))
        other.step()
    ours = [nn.Parameter(b.detach().numpy()) for b in theirs]
    mine = getattr(optim, name)(ours, lr=99.0)
    mine.load_state_dict(other.state_dict())
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            g = gradient(b.detach().numpy(), np.float64(0.5))
            a.grad, b.grad = tg.tensor(g), torch.tensor(g)
        mine.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-12, atol=1e-12)
    saved, expected = mine.state_dict(), other.state_dict()
    assert saved["state"].keys() == expected["state"].keys()
    for i, entry in saved["state"].items():
        assert entry.keys() == {k for k, v in expected["state"][i].items() if v is not None}
    assert saved["param_groups"][0]["params"] == expected["param_groups"][0]["params"]


def run(optimizer, ps, steps):
    for step in range(steps):
        for p in ps:
            p.grad = tg.tensor(gradient(p.data, p.dtype.type(np.cos(step))))
        optimizer.step()


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
def test_resuming_from_a_saved_state_gives_the_same_bits(name, settings):
    whole, first = ([nn.Parameter(w) for w in start(name, np.float32)] for _ in range(2))
    straight, before = getattr(optim, name)(whole, **settings), getattr(optim, name)(first, **settings)
    run(straight, whole, 4)
    run(before, first, 4)
    saved = copy.deepcopy(before.state_dict())
    second = [nn.Parameter(p.data) for p in first]
    after = getattr(optim, name)(second, lr=7.0)
    after.load_state_dict(saved)
    run(before, first, 1)  # must not reach into what was saved or loaded
    run(straight, whole, 3)
    run(after, second, 3)
    for a, b in zip(whole, second, strict=True):
        assert np.array_equal(a.data, b.data)


def test_the_definition_of_muon():
    """The update is u = U S V^T with each s replaced by the quintic applied five times to s / |u|."""
    rng = np.random.default_rng(3)
    w, g = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    p = nn.Parameter(w)
    p.grad = tg.tensor(g)
    optim.Muon([p], lr=0.1, weight_decay=0.5, momentum=0.9).step()
    u = 0.1 * g + 0.9 * 0.1 * g
    left, s, right = np.linalg.svd(u, full_matrices=False)
    s = s / np.linalg.norm(u)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    expected = w * (1 - 0.1 * 0.5) - 0.1 * np.sqrt(5 / 3) * (left * s) @ right
    np.testing.assert_allclose(p.data, expected, rtol=1e-10)
    assert 0.6 < s.min() and s.max() < 1.3


def test_groups_have_their_own_settings_and_may_be_added():
    a, b, c = (nn.Parameter(np.ones(2)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.0})
    for p in (a, b, c):
        p.grad = tg.ones(2)
    optimizer.step()
    assert [p.data[0] for p in (a, b, c)] == [0.9, 0.5, 1.0]
    optimizer.zero_grad()
    assert a.grad is None
    optimizer.step()
    assert a.data[0] == 0.9


def test_states_follow_names_when_both_sides_have_them():
    """Case 212: parameters given in another order are matched by name, and unknown names are an error."""
    x, y = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    first = optim.Adam([("x", x), ("y", y)])
    x.grad, y.grad = tg.ones(2), tg.full((2,), 5.0)
    first.step()
    second = optim.Adam([("y", nn.Parameter(np.ones(2))), ("x", nn.Parameter(np.ones(2)))])
    second.load_state_dict(first.state_dict())
    saved = second.state_dict()
    assert saved["param_groups"][0]["param_names"] == ["y", "x"]
    np.testing.assert_allclose(saved["state"][0]["exp_avg"], 0.5)
    np.testing.assert_allclose(saved["state"][1]["exp_avg"], 0.1)
    with pytest.raises(ValueError, match=r"moves \['x', 'y'\], this one \['x', 'z'\]"):
        optim.Adam([("x", x), ("z", y)]).load_state_dict(first.state_dict())


def test_copies_and_pickles_go_on_alike():
    model = nn.Linear(2, 2, rng=np.random.default_rng(0))
    optimizer = optim.Adam(model.parameters())
    run(optimizer, optimizer.parameters(), 2)
    others = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    run(optimizer, optimizer.parameters(), 2)
    for twin, its_optimizer in others:
        assert its_optimizer.parameters()[0] is twin.weight
        run(its_optimizer, its_optimizer.parameters(), 2)
        assert np.array_equal(twin.weight.data, model.weight.data)


def test_loading_a_state_that_does_not_fit_changes_nothing():
    p = nn.Parameter(np.ones(2))
    optimizer = optim.Adam([p], lr=0.25)
    p.grad = tg.ones(2)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    wrong = copy.deepcopy(before)
    wrong["state"][0]["exp_avg"] = np.ones(3)
    faults = [
        (wrong, "exp_avg of a parameter None has shape"),
        (optim.SGD([p]).state_dict(), "no betas, eps: is it another kind"),
        (optim.Adam([p, nn.Parameter([1.0])]).state_dict(), r"groups of sizes \[2\], this one \[1\]"),
        ({**before, "param_groups": [{**before["param_groups"][0], "lr": float("nan")}]}, "lr must be"),
    ]
    for saved, message in faults:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert np.array_equal(after["state"][0]["exp_avg"], before["state"][0]["exp_avg"])


BAD = [
    ("SGD", {"lr": -1.0}, "lr must be a number >= 0, got -1.0"),
    ("SGD", {"lr": float("nan")}, "lr must be a number >= 0, got nan"),
    ("SGD", {"momentum": float("inf")}, "momentum must be"),
    ("SGD", {"nesterov": True}, "nesterov needs momentum"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum"),
    ("RMSprop", {"alpha": 1.0}, r"alpha must be in \[0, 1\)"),
    ("RMSprop", {"eps": -1e-8}, "eps must be"),
    ("Adagrad", {"initial_accumulator_value": float("nan")}, "initial_accumulator_value must be"),
    ("Adam", {"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got 1.0"),
    ("Adam", {"betas": (float("nan"), 0.9)}, "betas must be"),
    ("Adam", {"betas": (0.9,)}, "betas must be two numbers"),
    ("AdamW", {"weight_decay": float("nan")}, "weight_decay must be"),
    ("Muon", {"momentum": 1.5}, "momentum must be"),
    ("Muon", {"adjust_lr_fn": "mine"}, "adjust_lr_fn must be"),
    ("Muon", {"ns_coefficients": (1.0, 2.0)}, "three numbers"),
]


@pytest.mark.parametrize(("name", "settings", "message"), BAD)
def test_bad_settings_are_refused_at_once_in_groups_and_later(name, settings, message):
    build, p = getattr(optim, name), nn.Parameter(np.ones((2, 2)))
    with pytest.raises(ValueError, match=message):
        build([p], **settings)
    with pytest.raises(ValueError, match=message):
        build([{"params": [p], **settings}])
    optimizer = build([p])
    optimizer.param_groups[0].update(settings)
    p.grad = tg.ones((2, 2))
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert np.array_equal(p.data, np.ones((2, 2)))


def test_bad_parameters_are_refused():
    p = nn.Parameter([1.0])
    cases = [
        ([], ValueError, "at least one"),
        ([np.ones(2)], TypeError, "needs Parameters, got ndarray"),
        ([p, p], ValueError, "given twice"),
        ([{"params": [p]}, {"params": [p]}], ValueError, "given twice"),
        ([p * 2], TypeError, "the result of multiply"),
        ([tg.tensor(np.ones(2, np.float16))], TypeError, "float16"),
        ([("a", p), nn.Parameter([2.0])], ValueError, "all parameters of a group have names or none"),
    ]
    for params, kind, message in cases:
        with pytest.raises(kind, match=message):
            optim.Adam(params)
    with pytest.raises(ValueError, match=r"Muon moves matrices, got parameter bias of shape \(3,\)"):
        optim.Muon(nn.Linear(2, 3).parameters())
    p.grad = tg.ones((2,))
    with pytest.raises(ValueError, match=r"has a gradient of shape \(2,\)"):
        optim.SGD([p]).step()


def test_a_step_between_forward_and_backward_is_detected():
    """Case 52."""
    p = nn.Parameter([1.0, 2.0])
    loss = (p * p).sum()
    p.grad = tg.ones(2)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed after"):
        loss.backward()


def moved(p, **settings):
    p.grad = tg.ones(p.shape)
    optim.AdamW([p], lr=0.1, **settings).step()


WITNESSES = {
    "data": lambda p: p.data,
    "numpy": lambda p: p.numpy(),
    "asarray": lambda p: np.asarray(p.detach()),
    "a view of a view": lambda p: p.data[1:].reshape(-1, 1),
    "memoryview": lambda p: memoryview(p.data),
    "detach": lambda p: p.detach(),
    "reshape": lambda p: p.reshape(2, 2),
    "dlpack": lambda p: np.from_dlpack(p.detach()),
    "another tensor": lambda p: tg.Tensor(p._array),
    "a gradient": lambda p: tg.grad(lambda q: (q * p).sum())(tg.ones(4)),
}


@pytest.mark.parametrize("witness", WITNESSES)
def test_a_step_leaves_arrays_that_were_seen_before_alone(witness):
    p = nn.Parameter([1.0, 2.0, 3.0, 4.0])
    moved(p)
    seen = WITNESSES[witness](p)
    now = lambda: np.array(seen.data if isinstance(seen, tg.Tensor) else seen)
    values, before = now(), p.data.copy()
    moved(p)
    assert np.array_equal(now(), values) and not np.any(p.data == before)


def test_a_step_copies_nothing_that_nobody_sees(monkeypatch):
    p = nn.Parameter(np.ones((3, 4)))
    _ = p.data, (p * p).sum()
    (p * p).sum().backward()
    address = p._array.ctypes.data
    for _ in range(3):
        moved(p)
    assert p._array.ctypes.data == address
    monkeypatch.delattr("sys.getrefcount")  # as on other interpreters than CPython
    moved(p)
    assert p._array.ctypes.data != address


def test_arrays_that_cannot_be_written_are_copied():
    values = np.arange(12.0).reshape(3, 4)
    frozen = values.copy()
    frozen.flags.writeable = False
    for array in (values.T, values[:, ::2], frozen, np.frombuffer(values.tobytes())):
        p = nn.Parameter(array)
        p._array = array  # as a loader might do
        before = array.copy()
        optimizer = optim.AdamW([p], lr=0.1, weight_decay=0.0)
        p.grad = tg.ones(p.shape)
        optimizer.step()
        np.testing.assert_array_equal(array, before)
        np.testing.assert_allclose(p.data, before - 0.1, rtol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam_at_its_edges(name):
    """Case 123: no gradient ever, no movement; after 10^6 steps the correction is 1 - b^t to rounding."""
    p = nn.Parameter(np.array([1.0, -2.0]))
    optimizer = getattr(optim, name)([p], lr=0.1, weight_decay=0.0)
    p.grad = tg.zeros(2)
    optimizer.step()
    assert p.data.tolist() == [1.0, -2.0]
    state = next(iter(optimizer.state.values()))
    state.update(step=10**6 - 1, exp_avg=np.full(2, 0.3), exp_avg_sq=np.full(2, 0.04))
    p.grad = tg.full((2,), 0.3, dtype=np.float64)
    optimizer.step()
    v = (0.999 * 0.04 + 0.001 * 0.09) / (1 - 0.999**1_000_000)
    np.testing.assert_allclose(p.data, np.array([1.0, -2.0]) - 0.1 * 0.3 / (np.sqrt(v) + 1e-8), rtol=1e-14)


def test_clipping_scales_only_what_is_too_long():
    a, b = nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(1, np.float32))
    a.grad, b.grad = tg.tensor(np.array([3.0, 0.0])), tg.tensor(np.array([4.0], np.float32))
    assert optim.clip_grad_norm([a, b, nn.Parameter([1.0])], 10.0) == 5.0
    assert a.grad.data.tolist() == [3.0, 0.0]
    assert optim.clip_grad_norm([a, b], 1.0) == 5.0
    np.testing.assert_allclose([*a.grad.data, *b.grad.data], [0.6, 0.0, 0.8], rtol=1e-7)
    assert a.grad.dtype == np.float64 and b.grad.dtype == np.float32
    assert optim.clip_grad_norm([a, b], float("inf")) == pytest.approx(1.0)


def test_clipping_at_the_edges():
    """Case 122: zeros stay, nothing overflows; what is not finite is reported, and left for the caller to see."""
    p = nn.Parameter(np.zeros(128, np.float32))
    p.grad = tg.zeros(128)
    assert optim.clip_grad_norm([p], 1.0) == 0.0 and not p.grad.data.any()
    p.grad = tg.full((128,), 1e19)
    assert optim.clip_grad_norm([p], 1.0) == pytest.approx(128**0.5 * 1e19, rel=1e-6)
    np.testing.assert_allclose(p.grad.data, 128**-0.5, rtol=1e-6)
    q = nn.Parameter(np.zeros(4))
    q.grad = tg.full((4,), 1e300, dtype=np.float64)
    assert optim.clip_grad_norm([q], 1.0) == pytest.approx(2e300)
    np.testing.assert_allclose(q.grad.data, 0.5)
    for bad in (np.inf, np.nan):
        values = np.array([1.0, bad, 2.0, 3.0])
        q.grad = tg.tensor(values)
        np.testing.assert_equal(optim.clip_grad_norm([q], 1.0), bad)
        np.testing.assert_array_equal(q.grad.data, values)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="max_norm must be"):
            optim.clip_grad_norm([q], bad)


def test_clipping_leaves_gradients_that_were_seen_before_alone():
    a, b, c = (nn.Parameter(np.zeros(2)) for _ in range(3))
    shared = tg.tensor(np.array([3.0, 4.0]))
    a.grad = b.grad = shared
    c.grad = tg.Tensor(shared._array)
    assert optim.clip_grad_norm([a, b, c, c], 1.0) == pytest.approx(75**0.5)
    assert shared.data.tolist() == [3.0, 4.0]
    for p in (a, b, c):
        np.testing.assert_allclose(p.grad.data, np.array([3.0, 4.0]) / 75**0.5)
    seen, address = a.grad.data, b.grad._array.ctypes.data
    optim.clip_grad_norm([a, b, c], 0.5)
    np.testing.assert_allclose(seen, np.array([3.0, 4.0]) / 75**0.5)
    assert b.grad._array.ctypes.data == address


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
def test_a_clipped_step_is_clipping_and_a_step(name, settings):
    one, two = ([nn.Parameter(w) for w in start(name, np.float64)] for _ in range(2))
    first, second = getattr(optim, name)(one, **settings), getattr(optim, name)(two, **settings)
    for max_norm in (0.1, 100.0, 1.0):
        for p, q in zip(one, two, strict=True):
            p.grad = tg.tensor(gradient(p.data, p.dtype.type(2)))
            q.grad = tg.tensor(p.grad.data)
        given = [q.grad.data.copy() for q in two]
        norm = optim.clip_grad_norm(one, max_norm)
        first.step()
        assert second.clipped_step(max_norm) == norm
        for p, q, g in zip(one, two, given, strict=True):
            np.testing.assert_allclose(q.data, p.data, rtol=1e-13, atol=1e-13)
            assert np.array_equal(q.grad.data, g)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_clipped_step_does_not_move_along_a_gradient_that_is_not_finite(bad):
    p = nn.Parameter(np.ones(3))
    optimizer = optim.AdamW([p])
    p.grad = tg.tensor(np.array([1.0, bad, 2.0]))
    np.testing.assert_equal(optimizer.clipped_step(1.0), bad)
    assert p.data.tolist() == [1.0] * 3 and not optimizer.state
    with pytest.raises(ValueError, match="max_norm must be"):
        optimizer.clipped_step(-1.0)


def test_decay_is_for_matrices():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 2))
    decaying, others = optim.decay_groups(model, 0.1)
    assert [name for name, _ in decaying["params"]] == ["0.weight", "2.weight"] and decaying["weight_decay"] == 0.1
    assert [name for name, _ in others["params"]] == ["0.bias", "1.weight", "1.bias"] and others["weight_decay"] == 0.0
    optimizer = optim.AdamW([decaying, others], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "2.weight"]
    assert len(optimizer.parameters()) == 5
