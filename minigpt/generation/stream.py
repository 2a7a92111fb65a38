"""Text as it is generated: never half a character, and never a part of a string that it must end before."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Self

from minigpt.generation.config import GenerationConfig
from minigpt.tokenizer import Tokenizer


class Writer:
    """Turns the tokens of one text into pieces of text that will not be taken back.

    Bytes are held back until they make a character, and the end of the text is held back while it may be the beginning
    of a stop string; the text ends before the stop string that is complete first. Strings complete within the first
    `ignored` tokens do not count.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = (), ignored: int = 0):
        self.tokenizer = tokenizer
        self.stop_strings = tuple(stop_strings)
        self.text = ""  # all that was written
        self.stopped = False
        self._ignored = ignored
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @classmethod
    def of(cls, tokenizer: Tokenizer, config: GenerationConfig) -> Self:
        """With the stop strings of a configuration."""
        return cls(tokenizer, config.stop_strings, config.min_new_tokens)

    def add(self, token: int) -> str:
        """What can be shown now that there is one more token; `stopped` says whether a stop string came up."""
        self._ignored -= 1
        return self._write(self._decoder.decode(self.tokenizer.piece(token)))

    def end(self) -> str:
        """What was held back, when no more tokens come; half a character becomes U+FFFD."""
        piece = "" if self.stopped else self._write(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        self.text += rest
        return piece + rest

    def _write(self, new: str) -> str:
        pending, old = self._held + new, len(self._held)
        found = []
        for stop in self.stop_strings if self._ignored < 0 else ():
            start = pending.find(stop, max(0, old - len(stop) + 1))
            if start >= 0:
                found.append((start + len(stop), start))
        if found:
            self.stopped, self._held, piece = True, "", pending[: min(found)[1]]
        else:
            kept = max((_overlap(pending, stop) for stop in self.stop_strings), default=0)
            piece, self._held = pending[: len(pending) - kept], pending[len(pending) - kept :]
        self.text += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """The length of the longest beginning of `stop`, but not all of it, that the text ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
