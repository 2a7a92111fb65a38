"""Pictures: an outline of a recording is folded where it repeats, closed to a readable size, annotated, and written as DOT."""

from .dot import draw
from .render import render

__all__ = ["draw", "render"]
