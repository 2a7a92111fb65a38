"""A node's text, a bold head over small lines: as Graphviz's HTML, or as plain text that is styled in the SVG.

The layout engine that comes with pip reads no HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_LABEL = re.compile(r"label=<<B>(?P<head>.*?)</B>(?P<lines>.*?)>(?= |\])")
_LINE = re.compile(r'<BR/><FONT POINT-SIZE="9" COLOR="[^"]*">(.*?)</FONT>')
_STYLE = """<style>
.node text { font-size: 9px; opacity: 0.75 }
.node text:first-of-type { font-size: 11px; font-weight: bold; opacity: 1 }
</style>"""


def label(head: str, lines: Sequence[str], faint: str) -> str:
    """The HTML-like label of a node, its lines in the colour `faint`."""
    small = "".join(f'<BR/><FONT POINT-SIZE="9" COLOR="{faint}">{html.escape(line)}</FONT>' for line in lines)
    return f"<<B>{html.escape(head)}</B>{small}>"


def without_html(source: str) -> str:
    """DOT source with every such label as plain lines."""

    def plain(match: re.Match) -> str:
        room = " " * (1 + len(match["head"]) // 10)  # bold is wider than the layout engine reckons with
        lines = [room + match["head"] + room, *_LINE.findall(match["lines"])]
        text = "\n".join(html.unescape(line) for line in lines).replace("\\", "\\\\").replace('"', '\\"')
        return 'label="' + text.replace("\n", "\\n") + '"'

    return _LABEL.sub(plain, source)


def styled(svg: bytes) -> bytes:
    """An SVG with plain labels, their first lines made heads again."""
    return re.sub(rb"(<svg\b[^>]*>)", lambda match: match[1] + b"\n" + _STYLE.encode(), svg, count=1)
