"""`minigpt draw`: the graph of a model as a picture."""

from __future__ import annotations

import argparse
from typing import Any

from minigpt.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, besides the model's folder."""
    parser.add_argument("--out", required=True, metavar="FILE.svg", help="picture to write")
    parser.add_argument("--depth", type=int, metavar="D", help="levels of modules to draw (default: as many as can be read)")


def run(options: dict[str, Any]) -> int:
    """Draw what a model makes of a few tokens."""
    if options["depth"] is not None and options["depth"] < 0:
        raise UserError(f"--depth must be at least 0, not {options['depth']}")
    import numpy as np

    import tensorgrad as tg
    from minigpt.checkpoint import load

    model, _ = load(options["folder"])
    ids = np.zeros((1, min(8, model.config.block_size or 8)), dtype=np.int64)
    try:
        tg.render(tg.draw(_end(model, ids), depth=options["depth"]), options["out"])
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{error}") from None
    except OSError as error:
        raise UserError(f"cannot write {options['out']}: {error.strerror or error}") from None
    print(f"Drawn in {options['out']}")
    return 0


def _end(model: Any, ids: Any) -> Any:
    """Where the graph ends: in the loss of a model that continues texts, in what any other gives for texts."""
    from minigpt.checkpoint import continues

    if continues(model):
        return model.loss(ids, ids)
    return model(ids, ids) if hasattr(model, "encode") else model(ids)
