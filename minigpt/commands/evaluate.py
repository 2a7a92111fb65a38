"""`minigpt evaluate`: how well a model predicts a text, and where it is surprised."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from minigpt.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, besides the model's folder."""
    parser.add_argument("--data", required=True, metavar="FILE", help="text, in any form that train reads")
    parser.add_argument("--field", default="text", metavar="KEY", help="key of the text in JSON lines (default: text)")
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--surprise", action="store_true", help="show the text, each token coloured by its surprise in bits")
    parser.add_argument("--html", metavar="FILE.html", help="write the coloured text as a page")
    printed.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def run(options: dict[str, Any]) -> int:
    """Score the text, then print what was asked for."""
    from minigpt import surprise
    from minigpt.checkpoint import load_writer
    from minigpt.display import Output
    from minigpt.evaluate import encode, evaluate
    from minigpt.files import write_whole
    from minigpt.sources import open_source

    model, tokenizer = load_writer(options["folder"])
    source = open_source(options["data"], options["field"])
    ids = encode(source, tokenizer)
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("evaluating", total=len(ids) - 1)
        found = evaluate(model, tokenizer, ids, lambda tokens: progress.advance(bar, tokens))
    console = Output(soft_wrap=True)
    if options["surprise"]:
        text = Text()
        for piece, bits in surprise.shown(tokenizer, ids[1:], found.surprise):
            text.append(piece, style=f"{'white' if bits > 0.7 * surprise.LIMIT else 'black'} on {surprise.colour(bits)}")
        console.print(text)
    if options["json"]:
        print(json.dumps(_figures(found)))
    else:
        console.print(_table(found, source.name))
    if options["html"] is not None:
        page = surprise.page(tokenizer, ids[1:], found.surprise, f"{Path(source.name).name} as {options['folder']} sees it")
        try:
            write_whole(Path(options["html"]), page)
        except OSError as error:
            raise UserError(f"cannot write {options['html']}: {error.strerror or error}") from None
    return 0


def _figures(found: Any) -> dict[str, float]:
    kept = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "surprise"}
    names = ("perplexity", "bits_per_character", "bits_per_byte")
    return kept | {name: getattr(found, name) for name in names}


def _table(found: Any, name: str) -> Any:
    from rich.table import Table

    table = Table(title=name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in (
        ("tokens scored", f"{found.tokens:,}"),
        ("nats per token", f"{found.nats_per_token:.4f}"),
        ("perplexity", f"{found.perplexity:,.3f}"),
        ("bits per character", f"{found.bits_per_character:.4f}"),
        ("bits per byte", f"{found.bits_per_byte:.4f}"),
        ("top-1 accuracy", f"{found.top1:.2%}"),
        ("top-5 accuracy", f"{found.top5:.2%}"),
        ("calibration error", f"{found.calibration_error:.4f}"),
        ("entropy of the predictions (nats)", f"{found.entropy:.4f}"),
    ):
        table.add_row(*row)
    return table
