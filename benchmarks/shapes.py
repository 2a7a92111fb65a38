"""The models whose training steps are timed, and what a step of each has to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A GPT-2 and its batches."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    vocab: int

    @property
    def tokens(self) -> int:
        return self.batch * self.context

    @property
    def parameters(self) -> int:
        block = 12 * self.width**2 + 13 * self.width  # matrices; biases and two layer norms
        return self.layers * block + (self.vocab + self.context + 2) * self.width

    @property
    def flops(self) -> float:
        """Forward and backward: 6 per weight and token, and 12 T C per layer and token of attention, as if nothing were masked
        (Chowdhery et al. 2022, appendix B)."""
        weights = self.layers * 12 * self.width**2 + self.vocab * self.width
        return self.tokens * (6.0 * weights + self.layers * 12 * self.context * self.width)

    @property
    def optimizer_bytes(self) -> float:
        """AdamW reads a parameter, its gradient and two moments, and writes all but the gradient; float32."""
        return 28.0 * self.parameters

    def products(self) -> list[tuple[int, int, int]]:
        """(M, K, N) of the linear maps' products, (M, K) @ (K, N): forward, by the input, by the weights."""
        c, m = self.width, self.tokens
        maps = [(c, 3 * c), (c, c), (c, 4 * c), (4 * c, c), (c, self.vocab)]
        return [form for k, n in maps for form in ((m, k, n), (m, n, k), (n, m, k))]

    def ids_and_targets(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        size = (self.batch, self.context)
        return rng.integers(0, self.vocab, size), rng.integers(0, self.vocab, size)


SHAPES = {
    "nano": Shape(layers=4, heads=4, width=128, context=64, batch=12, vocab=65),
    "baby": Shape(layers=6, heads=6, width=384, context=256, batch=16, vocab=65),
    "gpt2": Shape(layers=12, heads=12, width=768, context=64, batch=4, vocab=50304),
}
