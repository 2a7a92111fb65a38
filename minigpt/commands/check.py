"""`minigpt check`: a model's derivatives against finite differences."""

from __future__ import annotations

import sys
from typing import Any


def run(options: dict[str, Any]) -> int:
    """Print the table; 1 if a check fails."""
    from rich.table import Table

    from minigpt.check import check_model
    from minigpt.checkpoint import load_writer
    from minigpt.display import Output

    model, _ = load_writer(options["folder"])
    table = Table(title=f"{options['folder']} in float64, against finite differences", title_justify="left")
    for heading in ("check", "ours", "reference", "difference", "limit", ""):
        table.add_column(heading, justify="left" if heading == "check" else "right")
    console = Output(width=None if sys.stdout.isatty() else 120)
    failures = 0
    with console.status("checking (the first time, kernels are compiled)"):
        lines = list(check_model(model))
    for line in lines:
        numbers = (line.ours, line.reference), (line.difference, line.limit)
        cells = [f"{x:.6e}" for x in numbers[0]] + [f"{x:.0e}" for x in numbers[1]]
        table.add_row(line.name, *cells, "pass" if line.passed else "FAIL", style=None if line.passed else "bold red")
        failures += not line.passed
    console.print(table)
    print(f"{failures} of {table.row_count} checks failed" if failures else f"all {table.row_count} checks passed")
    return 1 if failures else 0
