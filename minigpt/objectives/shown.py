"""What a model makes of what it was not shown, as text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minigpt.objectives.objective import IGNORED
from minigpt.tokenizer import Tokenizer


def shown(tokenizer: Tokenizer, read: np.ndarray, targets: np.ndarray, guesses: np.ndarray) -> str:
    """Three lines: what was read (n,), the targets (m,), and the guesses (m,) at each, where there is one."""
    counted = targets != IGNORED
    lines = {"read": read, "wanted": targets[counted], "guessed": guesses[counted]}
    return "\n".join(f"{name}: {spelled(tokenizer, ids)}" for name, ids in lines.items())


def spelled(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of some ids with the control tokens spelled out, on one line."""
    control = set(tokenizer.specials.values())
    pieces = [f" {tokenizer.words[i]} ".encode() if i in control else tokenizer.piece(int(i)) for i in ids]
    return " ".join(b"".join(pieces).decode("utf-8", errors="replace").split())
