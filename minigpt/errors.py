"""The ways in which minigpt refuses or stops; each message is one sentence."""


class MinigptError(Exception):
    """Base of minigpt's own errors; the message is one sentence, `exit_code` is what the command line returns."""

    exit_code = 1


class UserError(MinigptError):
    """A bad flag, file, prompt or model directory: something the user can put right."""

    exit_code = 2


class TrainingError(MinigptError):
    """Training cannot go on: a number that is not finite, before it could harm the weights, or a checkpoint not written."""


class Interrupted(MinigptError):
    """Training was asked to stop, and has saved its state; the exit code is 128 + the signal, 130 for Ctrl-C."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal
