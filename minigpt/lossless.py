"""Characters, bytes and byte-level BPE: every token stands for fixed bytes, and decode(encode(text)) == text exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError
from minigpt.tokenizer import END_OF_TEXT, Encoded, Tokenizer, short, utf8


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte: itself where printable, else the next from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


BYTE_LETTERS = _byte_letters()
LETTER_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


class Lossless(Tokenizer):
    """`kind` is "char", "bytes" or "bpe"; control tokens stand for no text, but for <|endoftext|>, which shows."""

    def __init__(self, backend: Backend, settings: Mapping[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library; UserError if it is of none of the three kinds."""
        super().__init__(backend, settings)
        kind = kind_of(json.loads(backend.to_str()))
        if kind is None:
            raise UserError("it is neither characters, bytes nor byte-level BPE")
        self.kind = kind
        self.pieces = _pieces(backend, kind, self.words)
        added = backend.get_added_tokens_decoder()
        plain = np.array([i for i in range(len(self.pieces)) if i not in added], dtype=np.int64)
        if self.kind == "char":
            if not plain.size:
                raise UserError("it has no characters")
            codes = np.array([ord(self.pieces[i].decode("utf-8")) for i in plain], dtype=np.uint32)
            self._order = plain[np.argsort(codes)]
            self._codes = np.sort(codes)
            return
        id_of = {self.pieces[i]: i for i in plain}
        missing = [byte for byte in range(256) if bytes([byte]) not in id_of]
        if missing:
            raise UserError(f"it has no token for byte {missing[0]:#04x}")
        self._id_of_byte = np.array([id_of[bytes([byte])] for byte in range(256)])

    def encode(self, text: str, control: bool = False) -> np.ndarray:
        """As Tokenizer.encode; UserError on a character the tokenizer has not seen, too."""
        if not control and self.kind == "char":
            return self._encode_characters(text)
        if not control and self.kind == "bytes":
            return self._id_of_byte[np.frombuffer(utf8(text), dtype=np.uint8)]
        self._known(text)
        return super().encode(text, control)

    def encode_pair(self, a: str, b: str | None = None, length: int | None = None, control: bool = False) -> Encoded:
        """As Tokenizer.encode_pair; UserError on a character the tokenizer has not seen, too."""
        for text in (a, b or ""):
            self._known(text)
        return super().encode_pair(a, b, length, control)

    def _known(self, text: str) -> None:
        """UserError for an unknown character; in control tokens there is none."""
        if self.kind == "char":
            for word in self.specials:
                text = text.replace(word, "")
            self._encode_characters(text)

    def _encode_characters(self, text: str) -> np.ndarray:
        utf8(text)
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        found = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        unknown = np.flatnonzero(self._codes[found] != codes)
        if unknown.size:
            at = int(unknown[0])
            raise UserError(
                f"the character {text[at]!r} at position {at} is not among the {len(self._codes)} characters "
                "of the text that this model was trained on"
            )
        return self._order[found]


def char_tokenizer(characters: Iterable[str], specials: Sequence[str] = ()) -> Lossless:
    """One token for each different character, in code-point order; then the special tokens."""
    alphabet = sorted(set(characters))
    utf8("".join(alphabet))
    backend = Backend(models.WordLevel({character: i for i, character in enumerate(alphabet)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _finished(backend, specials)


def byte_tokenizer(specials: Sequence[str] = ()) -> Lossless:
    """256 tokens, token i being byte i of the UTF-8 encoding; then the special tokens."""
    backend = Backend(models.BPE({letter: byte for byte, letter in enumerate(BYTE_LETTERS)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _finished(backend, specials)


def bpe_tokenizer(texts: Iterable[str], vocab_size: int, specials: Sequence[str] = ()) -> Lossless:
    """Byte-pair encoding (Sennrich et al. 2016) on bytes, split into words as in GPT-2, learned from the texts.

    The vocabulary is smaller than asked where the texts have no more pairs that occur twice. Its last tokens are
    the special ones.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    backend.train_from_iterator((text for text in texts if utf8(text)), trainer)
    return _finished(backend, specials)


def _finished(backend: Backend, specials: Sequence[str]) -> Lossless:
    if specials:
        backend.add_special_tokens(list(specials))
    return Lossless(backend)


def kind_of(description: Mapping[str, Any]) -> str | None:
    """The lossless kind that a tokenizer.json describes, or None."""
    model, splitter, decoder = description["model"], description["pre_tokenizer"], description["decoder"]
    parts = (model["type"], (decoder or {}).get("type"))
    if description["normalizer"] is not None:
        return None
    if parts == ("WordLevel", "Fuse") and (splitter or {}).get("pattern") == {"Regex": r"[\s\S]"}:
        return "char"
    if parts == ("BPE", "ByteLevel") and _splits_bytes(splitter) and model["vocab"].keys() >= {*BYTE_LETTERS}:
        return "bpe" if model["merges"] or len(model["vocab"]) != 256 else "bytes"
    return None


def _splits_bytes(splitter: Mapping[str, Any] | None) -> bool:
    """Whether a pre-tokenizer leaves nothing out of a text and puts nothing in, and ends with bytes as letters."""
    steps = splitter["pretokenizers"] if splitter and splitter["type"] == "Sequence" else [splitter or {"type": None}]
    *before, last = steps or [{"type": None}]
    keeps = all(step["type"] == "Digits" or (step["type"] == "Split" and step["behavior"] != "Removed") for step in before)
    return keeps and last["type"] == "ByteLevel" and not last["add_prefix_space"]


def _pieces(backend: Backend, kind: str, words: list[str]) -> list[bytes]:
    """The bytes of every token, by id; UserError if a token is not of its kind."""
    added = backend.get_added_tokens_decoder()
    pieces = []
    for token, word in enumerate(words):
        if token in added and added[token].special and word != END_OF_TEXT:
            pieces.append(b"")
        elif token in added or (kind == "char" and len(word) == 1):
            pieces.append(word.encode("utf-8"))
        elif kind != "char" and all(letter in LETTER_BYTES for letter in word):
            pieces.append(bytes(LETTER_BYTES[letter] for letter in word))
        else:
            raise UserError(f"token {token} is {short(repr(word))}, which does not fit a tokenizer of kind {kind}")
    return pieces
