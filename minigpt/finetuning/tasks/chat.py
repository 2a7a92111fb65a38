"""Dialogues: the assistant's words are learned, the others are only read."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigpt.chat import DEFAULT, Message, checked, render
from minigpt.errors import UserError
from minigpt.examples import IGNORED, Example
from minigpt.finetuning.ending import grown, with_end
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.lm import LanguageModelling, beginning
from minigpt.tokenizer import Tokenizer
from tensorgrad.nn import Module


class Chat(LanguageModelling):
    """A dialogue is the text that the tokenizer's chat template makes of it.

    A tokenizer without one gets the default; one without a token that ends a text gets that, and the model a row for it.
    """

    def __init__(self, config: FinetuneConfig, model: Any, tokenizer: Tokenizer) -> None:
        ending = tokenizer if config.lora_rank else with_end(tokenizer)  # an adapter has no room for a token
        super().__init__(config, model, ending)
        if ending.chat_template is None:
            ending.chat_template = ending.settings["chat_template"] = DEFAULT

    def start(self, model: Any, rng: np.random.Generator) -> Module:
        return grown(model, self.tokenizer.vocab_size)

    def read(self, table: Table) -> list[list[Example]]:
        rows = table.column(self.config.messages_column, "--messages-column")
        return [self._row(checked(messages, self.tokenizer, table.place(i)), table.place(i)) for i, messages in enumerate(rows)]

    def _row(self, messages: list[Message], place: str) -> list[Example]:
        """The tokens of the whole dialogue, and as targets those that begin in what the assistant says."""
        text, spans = self._spans(messages, place)
        found = self.tokenizer.encode_pair(text, control=True)
        own = found.texts == 0  # without what the tokenizer's template adds, which the chat template writes where it belongs
        ids, begins = found.ids[own], found.offsets[own, 0]
        learned = np.zeros(len(ids), bool)
        for begin, end in spans:
            learned |= (begins >= begin) & (begins < end)
        kept = self.fit(partial(beginning, ids), place)
        targets = np.where(learned, ids, IGNORED)[1 : len(kept)]
        return [Example(kept[:-1], targets)] if (targets != IGNORED).any() else []

    def _spans(self, messages: list[Message], place: str) -> tuple[str, list[tuple[int, int]]]:
        """The text of a dialogue, and where in it the assistant's words and what ends them stand."""
        text, spans = render(self.tokenizer, messages), []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                before = render(self.tokenizer, messages[:i], add_generation_prompt=True)
                after = render(self.tokenizer, messages[: i + 1])
                if not (text.startswith(after) and after.startswith(before)):
                    raise UserError(f"{place}: the chat template writes message {i + 1} differently when others follow it")
                spans.append((len(before), len(after)))
        if not spans:
            raise UserError(f"{place} has no words of the assistant to learn")
        return text, spans
