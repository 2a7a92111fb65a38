"""`minigpt data stats`: what a text is like, as a table and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from minigpt.statistics import Statistics
    from minigpt.tokenizer import Tokenizer

ROWS = 8  # of the table of distances


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt data stats`."""
    parser.add_argument("data", metavar="FILE", help="text: a file, JSON lines, either gzipped, a folder of them, or -")
    parser.add_argument("--field", default="text", metavar="KEY", help="key of the text in JSON lines (default: text)")
    kinds = ("char", "bytes", "bpe", "wordpiece", "unigram", "words")
    parser.add_argument("--tokenizer", default="char", choices=kinds, help="what a token is (default: char)")
    parser.add_argument(
        "--vocab-size", type=int, default=2048, metavar="N", help="tokens that a kind but char and bytes learns (default: 2048)"
    )
    parser.add_argument("--out", metavar="FILE.svg", help="draw the frequencies and the mutual information there")


def run(options: dict[str, Any]) -> int:
    """Count, print, draw."""
    if options["vocab_size"] < 256:
        raise UserError(f"--vocab-size must be at least 256, not {options['vocab_size']}")
    from minigpt.files import write_whole
    from minigpt.sources import open_source
    from minigpt.statistics import measure, picture
    from minigpt.tokens import tokenize
    from minigpt.vocabularies import Vocabulary

    source = open_source(options["data"], options["field"])
    tokens = tokenize(source, Vocabulary(options["tokenizer"], options["vocab_size"]))
    if len(tokens.ids) < 3:
        raise UserError(f"{source.name} has {len(tokens.ids)} tokens, and at least 3 are needed to count with")
    statistics = measure(tokens.ids, tokens.tokenizer.vocab_size)
    pieces = [repr(piece.decode("utf-8", errors="replace")) for piece in tokens.tokenizer.pieces]
    _print(statistics, tokens.characters, tokens.tokenizer, pieces, source.name)
    if options["out"] is not None:
        out = Path(options["out"])
        try:
            write_whole(out, picture(statistics, pieces, f"{Path(source.name).name}: {len(tokens.ids):,} tokens"))
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror or error}") from None
        print(f"Drawn in {out}")
    return 0


def _print(statistics: Statistics, characters: int, tokenizer: Tokenizer, pieces: list[str], name: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from minigpt.display import Output

    table = Table(title=name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [("characters", f"{characters:,}"), ("tokens", f"{statistics.tokens:,}")]
    if statistics.looked_at < statistics.tokens:
        rows.append(("of these looked at, the first", f"{statistics.looked_at:,}"))
    rows += [
        ("vocabulary", f"{tokenizer.vocab_size:,}"),
        ("different tokens", f"{statistics.types:,}"),
        ("type/token ratio", f"{statistics.type_token_ratio:.6f}"),
    ]
    names = ("unigram", "bigram", "trigram")
    rows += [(f"{n} entropy (bits)", f"{h:.4f}") for n, h in zip(names, statistics.entropies, strict=True)]
    known = ("no token", "1 token", "2 tokens")
    rows += [(f"bits a token, {k} before it known", f"{h:.4f}") for k, h in zip(known, statistics.conditional, strict=True)]
    for row in rows:
        table.add_row(*row)
    console = Output(soft_wrap=True)
    console.print(table)
    console.print(_distances(statistics.information))
    frequent = ", ".join(f"{pieces[token]} {count / statistics.looked_at:.2%}" for token, count in statistics.most_frequent(20))
    console.print(Text(f"most frequent: {frequent}"))


def _distances(information: Sequence[float]) -> Table:
    """Columns of distances, and beside each the bits that tokens so far apart have in common."""
    from rich.table import Table

    table = Table(title="Mutual information of tokens at a distance (bits)", title_justify="left")
    for _ in range(0, len(information), ROWS):
        table.add_column("at", justify="right")
        table.add_column("bits", justify="right")
    for first in range(min(ROWS, len(information))):
        cells = [(f"{i + 1}", f"{information[i]:.5f}") for i in range(first, len(information), ROWS)]
        table.add_row(*(cell for pair in cells for cell in pair))
    return table
