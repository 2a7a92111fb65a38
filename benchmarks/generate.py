"""Generation: prefill and decode in tokens a second, against transformers on PyTorch and against the memory's bandwidth.

    python benchmarks/generate.py [--shapes nano gpt2] [--batches 1 16] [--rounds 2] [--repeats 2]

Weights are random, tokens are chosen greedily. A time to the first token is that of the prefill; what N more tokens take
beyond it is the decoding. To decode a token every weight must be read once, so at batch 1 the least time is the weights'
bytes over the bandwidth at which this machine reads as many bytes, be it by BLAS or by our own product, whichever reads
faster. Each side runs in its own process, in turn, and the best of all repeats counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from turns import in_turns, machine, table

SHAPES = {
    "nano": dict(layers=4, heads=4, width=128, context=64, vocab=65, prompt=16, new=40),
    "gpt2": dict(layers=12, heads=12, width=768, context=1024, vocab=50257, prompt=32, new=16),
}
Generate = Callable[[np.ndarray, int], object]


def ours(shape: dict[str, int]) -> Generate:
    from minigpt.generation.config import GenerationConfig
    from minigpt.generation.context import Context
    from minigpt.generation.decode import decode
    from minigpt.models.gpt import GPT, GPTConfig

    config = GPTConfig(shape["vocab"], shape["context"], shape["layers"], shape["heads"], shape["width"])
    model = GPT(config, np.random.default_rng(0))
    model.eval()

    def generate(ids: np.ndarray, count: int) -> object:
        greedy = GenerationConfig(max_new_tokens=count, temperature=0)
        return list(decode(Context(model, ids.tolist(), count), greedy, [np.random.default_rng(0)] * len(ids)))

    return generate


def theirs(shape: dict[str, int]) -> Generate:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    sizes = dict(vocab_size=shape["vocab"], n_positions=shape["context"], n_embd=shape["width"])
    config = transformers.GPT2Config(
        **sizes, n_layer=shape["layers"], n_head=shape["heads"], activation_function="gelu", eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).eval()

    def generate(ids: np.ndarray, count: int) -> object:
        settings = transformers.GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
        tokens = torch.from_numpy(ids)
        with torch.inference_mode():
            return model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)

    return generate


SIDES = {"tensorgrad": ours, "transformers": theirs}


def work(side: str, name: str, batches: Sequence[int], repeats: int) -> None:
    """One process's part: for each batch, the seconds of one token and those of all, after a warm-up, `repeats` times."""
    shape = SHAPES[name]
    generate = SIDES[side](shape)
    seconds = []
    for batch in batches:
        ids = np.random.default_rng(1).integers(0, shape["vocab"], (batch, shape["prompt"]))
        generate(ids, 2)
        for _ in range(repeats):
            for count in (1, 1 + shape["new"]):
                started = time.perf_counter()
                generate(ids, count)
                seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds))


def weights(shape: dict[str, int]) -> int:
    """Bytes read for a token at batch 1: every weight but the positions' table."""
    return 4 * (shape["layers"] * 12 * shape["width"] ** 2 + shape["vocab"] * shape["width"])


def bandwidth(size: int) -> float:
    """Bytes a second at which `size` bytes are read: by BLAS, as two vectors, or by our product, as a matrix of long rows."""
    from tensorgrad.kernels.matmul import matmul

    data = np.ones(size // 16384 * 4096, np.float32)
    a, b, rows, x = *data.reshape(2, -1), data.reshape(-1, 4096), np.ones((1, 4096), np.float32)
    repeats = max(1, (1 << 28) // size)
    return data.nbytes / min(least(read, repeats) for read in (lambda: np.dot(a, b), lambda: matmul(x, rows.T)))


def least(call: Callable[[], object], repeats: int) -> float:
    """The least of seven means of `repeats` calls."""
    best = np.inf
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, (time.perf_counter() - started) / repeats)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--work", nargs=2, metavar=("SIDE", "SHAPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(*options.work, options.batches, options.repeats)
    print(machine(), file=sys.stderr)
    sides = ["tensorgrad"] + ["transformers"] * bool(importlib.util.find_spec("transformers"))
    rows = []
    for name in options.shapes:
        passed_on = ["--batches", *map(str, options.batches), "--repeats", str(options.repeats)]
        times = in_turns({side: [__file__, "--work", side, name, *passed_on] for side in sides}, options.rounds)
        rows += rows_of(name, options.batches, options.repeats, times)
    header = ["model", "batch", "side", "prefill, tokens/s", "decode, tokens/s", "/ transformers", "of the bandwidth limit"]
    print(table(header, rows))


def rows_of(name: str, batches: Sequence[int], repeats: int, times: dict[str, list[float]]) -> list[list[str]]:
    """The best of all repeats, for each batch and side."""
    shape, rows = SHAPES[name], []
    limit = bandwidth(weights(shape)) / weights(shape)  # steps a second
    for i, batch in enumerate(batches):
        rates = {}
        for side, seconds in times.items():
            first, whole = np.array(seconds).reshape(-1, len(batches), repeats, 2)[:, i].min(axis=(0, 1))
            rates[side] = batch * shape["prompt"] / first, batch * shape["new"] / (whole - first)
        for side, (prefill, decode) in rates.items():
            ratio = f"{decode / rates['transformers'][1]:.2f}" if "transformers" in rates else ""
            share = f"{decode / limit:.0%} of {limit:,.0f}" if batch == 1 else ""
            rows.append([name, str(batch), side, f"{prefill:,.0f}", f"{decode:,.0f}", ratio, share])
    return rows


if __name__ == "__main__":
    main()
