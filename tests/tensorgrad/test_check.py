"""The checker can fail: planted faults are each rejected, at first and at second order, and the message says what is wrong."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.check import GradientError, check_adjoint, check_grads, check_hvp, taylor_test
from tensorgrad.graph import Op, Tensor, setting


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


class Planted(Op):
    """The function `right`, with reverse rule `rule(g, *inputs)`; forward mode is right."""

    def __init__(self, right, rule):
        self.right, self.rule, self.name = right, rule, "planted"

    def forward(self, *arrays):
        with setting(recording=False):
            return np.array(self.right(*map(Tensor, arrays)).data)

    def vjp(self, out, g, wanted):
        return self.rule(g, *out.inputs)

    def jvp(self, out, tangents):
        ts = [tg.zeros_like(x) if t is None else t for x, t in zip(out.inputs, tangents, strict=True)]
        return tg.jvp(self.right, out.inputs, tuple(ts))[1]


MATRIX, OTHER = normal(3, 3), normal(3, 3, seed=1)
ONE_SIGN = np.where(np.arange(9).reshape(3, 3) == 5, -1.0, 1.0)
STALE = np.exp(MATRIX + 0.1)

FAULTS = {  # name: (the function, its arguments, the planted J^T g)
    "times 1.001": (tg.tanh, [MATRIX], lambda g, x: [g * (1 - tg.tanh(x) ** 2) * 1.001]),
    "one sign": (tg.exp, [MATRIX], lambda g, x: [g * tg.exp(x) * ONE_SIGN]),
    "transposed": (tg.matmul, [MATRIX, OTHER], lambda g, a, b: [g @ b, a.T @ g]),
    "no sum over a broadcast": (tg.multiply, [MATRIX, OTHER[:1]], lambda g, x, y: [g * y, g * x]),
    "no factor 2": (tg.square, [MATRIX], lambda g, x: [g * x]),
    "stale value": (tg.exp, [MATRIX], lambda g, x: [g * STALE]),
    "detached branch": (lambda x: x * tg.sin(x), [MATRIX], lambda g, x: [g * tg.sin(x)]),
    "wrong axis": (lambda x: tg.sum(x, 0), [MATRIX], lambda g, x: [tg.broadcast_to(tg.expand_dims(g, 1), (3, 3))]),
    "swapped inputs": (tg.multiply, [MATRIX, OTHER], lambda g, x, y: [g * x, g * y]),
    "zero": (tg.sin, [MATRIX], lambda g, x: [g * 0]),
}
EVERY_FAULT = pytest.mark.parametrize("fault", FAULTS)


@EVERY_FAULT
@pytest.mark.parametrize("modes", [("rev",), ("fwd", "rev")])
def test_case_5_a_wrong_gradient_is_rejected(fault, modes):
    right, xs, rule = FAULTS[fault]
    with pytest.raises(GradientError, match=r"planted, order 1, reverse mode|planted, reverse mode: for .* it has shape"):
        check_grads(Planted(right, rule), tuple(xs), order=1, modes=modes)


@EVERY_FAULT
def test_case_5_the_adjoint_identity_rejects_it_too(fault):
    right, xs, rule = FAULTS[fault]
    with pytest.raises(GradientError):
        check_adjoint(Planted(right, rule), tuple(xs))


@EVERY_FAULT
def test_case_5_a_wrong_second_derivative_is_rejected(fault):
    """Reverse rules whose numbers are right, but whose own derivative is that of the planted one."""
    right, xs, rule = FAULTS[fault]

    def second(g, *inputs):
        pairs = zip(tg.vjp(right, *inputs)[1](g), rule(g, *inputs), inputs, strict=True)
        fitted = [(good, bad if bad.shape == x.shape else bad[:1]) for good, bad, x in pairs]
        return [tg.stop_gradient(good) + (bad - tg.stop_gradient(bad)) for good, bad in fitted]

    check_grads(Planted(right, second), tuple(xs), order=1)
    with pytest.raises(GradientError, match=r"planted, order 2, (forward|reverse) over reverse"):
        check_grads(Planted(right, second), tuple(xs), order=2)


@EVERY_FAULT
def test_the_right_functions_pass(fault):
    right, xs, _ = FAULTS[fault]
    check_grads(right, tuple(xs), order=3)
    check_grads(Planted(right, lambda g, *inputs: tg.vjp(right, *inputs)[1](g)), tuple(xs))


def test_case_5_a_wrong_forward_rule_is_rejected():
    class Forward(Planted):
        def jvp(self, out, tangents):
            return super().jvp(out, tangents) * 1.001

    op = Forward(tg.sin, lambda g, x: [g * tg.cos(x)])
    check_grads(op, MATRIX, modes=("rev",), order=1)
    with pytest.raises(GradientError, match="planted, order 1, forward mode"):
        check_grads(op, MATRIX)


def test_case_6_a_small_gradient_twice_too_large_is_rejected():
    def scaled(slope):
        return Planted(lambda x: x * 1e-7, lambda g, x: [g * slope])

    check_grads(scaled(1e-7), 0.5)
    with pytest.raises(
        GradientError, match=r"returned 2e-07, central difference (1|9.99999999.*)e-0[78], relative difference 5.0e-01"
    ):
        check_grads(scaled(2e-7), 0.5, modes=("rev",))


def test_case_7_float32_is_promoted():
    seen = []

    def f(x, y):
        seen.append((x.dtype, y.dtype))
        return tg.sum(tg.exp(x)) * y

    check_grads(f, (MATRIX.astype(np.float32), tg.tensor(0.3)))
    assert set(seen) == {(np.dtype("float64"), np.dtype("float64"))}
    with pytest.raises(ValueError, match="float32 from float64 arguments, too coarse"):
        check_grads(lambda x: tg.exp(x).astype("float32"), MATRIX)


def test_case_7_a_gradient_of_less_precision_is_rejected():
    with pytest.raises(GradientError, match=r"float64, it has shape .* float32"):
        check_grads(Planted(tg.exp, lambda g, x: [(g * tg.exp(x)).astype("float32")]), MATRIX)


def test_case_9_nothing_to_differentiate():
    with pytest.raises(ValueError, match="none of the 2 arguments holds a floating-point tensor"):
        check_grads(tg.add, (np.arange(3), 1))
    with pytest.raises(ValueError, match="returned no floating-point tensor"):
        check_grads(tg.argmax, MATRIX)


def test_requests_that_make_no_sense():
    with pytest.raises(ValueError, match=r"order >= 1 .* got order 0"):
        check_grads(tg.exp, MATRIX, order=0)
    with pytest.raises(ValueError, match=r"modes among .* got order 2, modes \('both',\)"):
        check_grads(tg.exp, MATRIX, modes=("both",))
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        taylor_test(tg.exp, MATRIX, order=3)
    with pytest.raises(ValueError, match="returned 9 numbers"):
        check_hvp(tg.exp, MATRIX)


def test_functions_that_cannot_be_checked():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="gave two results for the same arguments"):
        check_grads(lambda x: tg.dropout(x, rng=rng), MATRIX)
    with pytest.raises(ValueError, match=r"log is not finite at output, index \(1,\)"):
        check_grads(tg.log, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="argument 0 holds values that are not finite"):
        check_grads(tg.exp, np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    "f, x, said",
    [
        (tg.relu, [1.0, 0.0], "a kink here: its slope is 0 on one side and 1 on the other, and a value between them"),
        (tg.relu, [1.0, 2e-6], "a kink here"),
        (tg.relu, [1.0, -5e-6], "a kink here"),
        (lambda x: tg.leaky_relu(x, 0.3) * 2, [1.0, 0.0, 2.0], "slope is 0.6 on one side and 2 on the other"),
        (lambda x: tg.max(x) * x, [1.0, 1.0 + 1e-9], "a kink here"),
        (tg.floor, [0.5, 1.0], "jumps here, by about 1"),
        (tg.sqrt, [1.0, 0.0], "not finite within 6.1e-06 of this point: it lies at the edge of the domain"),
        (lambda x: tg.log(1 - x), [0.0, 1 - 1e-6], "edge of the domain"),
    ],
)
def test_kinks_are_recognised(f, x, said):
    with pytest.raises(GradientError) as caught:
        check_grads(f, np.array(x), order=1, modes=("rev",))
    assert said in str(caught.value)


def test_curvature_is_no_kink():
    steep = Planted(lambda x: tg.exp(200 * x) + 1000 * x * x, lambda g, x: [g * 199 * tg.exp(200 * x)])
    with pytest.raises(GradientError) as caught:
        check_grads(steep, np.array([0.01]), order=1, modes=("rev",))
    assert "kink" not in str(caught.value) and "jump" not in str(caught.value)


def test_ties_shared_evenly_pass():
    check_grads(tg.max, np.array([1.0, 1.0, 0.0]), order=1, modes=("rev",))


def test_message_names_argument_index_and_both_numbers():
    def f(weights, x):
        return Planted(tg.multiply, lambda g, a, b: [g * b, g * a * ONE_SIGN])(weights["w"][1], x)

    with pytest.raises(GradientError) as caught:
        check_grads(f, ({"w": [np.ones(2), OTHER]}, MATRIX), order=1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "wrong derivative of f, order 1, reverse mode"
    assert lines[1] == "  of output, index (1, 2)"
    assert lines[2] == "  with respect to argument 1, index (1, 2)"
    returned, numeric = (float(part.split()[-1]) for part in lines[3].split(",")[:2])
    assert returned == -OTHER[1, 2] and numeric == pytest.approx(OTHER[1, 2], rel=1e-9)
    assert lines[4] == "  this is op 1 of 1 that were recorded"


def test_message_names_a_nested_argument():
    linear = tg.nn.Linear(3, 2)
    op = Planted(lambda w: w * 2.0, lambda g, w: [g])
    with pytest.raises(GradientError, match=r"argument 0\['weight'\], index \(0, 0\)"):
        check_grads(lambda model: op(model.weight), linear)
    with pytest.raises(GradientError, match=r"argument 0\['a'\]\[1\], index \(0, 0\)"):
        check_grads(lambda tree: op(tree["a"][1]), {"a": (1, MATRIX)})


def test_message_finds_the_op_at_fault():
    bad = Planted(tg.sin, lambda g, x: [g * tg.cos(x) * 1.001])
    with pytest.raises(GradientError) as caught:
        check_grads(lambda x: tg.sum(tg.exp(bad(x * 2.0)) ** 2), MATRIX)
    assert "this is op 2 of 5 that were recorded; by itself:\nwrong derivative of planted, order 1" in str(caught.value)
    with pytest.raises(GradientError, match="each of the 2 ops is right by itself: look for a value taken out of the graph"):
        check_grads(lambda x: tg.exp(x) * tg.tensor(tg.sin(x).data), MATRIX)


def test_large_inputs_are_sampled():
    calls = []

    def f(x, sign=1.0):
        calls.append(1)
        return Planted(lambda x: tg.sum(tg.sin(x)), lambda g, x: [g * tg.cos(x) * sign])(x)

    x, sign = normal(100, 100), np.ones((100, 100))
    check_grads(f, x)
    assert len(calls) < 300
    sign[17, 3] = -1
    with pytest.raises(GradientError, match="with respect to random direction 0"):
        check_grads(lambda x: f(x, sign), x)


def test_many_outputs_are_sampled():
    x = normal(40)
    check_grads(lambda x: tg.outer(x, x), x)
    with pytest.raises(GradientError):
        check_grads(Planted(tg.exp, lambda g, x: [g * tg.exp(x) * np.where(np.arange(40) == 7, 1.001, 1.0)]), x, modes=("rev",))


def test_several_outputs_some_integers():
    check_grads(lambda x: {"top": tg.topk(x, 2), "all": [tg.sum(x)]}, np.array([0.3, -1.0, 2.0]))


def test_taylor_slopes():
    first, second = taylor_test(lambda x, y: tg.sum(tg.tanh(x) * tg.exp(y)), (MATRIX, OTHER))
    assert first == pytest.approx(2, abs=0.02) and second == pytest.approx(3, abs=0.02)
    assert taylor_test(lambda x: 3 * x + 1, MATRIX) == (math.inf, math.inf)
    assert taylor_test(tg.square, MATRIX)[1] == math.inf
    assert len(taylor_test(tg.exp, MATRIX, order=1)) == 1


@EVERY_FAULT
def test_taylor_rejects_a_wrong_gradient(fault):
    right, xs, rule = FAULTS[fault]
    with pytest.raises(GradientError, match=r"wrong gradient of planted: .* expected h\^2|it has shape"):
        taylor_test(Planted(right, rule), tuple(xs))


def test_taylor_rejects_a_wrong_hessian():
    hidden = tg.custom_vjp(tg.sin)
    hidden.defvjp(lambda x: (tg.sin(x), tg.stop_gradient(tg.cos(x))), lambda cos, g: g * cos)
    with pytest.raises(GradientError, match=r"wrong Hessian of custom|wrong Hessian of sin: .* expected h\^3"):
        taylor_test(hidden, MATRIX)


def test_hvp_check():
    check_hvp(lambda x, y: tg.sum(tg.exp(x) * tg.sin(y)), (MATRIX, OTHER))
    check_hvp(lambda model: tg.sum(tg.tanh(model(MATRIX))), tg.nn.Linear(3, 2))
    with pytest.raises(GradientError, match="H v and the central difference of gradients of <lambda> differ"):
        check_hvp(lambda x: tg.sum(x * tg.stop_gradient(tg.sin(x))), MATRIX)
