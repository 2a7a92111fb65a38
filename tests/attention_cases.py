"""Attention in NumPy, of real or complex arrays, and inputs for it."""

import numpy as np
from kernel_checks import normal

from tensorgrad import random


def definition(q, k, v, *, causal=False, scale, mask=True, bias=0.0, p=0.0, seed=0):
    groups = q.shape[1] // k.shape[1]
    scores = np.einsum("bhtd,bhsd->bhts", q, np.repeat(k, groups, 1)) * scale + bias
    t, s = scores.shape[2:]
    seen = (np.tri(t, s, s - t, dtype=bool) if causal else True) & np.broadcast_to(mask, scores.shape) & (scores.real > -np.inf)
    top = np.where(seen, scores.real, -np.inf).max(-1, keepdims=True, initial=-1e38)
    e = np.exp(np.where(seen, scores - top, -np.inf)) * seen
    total = e.sum(-1, keepdims=True)
    weights = e / np.where(total == 0, 1, total)
    if p:
        weights = weights * random.kept(p, e[..., 0].size, s, seed).reshape(e.shape) / random.rate_kept(p)
    return np.einsum("bhts,bhse->bhte", weights, np.repeat(v, groups, 1))


def inputs(b, h, g, t, s, d, e):
    return [normal(b, h, t, d), normal(b, g, s, d, seed=1), normal(b, g, s, e, seed=2)]


def some(*shape, seed=0):
    """A mask that hides a third, and all of the first row."""
    mask = np.random.default_rng(seed).random(shape) < 2 / 3
    mask[..., 0, :] = mask.shape[-2] == 1
    return mask
