"""A tag for each word of a text."""

from __future__ import annotations

import numpy as np

from minigpt.errors import UserError
from minigpt.examples import IGNORED, Example
from minigpt.finetuning.table import Table
from minigpt.finetuning.tasks.classify import Labelling
from minigpt.models.heads import TokenClassifier
from minigpt.tagging import first_tokens


class Tagging(Labelling):
    """The first token of each word is to have its tag, the others count for nothing (Devlin et al. 2019, section 5.3)."""

    metric = "macro_f1"
    head = TokenClassifier

    def read(self, table: Table) -> list[list[Example]]:
        texts = table.lists(self.config.text_column, "--text-column")
        tags = table.lists(self.config.label_column, "--label-column")
        for i, (words, wanted) in enumerate(zip(texts, tags, strict=True)):
            if len(words) != len(wanted):
                raise UserError(f"{table.place(i)} has {len(words)} words, but {len(wanted)} tags")
        rows = []
        for i, (words, numbers) in enumerate(zip(texts, self.numbered(tags, table), strict=True)):
            found = self.encoded(table.place(i), " ".join(words))
            first = first_tokens(words, found)
            targets = np.full(len(found), IGNORED)
            targets[first] = numbers[: len(first)]
            rows.append([Example(found.ids, targets, found.segments)])
        return rows
