"""`detect_anomaly` names the op, the module, the user's line and the first bad index; errors in rules name the rule."""

import inspect

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.ops.kinds import elementwise


def line_after(frame) -> str:
    return f"{__file__}:{frame.f_lineno + 1}"


def test_forward_fault_is_named_where_it_was_made():
    x = tg.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    with pytest.raises(tg.AnomalyError) as caught, tg.detect_anomaly():
        where = line_after(inspect.currentframe())
        tg.log(x)
    assert "log of finite inputs of shape (2, 2) gave -inf at index (1, 1)" in str(caught.value)
    assert where in str(caught.value)


def test_fault_inside_a_module_names_the_module():
    class Logarithm(tg.nn.Module):
        def forward(self, x):
            return tg.log(x)

    with pytest.raises(tg.AnomalyError, match=r"in module Sequential\.0"), tg.detect_anomaly():
        tg.nn.Sequential(Logarithm())(tg.tensor([0.0], requires_grad=True))


def test_backward_fault_names_the_op_and_the_forward_line():
    x = tg.tensor([4.0, 0.0], requires_grad=True)
    with pytest.raises(tg.AnomalyError) as caught, tg.detect_anomaly():
        where = line_after(inspect.currentframe())
        y = tg.sqrt(x)
        y.sum().backward()
    assert "the reverse rule of sqrt gave inf at index (1,) for input 0 of shape (2,)" in str(caught.value)
    assert where in str(caught.value)


def test_numbers_that_were_bad_before_are_not_blamed_on_the_next_op():
    x = tg.tensor([np.nan, 1.0], requires_grad=True)
    with tg.detect_anomaly():
        y = (x * 2).sum()
    assert np.isnan(y.item())


def test_outside_the_block_nothing_is_checked():
    x = tg.tensor([0.0], requires_grad=True)
    with tg.detect_anomaly():
        pass
    assert tg.log(x).item() == -np.inf


def test_an_error_in_a_rule_says_whose_rule_it_was():
    @elementwise(lambda y, x: x.no_such_attribute)
    def broken(x):
        return x + 1

    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(AttributeError) as caught:
        broken(x).sum().backward()
    assert "in the reverse rule of broken on inputs of shape (2, 3) with a result of shape (2, 3)" in caught.value.__notes__[0]
    with pytest.raises(AttributeError) as caught:
        tg.jvp(broken, (tg.ones((2, 3)),), (tg.ones((2, 3)),))
    assert "in the forward rule of broken" in caught.value.__notes__[0]
