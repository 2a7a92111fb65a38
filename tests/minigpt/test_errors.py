"""Each refusal has its exit code."""

from minigpt.errors import MinigptError, TrainingError, UserError


def test_exit_codes():
    assert UserError("x").exit_code == 2
    assert TrainingError("x").exit_code == MinigptError("x").exit_code == 1
