"""A Hessian-vector product of the default model's loss against its gradient, and against PyTorch's double backward.

    python benchmarks/hvp.py [--rounds N]

Both sides have the same weights, batch and direction v, must report the same v'Hv, and run in processes of their own, in turn.
The limit counts matrix products: a linear map y = x W' takes 3 in a gradient (y, dx, dW), and 8 in H v, forward over reverse:
y, two for its tangent, dx, two for its tangent, two for the tangent of dW.  PyTorch's attention is the equation here, for its
fused kernel has no second derivative.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shapes import SHAPES
from train import our_model
from turns import in_turns, machine, milliseconds, ratio, report, table

SHAPE = SHAPES["nano"]
TIMES = 20  # of each, alternately, after WARM_UP others
WARM_UP = 2
AGREEMENT = 1e-3  # relative, of v'Hv
LIMIT = 8 / 3
Functions = tuple[Callable[[], Any], Callable[[], float]]  # the gradient; H v, of which v'Hv is given


def direction(name: str, size: tuple[int, ...]) -> np.ndarray:
    """The same numbers for the same parameter."""
    return np.random.default_rng(list(name.encode())).normal(size=size).astype(np.float32)


def ours() -> Functions:
    import tensorgrad as tg

    model = our_model(SHAPE)
    ids, targets = SHAPE.ids_and_targets()
    v = {name: tg.tensor(direction(name, p.shape)) for name, p in model.named_parameters()}

    def loss(model: Any) -> Any:
        return model.loss(ids, targets)

    def curvature() -> float:
        product = tg.hvp(loss, model, v)
        return float(sum(np.vdot(v[name].data, product[name].data) for name in v))

    return lambda: tg.value_and_grad(loss)(model), curvature


def torchs(weights: Path) -> Functions:
    import torch
    from torch_gpt import TorchGPT

    model = TorchGPT(SHAPE.vocab, SHAPE.context, SHAPE.layers, SHAPE.heads, SHAPE.width)
    with np.load(weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    ids, targets = (torch.from_numpy(a) for a in SHAPE.ids_and_targets())
    parameters = list(model.parameters())
    v = [torch.from_numpy(direction(name, tuple(p.shape))) for name, p in model.named_parameters()]

    def curvature() -> float:
        gradient = torch.autograd.grad(model.loss(ids, targets), parameters, create_graph=True)
        product = torch.autograd.grad(gradient, parameters, v)
        return float(sum(torch.vdot(a.flatten(), b.flatten()) for a, b in zip(v, product, strict=True)))

    return lambda: torch.autograd.grad(model.loss(ids, targets), parameters), curvature


def work(side: str, weights: Path) -> None:
    """One process's part: our weights for the peer, or one side's seconds and v'Hv."""
    if side == "weights":
        np.savez(weights, **our_model(SHAPE).state_dict())
        return report()
    gradient, curvature = ours() if side == "tensorgrad" else torchs(weights)
    seconds: dict[str, list[float]] = {"gradient": [], "hvp": []}
    for i in range(TIMES + WARM_UP):
        for name, function in (("gradient", gradient), ("hvp", curvature)):
            started = time.perf_counter()
            value = function()
            if i >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    report(**seconds, curvature=value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="processes of each side (default: 3)")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work[0], Path(options.work[1]))
    sides = ["tensorgrad", *(["torch"] if importlib.util.find_spec("torch") else [])]
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "weights.npz"))
        in_turns({"weights": [__file__, "--work", "weights", weights]}, 1)
        runs = in_turns({side: [__file__, "--work", side, weights] for side in sides}, options.rounds)
    wanted = runs["tensorgrad"][0]["curvature"]
    worst = max(abs(run["curvature"] / wanted - 1) for side in runs.values() for run in side)
    if worst > AGREEMENT:
        raise SystemExit(f"the values of v'Hv differ by {worst:.1e} of their size, more than {AGREEMENT}")
    seconds = {side: {k: [s for run in given for s in run[k]] for k in ("gradient", "hvp")} for side, given in runs.items()}
    own = seconds["tensorgrad"]
    rows = []
    for side, times in seconds.items():
        share = ratio(times["gradient"], times["hvp"])
        rows.append([side, milliseconds(times["gradient"]), milliseconds(times["hvp"]), share, ratio(own["hvp"], times["hvp"])])
    header = ["default model", "gradient, ms", "hvp, ms", f"hvp / gradient (limit {LIMIT:.2f})", "hvp / ours"]
    print(f"{machine()}; minimum / median; v'Hv agree to {worst:.0e}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
