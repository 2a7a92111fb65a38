"""Optimizers and learning rates."""

from .first_order import SGD, Adagrad, Adam, AdamW, Muon, RMSprop
from .gradients import clip_grad_norm, decay_groups
from .optimizer import Optimizer
from .schedules import Plateau, constant, cosine, linear, one_cycle, warmup_cosine, warmup_stable_decay

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Muon",
    "Optimizer",
    "Plateau",
    "RMSprop",
    "clip_grad_norm",
    "constant",
    "cosine",
    "decay_groups",
    "linear",
    "one_cycle",
    "warmup_cosine",
    "warmup_stable_decay",
]
