"""Every family beside transformers on PyTorch, on tiny random models: logits in both precisions, tokens, and the way back.

    python benchmarks/parity.py [--classes]

The error is the greatest difference of a logit over the greatest logit, the worst of the family's classes and variants (a row
each with --classes).  Tokens are 12 of each of two prompts of unequal length, greedy; encoders write none.  The way back is the
same error between their model and the one that they read from the folder that we have written.  In float64 what their models
compute in float32 whatever their weights are (softmax, norms, angles) is lifted to float64 too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from turns import machine, table

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from exchange_parity import CASES, LIMITS, Parity, parity


def row(name: str, found: list[Parity]) -> list[str]:
    """The worst of some results."""
    errors = [f"{max(result.errors[dtype] for result in found):.1e}" for dtype in LIMITS]
    tokens = {result.generation for result in found}
    faults = sum(len(result.faults) for result in found)
    back = f"{max(result.returned for result in found):.1e}" + (f", {faults} names differ" if faults else "")
    return [name, *errors, "none" if tokens == {None} else "DIFFER" if False in tokens else "equal", back]


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", action="store_true", help="a row for each class and variant")
    by_class = parser.parse_args(arguments).classes
    found: dict[str, list[Parity]] = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found.setdefault(str(case) if by_class else case.family, []).append(parity(case, Path(folder)))
    print(machine())
    print(table(["family", *LIMITS, "generation", "way back"], [row(name, results) for name, results in found.items()]))


if __name__ == "__main__":
    main()
