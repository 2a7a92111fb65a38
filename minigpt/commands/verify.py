"""`minigpt verify`: what should be equal, with the largest difference found, as a table."""

from __future__ import annotations

import sys
from typing import Any


def run(options: dict[str, Any]) -> int:
    """Print the table; 1 if a line fails."""
    from rich.console import Console
    from rich.table import Table

    from minigpt.display import Output
    from minigpt.verify import verify

    table = Table(title=f"Equalities of {options['folder']}", title_justify="left")
    for heading in ("equality", "of", "largest difference", "limit", ""):
        table.add_column(heading, justify="left" if heading in ("equality", "of") else "right")
    failures = 0
    with Console(stderr=True).status("verifying (the first time, kernels are compiled)"):
        for line in verify(options["folder"]):
            difference = "" if line.difference is None else f"{line.difference:.1e}" if line.difference else "0"
            style = "bold red" if line.verdict == "FAIL" else "dim" if line.verdict == "skipped" else None
            table.add_row(line.name, line.note, difference, f"{line.limit:.0e}" if line.limit else "0", line.verdict, style=style)
            failures += line.verdict == "FAIL"
    Output(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"{failures} of {table.row_count} equalities failed" if failures else "no equality failed")
    return 1 if failures else 0
