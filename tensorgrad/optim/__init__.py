"""Optimizers and learning rates."""

from .first_order import SGD, Adagrad, Adam, AdamW, Muon, RMSprop
from .gradients import clip_grad_norm, decay_groups
from .lbfgs import lbfgs
from .least_squares import levenberg_marquardt
from .newton import newton_cg
from .optimizer import Optimizer
from .result import Result
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
    "Result",
    "clip_grad_norm",
    "constant",
    "cosine",
    "decay_groups",
    "lbfgs",
    "levenberg_marquardt",
    "linear",
    "newton_cg",
    "one_cycle",
    "warmup_cosine",
    "warmup_stable_decay",
]
