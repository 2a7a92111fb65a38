"""A chat that goes on: what was said so far, as the chat template writes it, and the model's answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from minigpt.chat import Message, checked, render
from minigpt.errors import UserError
from minigpt.generation.answers import Answer, Row, Style, drawn, unknown
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.tokenizer import Tokenizer

RESERVE = 4  # a quarter of the context is kept free for an answer, if it may become as long


class Conversation:
    """`messages` are all that was said, of which the model reads the newest, and the system's, that fit its context.

    `answered` is the last answer, and `unread` how many of the messages before it were too old to be read.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        system: str | None = None,
        config: GenerationConfig | None = None,
        rng: np.random.Generator | None = None,
    ):
        """UserError for a tokenizer without a chat template, a template without a place for the system's message, or settings
        that make several answers."""
        self.model, self.tokenizer = model, tokenizer
        self.config = config or GenerationConfig()
        if self.config.num_beams > 1 or self.config.num_return_sequences > 1:
            raise UserError("a chat has one answer, drawn token by token: num_beams and num_return_sequences must be 1")
        self.rng = rng or np.random.default_rng()
        self.messages = checked([{"role": "system", "content": system}], tokenizer, "system") if system is not None else []
        self.answered = Answer("")
        self.unread = 0
        self._end, self._stops = ending(tokenizer, self.messages)
        self._context: Context | None = None

    def answer(self, text: str) -> Generator[str]:
        """Say something, and yield the answer piece by piece; it joins the messages, whole or as far as it was taken.

        UserError, before anything is generated, for a message that is empty, spells out a control token or leaves no room to
        answer.
        """
        if not text.strip():
            raise UserError("the message is empty")
        asked = checked([{"role": "user", "content": text}], self.tokenizer, "the message")
        return self._written(asked[0], self._read([*self.messages, *asked]))

    def _written(self, asked: Message, ids: list[int]) -> Generator[str]:
        room = self.model.config.block_size - len(ids)
        most, least = (min(value, room) for value in (self.config.max_new_tokens, self.config.min_new_tokens))
        stops = (*self.config.stop_strings, *self._stops)
        config = dataclasses.replace(self.config, max_new_tokens=most, min_new_tokens=least, stop_strings=stops)
        style = Style(self.tokenizer, config, self._end, unknown(self.model, self.tokenizer))
        row = Row(Answer(asked["content"]), self.rng, style.writer())
        try:
            for piece in drawn(self._reading(ids), [row], style):
                if piece:
                    yield piece
        finally:
            row.answer.text = row.writer.text
            self.answered = row.answer
            self.messages += [asked, {"role": "assistant", "content": row.answer.text}]

    def _reading(self, ids: list[int]) -> Context:
        """The context that has read these tokens; what was read before is not read again."""
        if self._context is None:
            self._context = Context(self.model, [ids], self.model.config.block_size)
        else:
            self._context.reread(ids)
        return self._context

    def _read(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of as many messages as leave room to answer, without the oldest question and answer as need be."""
        fixed = 1 if messages[0]["role"] == "system" else 0
        block = self.model.config.block_size
        room = block - min(self.config.max_new_tokens, block // RESERVE)
        for first in range(fixed, len(messages), 2):
            ids = self._ids([*messages[:fixed], *messages[first:]])
            if len(ids) <= room:
                self.unread = first - fixed
                return ids
        raise UserError(f"the message makes {len(ids)} tokens, but there is room for {room} in the model's context of {block}")

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        return self.tokenizer.encode(render(self.tokenizer, messages, add_generation_prompt=True), control=True).tolist()


def ending(tokenizer: Tokenizer, before: Sequence[Message] = ()) -> tuple[int | None, tuple[str, ...]]:
    """What the template writes after the assistant's words: the control token among it, or else the text.

    Where there is neither, the token that ends a text.
    """
    asked = [*before, {"role": "user", "content": "A"}]
    opened = render(tokenizer, asked, add_generation_prompt=True)
    closed = render(tokenizer, [*asked, {"role": "assistant", "content": "B"}])
    after = closed[len(opened) :].partition("B")[2]
    specials = {*tokenizer.specials.values()}
    end = next((token for token in tokenizer.encode(after, control=True).tolist() if token in specials), None)
    return (tokenizer.end_of_text, (after,) if after else ()) if end is None else (end, ())
