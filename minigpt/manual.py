"""The text that every Python carries: its language manual and the docstrings of its standard library."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from minigpt.errors import UserError

_PLAIN = str.maketrans({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'", 0x2013: "-", 0x2014: "-", 0x2026: "..."})
_DOCSTRING = re.compile(r"""(?:\A|:[ \t]*(?:#[^\n]*)?\n)(?:\s*#[^\n]*\n)*\s*[rR]?("{3}|'{3})(.*?)\1""", re.DOTALL)


class Manual:
    """The manual as a text to tokenize."""

    name = "Python's own manual"
    one_document = True

    @cached_property
    def digest(self) -> str:
        """Changes with the files' sizes and dates and the Python that reads them; much faster than reading them."""
        state = [(path.name, (info := path.stat()).st_size, info.st_mtime_ns) for path in _library()]
        return hashlib.sha256(repr((sys.version, str(_LIBRARY), state)).encode()).hexdigest()

    def pieces(self) -> Iterator[str | None]:
        yield embedded_text()


_LIBRARY = Path(sysconfig.get_path("stdlib"))


def _library() -> list[Path]:
    return sorted(_LIBRARY.glob("*.py"))


def embedded_text() -> str:
    """The language's manual and the docstrings of the standard library, in a fixed order, in ASCII."""
    pages = _topics()
    for path in _library():
        pages += _docstrings(path)
    text = "\n\n".join(dict.fromkeys(pages)).translate(_PLAIN).encode("ascii", "ignore").decode("ascii")
    if not text:
        raise UserError("this Python carries neither its manual nor the source of its library: give a text with --data")
    return text + "\n"


def _topics() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return []
    return [topics[name].strip() for name in sorted(topics)]


def _docstrings(path: Path) -> list[str]:
    """The texts in triple quotes that open a file or a block, as they are written: found twenty times faster than by parsing."""
    source = path.read_bytes().decode("utf-8", "ignore").replace("\r\n", "\n")
    return [text for _, body in _DOCSTRING.findall(source) if (text := inspect.cleandoc(body))]
