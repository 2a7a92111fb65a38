"""What an encoder-decoder has read: sources, each turned into a memory once, and the tokens written for each so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tensorgrad as tg
from minigpt.generation.context import Context
from minigpt.models.seq2seq import EncoderDecoder
from tensorgrad import Tensor

ENDLESS = 1 << 30  # tokens, where there are no positions to run out of


class SourceContext(Context):
    """B sequences that follow B sources, all beginning with `prompt`, with room for `extra` more tokens of each.

    Sources of unequal length are padded on the right. No window moves: ValueError from the model where its positions end.
    """

    def __init__(self, model: EncoderDecoder, sources: Sequence[Sequence[int]], prompt: Sequence[int], extra: int):
        super().__init__(model, [prompt for _ in sources], extra)
        lengths = np.array([len(source) for source in sources])
        self._mask = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (B, S)
        ids = np.full(self._mask.shape, model.config.pad_token)
        ids[self._mask] = np.concatenate([np.asarray(source, np.int64) for source in sources])
        with tg.no_grad():
            self._memory = model.encode(ids, self._mask)  # (B, S, C)
        self._sources = np.arange(len(lengths))  # of each row
        self._width = len(prompt)
        self._layers = model.new_cache(len(lengths), self._final)
        self._cache = self._layers

    def select(self, rows: Sequence[int]) -> None:
        super().select(rows)
        kept = self._sources[rows]
        if not np.array_equal(kept, self._sources):  # beams of one source may change places, and look at the same memory
            self._sources, self._mask = kept, self._mask[rows]
            self._memory = Tensor(self._memory.data[rows])
            for layer in self._layers:
                layer.select_memory(np.array(rows, np.int64))

    def room(self) -> int:
        return (self.model.config.block_size or ENDLESS) - len(self.sequences[0])

    def logits(self, last: int = 1) -> np.ndarray:
        fresh = self._width - self._layers[0].length
        ids = np.array([sequence[self._width - fresh :] for sequence in self.sequences], np.int64)
        with tg.no_grad():
            return self.model.decode(ids, self._memory, self._mask, self._layers).numpy()[:, -last:]
