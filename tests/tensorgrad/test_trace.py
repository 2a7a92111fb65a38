"""A program as text says what was recorded: it is read back, run with NumPy, and gives the same values."""

import re

import numpy as np
import pytest

import tensorgrad as tg

RNG = np.random.default_rng(0)


def test_the_lines_of_a_small_program():
    W, a, b = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2)), RNG.standard_normal(2)
    program = tg.trace(lambda W, a, b: tg.sigmoid(W @ a + b), W, a, b)
    assert str(program).splitlines() == [
        "%1: float64[4, 3] = input W",
        "%2: float64[3, 2] = input a",
        "%3: float64[2] = input b",
        "%4: float64[4, 2] = matmul(%1, %2)",
        "%5: float64[4, 2] = add(%4, %3)",
        "%6: float64[4, 2] = sigmoid(%5)",
        "return %6",
    ]
    assert repr(program) == str(program)


def run(text, *inputs):
    """Follow the listing of a program of NumPy functions."""
    values, given = {}, iter(inputs)
    for line in text.splitlines():
        if line.startswith("return"):
            return [values[name] for name in re.findall(r"%\d+", line)]
        name, _, rest = line.split("#")[0].strip().partition(": ")
        made = rest.partition(" = ")[2]
        shape = tuple(int(n) for n in re.search(r"\[(.*?)\]", rest).group(1).split(", "))
        if made.startswith("input"):
            values[name] = next(given)
        elif made.startswith("constant"):
            values[name] = np.full(shape, float(made.split()[1]))
        else:
            op, arguments = re.fullmatch(r"(\w+)\((.*)\)", made).groups()
            arguments = [values[a] if a in values else float(a) for a in arguments.split(", ")]
            values[name] = getattr(np, {"accumulate": "add"}.get(op, op))(*arguments)
        assert values[name].shape == shape
    raise AssertionError("no return line")


def test_a_listing_can_be_run():
    def f(x, y):
        return tg.tanh(2 * x @ y - 1), tg.exp(-x)

    x, y = RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3))
    program = tg.trace(f, x, y)
    for ours, theirs, direct in zip(run(str(program), x, y), program.outputs, f(x, y), strict=True):
        np.testing.assert_allclose(ours, theirs.data, rtol=1e-12)
        np.testing.assert_array_equal(theirs.data, np.asarray(direct.data if isinstance(direct, tg.Tensor) else direct))


def test_a_gradients_listing_can_be_run():
    def loss(x):
        return tg.sum(tg.sin(x) * x)

    x = RNG.standard_normal(5)
    program = tg.trace(tg.grad(loss), x)
    (value,) = run(str(program), x)
    np.testing.assert_allclose(value, np.cos(x) * x + np.sin(x), rtol=1e-12)
    assert "# ∇" in str(program)


def test_modules_are_comments_and_parameters_inputs():
    class Net(tg.nn.Module):
        def __init__(self):
            self.first = tg.nn.Linear(3, 4)

        def forward(self, x):
            return tg.tanh(self.first(x))

    x = np.ones((2, 3), np.float32)
    text = str(tg.trace(lambda net, x: net(x), Net(), x))
    assert re.search(r"float32\[2, 4\] = linear\(%\d, %\d, %\d\) +# Net.first$", text, re.MULTILINE)
    assert "= input net['first.weight']" in text
    assert "= parameter weight" in str(tg.trace(Net(), x))
    assert "= input x" in str(tg.trace(Net(), x))


def test_integers_and_keywords_pass_through():
    ids = np.array([0, 2])
    text = str(tg.trace(lambda table, ids, scale: tg.embedding(ids, table) * scale, RNG.standard_normal((3, 4)), ids, scale=2.0))
    assert "int64[2]" in text and ", 2)" in text


def test_recording_is_on_even_inside_no_grad():
    with tg.no_grad():
        assert "exp" in str(tg.trace(tg.exp, np.ones(3)))


def test_trace_of_an_array_is_the_sum_of_its_diagonal():
    x = RNG.standard_normal((3, 4))
    np.testing.assert_allclose(tg.trace(x, offset=1).data, np.trace(x, offset=1), rtol=1e-12)
    with pytest.raises(ValueError):
        tg.trace(np.ones(3))
