"""A text with each token coloured by how much it surprised the model, in bits: on a terminal and as a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from minigpt.tokenizer import Tokenizer

LIMIT = 10.0  # bits from which a token is as red as can be
_SURE, _UNSURE = (255, 255, 255), (215, 48, 31)


def colour(bits: float) -> str:
    """White at 0 bits to red at LIMIT, as #rrggbb."""
    share = min(max(bits / LIMIT, 0.0), 1.0)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(_SURE, _UNSURE, strict=True))


def shown(tokenizer: Tokenizer, ids: Iterable[int], bits: Iterable[float]) -> Iterator[tuple[str, float]]:
    """(text, bits): tokens that share a character are joined, their bits added."""
    held, total = b"", 0.0
    for token, value in zip(ids, bits, strict=True):
        held, total = held + tokenizer.piece(int(token)), total + float(value)
        try:
            text = held.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                continue
            text = held.decode("utf-8", errors="replace")
        yield text, total
        held, total = b"", 0.0
    if held:
        yield held.decode("utf-8", errors="replace"), total


def page(tokenizer: Tokenizer, ids: Iterable[int], bits: Iterable[float], title: str) -> str:
    """A self-contained HTML page; resting on a token shows its bits."""
    spans = "".join(
        f'<span style="background:{colour(value)};color:{_ink(value)}" title="{value:.2f} bits">{_visible(text)}</span>'
        for text, value in shown(tokenizer, ids, bits)
    )
    scale = "".join(f'<span style="background:{colour(b)};color:{_ink(b)}">&nbsp;{b}&nbsp;</span>' for b in range(0, 11, 2))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>body{{font:16px/1.6 ui-monospace,monospace;max-width:60rem;margin:2rem auto;"
        "padding:0 1rem;background:#fff;color:#222;overflow-wrap:anywhere}p{white-space:pre-wrap}</style>"
        f"<h1>{html.escape(title)}</h1><div>surprise in bits: {scale}</div><p>{spans}</p></html>\n"
    )


def _ink(bits: float) -> str:
    return "#fff" if bits > 0.7 * LIMIT else "#222"


def _visible(text: str) -> str:
    return html.escape(text).replace("\n", "&#8629;\n")
