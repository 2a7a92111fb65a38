"""To restore spans: runs of tokens are replaced by sentinels, and written out after these (Raffel et al. 2020, section 3.1.4).

Thank you <X> me to your party <Y> week.  ->  <X> for inviting <Y> last <Z>
"""

from __future__ import annotations

import numpy as np

from minigpt.errors import UserError
from minigpt.objectives.objective import Batch
from minigpt.tokenizer import Tokenizer

RATE = 0.15  # of the tokens are in spans
LENGTH = 3  # of a span, in the mean


class Spans:
    """Both texts end with </s>, and the decoder reads what it should write moved on by one, after the token `start`.

    All windows of n tokens have round(0.15 n) in spans, round(0.05 n) of these, so that no padding is needed. All ways to
    cut the rest and the spans are equally likely.
    """

    def __init__(self, tokenizer: Tokenizer, block: int) -> None:
        """UserError if the tokenizer lacks </s>, or has too few sentinels for windows of `block` tokens."""
        end, pad = tokenizer.special("eos"), tokenizer.special("pad")
        self.noise, self.spans = sizes(block)
        self.sentinels = np.array(tokenizer.sentinels, dtype=np.int64)
        if end is None or len(self.sentinels) <= self.spans:
            raise UserError(
                f"to restore the {self.spans} spans of {block} tokens a tokenizer needs </s> and {self.spans + 1} sentinels, and "
                f"this one, of kind {tokenizer.kind}, has {len(self.sentinels)}"
            )
        self.end, self.start = end, end if pad is None else pad

    def __call__(self, ids: np.ndarray, following: np.ndarray, rng: np.random.Generator) -> Batch:
        made = [self._corrupted(row, rng) for row in ids]
        inputs, targets = (np.stack(rows) for rows in zip(*made, strict=True))
        before = np.concatenate([np.full((len(ids), 1), self.start), targets[:, :-1]], axis=1)
        return Batch((inputs, before), targets)

    def _corrupted(self, row: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What is read, (n - noise + spans + 1,), and what is to be written, (noise + spans + 2,)."""
        noise, spans = sizes(len(row))
        lengths = np.stack([_parts(len(row) - noise, spans, rng), _parts(noise, spans, rng)], axis=1).ravel()
        hidden = np.repeat(np.tile([False, True], spans), lengths)
        starts = np.cumsum(lengths)[0::2]  # of the spans
        sentinels = self.sentinels[:spans]
        kept = np.insert(row, starts, sentinels)[~np.insert(hidden, starts, False)]
        written = np.insert(row[hidden], np.cumsum(lengths[1::2]) - lengths[1::2], sentinels)
        return np.append(kept, self.end), np.append(written, [self.sentinels[spans], self.end])

    def target_counts(self, tokens: np.ndarray, block: int, vocab_size: int) -> np.ndarray:
        """(V,), of a window: its share of the text's tokens, and what stands around the spans."""
        noise, spans = sizes(block)
        counts = np.bincount(tokens, minlength=vocab_size) * (noise / len(tokens))
        counts[self.sentinels[: spans + 1]] += 1
        counts[self.end] += 1
        return counts * (len(tokens) / block)


def sizes(n: int) -> tuple[int, int]:
    """How many of n >= 2 tokens are in spans, and in how many."""
    noise = min(max(round(RATE * n), 1), n - 1)
    return noise, min(max(round(noise / LENGTH), 1), n - noise)


def _parts(n: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """(parts,): positive integers that sum up to n, each such composition equally likely."""
    cuts = np.sort(rng.choice(n - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [n]]))
