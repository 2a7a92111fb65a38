"""Compile kernels ahead of their first use: `tensorgrad warmup`, or `python -m tensorgrad.warmup`.

Kernels are compiled when they are first called and kept on disk, so a first run on a machine is slow. Here every op that
has a kernel is called once, on arrays large enough for several threads and on small ones. Several processes share the work:
each begins with a part of the list of its own and goes on with the others' parts from their ends, which they have not reached
yet, until it finds their code on disk, or waits for it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad as tg

Report = Callable[[str, int, int], None]
Fresh = Callable[..., tg.Tensor]  # (*shape) -> random numbers that want a gradient
Op = Callable[[Fresh, int], tg.Tensor]  # an op of n rows of such numbers


def _attention(fresh: Fresh, n: int, biased: bool = False) -> tg.Tensor:
    length = max(n // 64, 1)
    q, k, v = (fresh(2, 4, length, 16) for _ in range(3))
    return tg.attention(q, k, v, causal=True, bias=fresh(4, length, length) if biased else None)


def _self_attention(fresh: Fresh, n: int, p: float = 0.0) -> tg.Tensor:
    return tg.self_attention(fresh(2, max(n // 16, 1), 192), 4, causal=True, dropout_p=p, rng=np.random.default_rng(0))


def _embedding(fresh: Fresh, n: int) -> tg.Tensor:
    return tg.embedding(np.arange(n) % 100, fresh(100, 64))


def _adamw(fresh: Fresh, n: int) -> tg.Tensor:
    parameters = [fresh(n, 64), fresh(64)]
    for p in parameters:
        p.grad = tg.ones_like(p)
    tg.optim.AdamW([{"params": [p]} for p in parameters]).clipped_step(1e-3)  # what decays is much, what does not is little
    return parameters[0]


# Two processes take every other line each, so neighbours take about as long to compile; what two need comes first.
STEP: dict[str, Op] = {
    "linear": lambda fresh, n: tg.linear(fresh(n, 64), fresh(96, 64), fresh(96)),
    "layer norm": lambda fresh, n: tg.layer_norm(fresh(n, 64), fresh(64), fresh(64)),
    "self attention": _self_attention,
    "cross-entropy": lambda fresh, n: tg.cross_entropy(fresh(n, 65), np.arange(n) % 65),
    "GELU": lambda fresh, n: tg.gelu(fresh(n, 64)),
    "embedding": _embedding,
    "AdamW": _adamw,
    "addition": lambda fresh, n: fresh(n, 64) + fresh(n, 64),
}
DROPOUT: dict[str, Op] = {
    "self attention with dropout": lambda fresh, n: _self_attention(fresh, n, 0.5),  # masks and biases are in the same code
    "dropout": lambda fresh, n: tg.dropout(fresh(n, 64), 0.5, rng=np.random.default_rng(0)),
}
OTHERS: dict[str, Op] = {
    "attention": _attention,
    "attention with a learned bias": lambda fresh, n: _attention(fresh, n, biased=True),
    "rotary positions": lambda fresh, n: tg.rotary(fresh(n, 64)),
    "RMS norm": lambda fresh, n: tg.rms_norm(fresh(n, 64), fresh(64)),
    "softmax": lambda fresh, n: tg.softmax(fresh(n, 64)),
    "log-softmax": lambda fresh, n: tg.log_softmax(fresh(n, 64)),
    "matrix product": lambda fresh, n: fresh(n, 64) @ fresh(64, 96),
    "feed-forward": lambda fresh, n: tg.feed_forward(*map(fresh, (n, 96, 64, 96, 64), (64, 64, 96))),
    "SiLU": lambda fresh, n: tg.silu(fresh(n, 64)),
    "exp, log, tanh, erf": lambda fresh, n: tg.erf(tg.tanh(tg.log(tg.exp(fresh(n, 64))))) + tg.sigmoid(fresh(n, 64)),
}


def tasks(training: bool, dropout: bool) -> list[tuple[str, Callable[[], None]]]:
    """What to call, with its name: the ops of a float32 training step, those of dropout too if it has such, or all ops in
    both precisions, large and small."""
    kinds = [(np.float32, True, "float32"), (np.float32, False, "float32, small"), (np.float64, True, "float64"),
             (np.float64, False, "float64, small")]  # fmt: skip
    if training:
        step = STEP | DROPOUT if dropout else STEP
        return [(name, functools.partial(_call, op, np.float32, True)) for name, op in step.items()]
    ops = STEP | DROPOUT | OTHERS
    return [
        (f"{name}, {kind}", functools.partial(_call, ops[name], dtype, large)) for dtype, large, kind in kinds for name in ops
    ]


def _call(op: Op, dtype: Any, large: bool) -> None:
    """Value and gradient."""
    rng = np.random.default_rng(0)
    y = op(lambda *shape: tg.tensor(rng.random(shape).astype(dtype), requires_grad=True), 4096 if large else 4)
    if y.op is not None:
        y.backward(tg.tensor(rng.random(y.shape).astype(dtype)))


def warm(training: bool = False, dropout: bool = False, report: Report | None = None, share: tuple[int, int] = (0, 0)) -> None:
    """Compile the kernels of all ops, or of a training step alone, with dropout or without; nothing, and at once, if that was
    done before.

    report(name, i, n) is told what comes next. A share (i, n) begins at the i-th of n parts and starts no helpers.
    """
    from tensorgrad.kernels import cache

    marker = _marker(training, dropout)
    if cache.config.DISABLE_JIT or (marker is not None and marker.exists()):
        return
    todo = tasks(training, dropout)
    first, parts = share if share[1] else (0, _processes() if marker else 1)
    own, *others = [todo[(first + part) % parts :: parts] for part in range(parts)]
    todo = own + [task for part in others for task in reversed(part)]
    with _helpers(training, dropout, 0 if share[1] else parts):
        for i, (name, call) in enumerate(todo, 1):
            if report is not None:
                report(name, i, len(todo))
            call()
    if marker is not None:
        with contextlib.suppress(OSError):
            cache.write(marker, b"")


def _processes() -> int:
    from tensorgrad.kernels.jit import THREADS

    return min(THREADS, 4)


def _marker(training: bool, dropout: bool) -> Path | None:
    """The file that says that all is compiled, from these sources for this machine; None if nothing can be kept."""
    from tensorgrad.kernels import cache

    place, kernels = cache.directory(), Path(cache.__file__).parent
    if place is None:
        return None
    try:
        texts = [path.read_bytes() for path in [Path(__file__), *sorted(kernels.glob("*.py"))]]
    except OSError:
        return None
    done = "all" if not training else "training-dropout" if dropout else "training"
    return place / f"warm-{done}-{cache.build_digest(texts)}"


@contextlib.contextmanager
def _helpers(training: bool, dropout: bool, parts: int) -> Iterator[None]:
    """Other processes with the other parts, unless some other program has started such."""
    from tensorgrad.kernels import cache

    none, claimed = subprocess.DEVNULL, parts > 1 and cache.claim("helpers", patience=0)
    options = ["--training"] * training + ["--dropout"] * dropout
    command = [sys.executable, "-P", "-m", "tensorgrad.warmup", *options, "--share"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NUMBA_CACHE_DIR": str(cache.directory())}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for part in range(1, parts) if claimed else ():
            with contextlib.suppress(OSError):
                arguments = [*command, str(part), str(parts)]
                running.append(subprocess.Popen(arguments, env=environment, stdin=none, stdout=none, stderr=none))
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()
        if claimed:
            cache.give_back("helpers")


def _line(name: str, i: int, n: int) -> None:
    print(f"compiling {name} ({i} of {n}) ...", flush=True)


def _bar(name: str, i: int, n: int) -> None:
    done = 24 * (i - 1) // n
    print(f"\r\x1b[K[{'#' * done}{'.' * (24 - done)}] compiling {name} ({i} of {n})", end="", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tensorgrad", description="Compile kernels ahead of their first use.")
    parser.add_argument("command", nargs="?", choices=["warmup"], default="warmup", help="the only one there is")
    parser.add_argument("--training", action="store_true", help="only what a training step in float32 needs")
    parser.add_argument("--dropout", action="store_true", help="with --training: of a model that has dropout")
    parser.add_argument("--share", nargs=2, type=int, default=(0, 0), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    terminal = sys.stdout.isatty()
    try:
        warm(options.training, options.dropout, _bar if terminal else _line, tuple(options.share))
    except KeyboardInterrupt:
        print("\ntensorgrad: interrupted; what is compiled is kept", file=sys.stderr)
        return 130
    from tensorgrad.kernels.cache import directory

    place = directory()
    if place is None:
        print("compiled for this process alone: no directory for compiled kernels; set NUMBA_CACHE_DIR to a writable one")
        return 1
    files = list(place.glob("*.kernel"))
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{chr(13) + chr(27) + '[K' if terminal else ''}{len(files)} compiled kernels, {size:.1f} MB, in {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
