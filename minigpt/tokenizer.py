"""What every tokenizer offers, whatever its kind: text to token ids and back, by a tokenizer of the `tokenizers` library.

Lossless kinds (minigpt.lossless) give back exactly the text; the others (minigpt.subwords) may lower-case, normalise and
have a token for what they do not know. A text is never read as a control token unless `control` asks for that:
"<|endoftext|>" is thirteen characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError

END_OF_TEXT = "<|endoftext|>"
SPECIAL_NAMES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
FAMILIES: tuple[dict[str, str], ...] = (  # how special tokens are spelled, where tokenizer_config.json does not say
    {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"},
    {"pad": "<pad>", "unk": "<unk>", "eos": "</s>"},
    {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    {"unk": "<unk>", "bos": END_OF_TEXT, "eos": END_OF_TEXT},
    {"unk": "<unk>"},
    {"bos": END_OF_TEXT, "eos": END_OF_TEXT},
)


@dataclass(frozen=True)
class Encoded:
    """One text or two with their special tokens, as arrays of n tokens."""

    ids: np.ndarray  # (n,) int64
    segments: np.ndarray  # (n,) int64: BERT's token types
    offsets: np.ndarray  # (n, 2) int64: the characters [begin, end) of its text that a token stands for; special: [0, 0)
    texts: np.ndarray  # (n,) int64: 0 or 1, the text that a token comes from; -1 for a special token

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """`kind` names it; `pieces[i]` is the bytes that token i adds to a text; `chat_template` is Jinja, or None.

    `settings` is what tokenizer_config.json says.
    """

    kind: str
    pieces: list[bytes]

    def __init__(self, backend: Backend, settings: Mapping[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library; UserError if its ids are not 0 to n - 1."""
        self.backend = backend
        self.backend.encode_special_tokens = True
        self.backend.no_padding()
        self.backend.no_truncation()
        self._reader = self.backend  # what encodes
        self.settings = dict(settings or {})
        template = self.settings.get("chat_template")
        self.chat_template = template if isinstance(template, str) else None
        self.words = _words(backend)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    @cached_property
    def specials(self) -> dict[str, int]:
        """The ids of all control tokens by their spelling; no text contains one."""
        return {added.content: token for token, added in self.backend.get_added_tokens_decoder().items() if added.special}

    def special(self, name: str) -> int | None:
        """The id of the special token of a name in SPECIAL_NAMES, if there is one, and the settings do not deny it with null."""
        said = self.settings.get(f"{name}_token", "")
        if said is None:
            return None
        said = said.get("content") if isinstance(said, Mapping) else said
        if isinstance(said, str) and said in self._ids:
            return self._ids[said]
        family = next((family for family in FAMILIES if self.specials.keys() >= set(family.values())), {})
        return self.specials.get(family.get(name, ""))

    @property
    def end_of_text(self) -> int | None:
        """The control token that ends a text, if there is one: eos, else sep."""
        end = self.special("eos")
        return self.special("sep") if end is None else end

    @cached_property
    def sentinels(self) -> list[int]:
        """The ids of <extra_id_0>, <extra_id_1>, .. as far as they go (Raffel et al. 2020, section 3.1.4)."""
        found: list[int] = []
        while (word := f"<extra_id_{len(found)}>") in self.specials:
            found.append(self.specials[word])
        return found

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    def encode(self, text: str, control: bool = False) -> np.ndarray:
        """The ids of a text, int64 (n,), without special tokens around it; UserError on a lone surrogate.

        With `control`, control tokens that are spelled out in it are read as such.
        """
        utf8(text)
        with self._reading(control):
            found = self._reader.encode_batch_fast([text], add_special_tokens=False)[0]
        return np.array(found.ids, dtype=np.int64)

    def encode_pair(self, a: str, b: str | None = None, length: int | None = None, control: bool = False) -> Encoded:
        """One text or two in the tokenizer's template, as [CLS] a [SEP] b [SEP] is BERT's.

        With `length`, the longer text loses its last tokens until all fit; UserError if the special tokens alone do not.
        """
        for text in (a, b or ""):
            utf8(text)
        around = self.backend.num_special_tokens_to_add(b is not None)
        if length is not None and length < around:
            raise UserError(f"a length of {length} tokens has no room for the {around} special tokens around a text")
        with self._reading(control):
            if length is not None:
                self._reader.enable_truncation(length, strategy="longest_first")
            found = self._reader.encode(a, b)
        return Encoded(
            np.array(found.ids, dtype=np.int64),
            np.array(found.type_ids, dtype=np.int64),
            np.array(found.offsets, dtype=np.int64).reshape(-1, 2),
            np.array([-1 if text is None else text for text in found.sequence_ids], dtype=np.int64),
        )

    @contextmanager
    def _reading(self, control: bool) -> Iterator[None]:
        self._reader.encode_special_tokens = not control
        try:
            with guarded("encode the text"):
                yield
        finally:
            self._reader.encode_special_tokens = True
            self._reader.no_truncation()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; bytes that are no UTF-8 become U+FFFD; UserError on an id outside the vocabulary."""
        return b"".join(self.piece(int(token)) for token in ids).decode("utf-8", errors="replace")

    def piece(self, token: int) -> bytes:
        """The bytes that one token adds to a text."""
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token {token} is not in the vocabulary of {self.vocab_size} tokens")
        return self.pieces[token]


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """UserError for whatever the library raises: bare Exception, and where it panics not even that."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, UserError):
        raise
    except BaseException as error:
        raise UserError(f"the tokenizer cannot {what}: {short(error)}") from None


def utf8(text: str) -> bytes:
    """The UTF-8 encoding of a text; UserError on a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"the text has a lone surrogate, {text[error.start]!r}, at position {error.start}") from None


def short(value: object) -> str:
    """On one line of at most 200 characters."""
    line = " ".join(str(value).split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def _words(backend: Backend) -> list[str]:
    """The spelling of every token in the file, by id; UserError if ids are not 0 to n - 1."""
    by_id = {token: word for word, token in backend.get_vocab(with_added_tokens=True).items()}
    if not by_id or set(by_id) != set(range(len(by_id))):
        raise UserError(f"the ids of its {len(by_id)} tokens do not run from 0 to {len(by_id) - 1}")
    return [by_id[token] for token in range(len(by_id))]
