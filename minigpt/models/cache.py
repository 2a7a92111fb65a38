"""What an attention layer has read, kept for the tokens that follow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import Tensor


class KeyValueCache:
    """The keys and values of the positions read so far, (B, H, T, d) each, in room made once for `length` positions.

    The first padding[b] positions of row b are no tokens: nothing sees them, and their own results are 0.
    """

    def __init__(self, batch: int, heads: int, length: int, features: int, dtype: Any, padding: np.ndarray | None = None):
        self.keys = np.empty((batch, heads, length, features), dtype)
        self.values = np.empty_like(self.keys)
        self.length = 0
        self.padding = None if padding is None or not np.any(padding) else np.asarray(padding)

    def select(self, rows: Any) -> None:
        """Keep these rows, in this order; one may be kept several times."""
        for name in ("keys", "values"):
            room = getattr(self, name)
            kept = room[rows, :, : self.length]
            room = room[: len(kept)] if len(kept) <= len(room) else np.empty((len(kept), *room.shape[1:]), room.dtype)
            room[:, :, : self.length] = kept
            setattr(self, name, room)
        self.padding = None if self.padding is None else self.padding[rows]

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, H, T, d) each, of T more positions -> (B, H, S, d) each, of all so far. Raises ValueError when there is no room."""
        start, end, room = self.length, self.length + k.shape[2], self.keys.shape[2]
        if end > room:
            raise ValueError(f"the cache has room for {room} positions, {end} are needed")
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def tokens(self, extra: int = 0) -> np.ndarray | None:
        """(B, 1, 1, S): True at the tokens among the positions so far and `extra` more, None if all are tokens."""
        if self.padding is None:
            return None
        return (np.arange(self.length + extra) >= self.padding[:, None])[:, None, None]

    def attend(self, qkv: Tensor) -> Tensor:
        """(B, T, 3 C) -> (B, T, C): T more positions see those before them and themselves. No derivative passes through.

        Raises ValueError when there is no room.
        """
        batch, length, features = qkv.shape
        heads, d = self.keys.shape[1], self.keys.shape[3]
        start = self.length
        q, k, v = qkv.data.reshape(batch, length, 3, heads, d).transpose(2, 0, 3, 1, 4)  # (B, H, T, d) each
        self.append(k, v)
        if self.padding is None:
            y = self._attend(q, slice(None), 0)
        else:
            y = np.zeros((batch, length, heads, d), q.dtype)
            for rows, padding in self._equally_padded():
                blank = max(padding - start, 0)
                y[rows, blank:] = self._attend(q[rows, :, blank:], rows, padding)
        return Tensor(y.reshape(batch, length, features // 3))

    def _attend(self, q: np.ndarray, rows: slice, padding: int) -> np.ndarray:
        """(b, H, t, d) -> (b, t, H, d)."""
        k, v = (x[rows, :, padding : self.length] for x in (self.keys, self.values))
        return tg.attention(Tensor(q), Tensor(k), Tensor(v), causal=True).data.swapaxes(1, 2)

    def _equally_padded(self) -> Iterator[tuple[slice, int]]:
        """The rows, in slices that have the same padding."""
        assert self.padding is not None
        starts = [0, *(np.flatnonzero(np.diff(self.padding)) + 1).tolist(), len(self.padding)]
        return ((slice(a, b), int(self.padding[a])) for a, b in pairwise(starts))
