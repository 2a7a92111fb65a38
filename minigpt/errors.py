"""The two ways in which minigpt refuses: a mistake of the user's, and a training run that cannot go on."""


class MinigptError(Exception):
    """Base of minigpt's own errors; the message is one sentence, `exit_code` is what the command line returns."""

    exit_code = 1


class UserError(MinigptError):
    """A bad flag, file, prompt or model directory: something the user can put right."""

    exit_code = 2


class TrainingError(MinigptError):
    """Training met a number that is not finite and stopped before it could harm the weights."""
