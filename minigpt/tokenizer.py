"""Text to token ids and back, by characters, bytes or byte-level BPE; kept as a `tokenizer.json` that the `tokenizers`
library and transformers read.

Whatever the kind, every token stands for a fixed string of bytes (`pieces`), so decoding is joining bytes, and
decode(encode(text)) == text exactly. No text is ever taken for a control token: "<|endoftext|>" is thirteen characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte: itself where printable, else the next from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


BYTE_LETTERS = _byte_letters()
_LETTER_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


class Tokenizer:
    """`kind` is "char", "bytes" or "bpe"; `pieces[i]` is the bytes that token i stands for."""

    def __init__(self, backend: Backend) -> None:
        """Wrap a tokenizer of the `tokenizers` library; UserError if it is of none of the three kinds."""
        self.backend = backend
        self.backend.encode_special_tokens = True
        self.backend.no_padding()
        self.backend.no_truncation()
        self.kind = _kind(json.loads(backend.to_str()))
        self.pieces = _pieces(backend, self.kind)
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

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def end_of_text(self) -> int | None:
        """The control token that ends a text, if the vocabulary has one; no text contains it."""
        added = self.backend.get_added_tokens_decoder()
        return next((token for token, word in added.items() if word.content == END_OF_TEXT and word.special), None)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int64 (n,); UserError on a lone surrogate or a character the tokenizer has not seen."""
        raw = _utf8(text)
        if self.kind == "char":
            return self._encode_characters(text)
        if self.kind == "bytes":
            return self._id_of_byte[np.frombuffer(raw, dtype=np.uint8)]
        return np.array(self.backend.encode_batch_fast([text], add_special_tokens=False)[0].ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; bytes that are no UTF-8 become U+FFFD; UserError on an id outside the vocabulary."""
        return b"".join(self.piece(int(token)) for token in ids).decode("utf-8", errors="replace")

    def piece(self, token: int) -> bytes:
        """The bytes that one token stands for."""
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token {token} is not in the vocabulary of {self.vocab_size} tokens")
        return self.pieces[token]

    def _encode_characters(self, text: str) -> np.ndarray:
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


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"the text has a lone surrogate, {text[error.start]!r}, at position {error.start}") from None


END_OF_TEXT = "<|endoftext|>"
LARGEST_FILE = 64 << 20  # bytes of a tokenizer.json


def char_tokenizer(characters: Iterable[str], ends: bool = False) -> Tokenizer:
    """One token for each different character, in code-point order; with `ends`, and one that ends a document."""
    alphabet = sorted(set(characters))
    _utf8("".join(alphabet))
    backend = Backend(models.WordLevel({character: i for i, character in enumerate(alphabet)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _finished(backend, ends)


def byte_tokenizer(ends: bool = False) -> Tokenizer:
    """256 tokens, token i being byte i of the UTF-8 encoding; with `ends`, and one that ends a document."""
    backend = Backend(models.BPE({letter: byte for byte, letter in enumerate(BYTE_LETTERS)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _finished(backend, ends)


def bpe_tokenizer(texts: Iterable[str], vocab_size: int, ends: bool = False) -> Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) on bytes, split into words as in GPT-2, learned from the texts.

    The vocabulary is smaller than asked where the texts have no more pairs that occur twice. With `ends`, its last token
    ends a document.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - ends,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    backend.train_from_iterator((text for text in texts if _utf8(text)), trainer)
    return _finished(backend, ends)


def _finished(backend: Backend, ends: bool) -> Tokenizer:
    if ends:
        backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json; UserError if it is missing, malformed or of a kind that is not known here."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{path} is more than {LARGEST_FILE >> 20} MiB, so it is no tokenizer file")
    try:
        text = content.decode("utf-8")
        _check_ids(json.loads(text))
        return Tokenizer(Backend.from_str(text))
    except (KeyboardInterrupt, MemoryError):
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except BaseException as error:  # the tokenizers library raises bare Exception, and where it panics not even that
        raise UserError(f"{path} is not a tokenizer file: {_short(error)}") from None


def _check_ids(description: Any) -> None:
    """UserError for a token id beyond the number of tokens; the library would count up to it."""
    model = description.get("model") if isinstance(description, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        added = description.get("added_tokens")
        count = len(vocab) + (len(added) if isinstance(added, list) else 0)
        for word, token in vocab.items():
            if type(token) is not int or not 0 <= token < count:
                where = f"token {_short(repr(word))} has id {_short(repr(token))}"
                raise UserError(f"the ids of its {count} tokens do not run from 0 to {count - 1}: {where}")


def _short(value: object) -> str:
    """On one line of at most 200 characters."""
    line = " ".join(str(value).split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def _kind(description: dict[str, Any]) -> str:
    model, splitter, decoder = description["model"], description["pre_tokenizer"], description["decoder"]
    parts = (model["type"], (splitter or {}).get("type"), (decoder or {}).get("type"))
    if description["normalizer"] is None:
        if parts == ("WordLevel", "Split", "Fuse") and splitter["pattern"] == {"Regex": r"[\s\S]"}:
            return "char"
        if parts == ("BPE", "ByteLevel", "ByteLevel") and not splitter["add_prefix_space"]:
            return "bpe" if model["merges"] or len(model["vocab"]) != 256 else "bytes"
    raise UserError(f"a tokenizer of {'/'.join(map(str, parts))} is neither characters, bytes nor byte-level BPE")


def _pieces(backend: Backend, kind: str) -> list[bytes]:
    """The bytes of every token, by id; UserError if ids are not 0 to n-1 or a token is not of its kind."""
    by_id = {token: word for word, token in backend.get_vocab(with_added_tokens=True).items()}
    if not by_id or set(by_id) != set(range(len(by_id))):
        raise UserError(f"the ids of its {len(by_id)} tokens do not run from 0 to {len(by_id) - 1}")
    added = backend.get_added_tokens_decoder()
    pieces = []
    for token in range(len(by_id)):
        word = by_id[token]
        if token in added or (kind == "char" and len(word) == 1):
            pieces.append(word.encode("utf-8"))
        elif kind != "char" and all(letter in _LETTER_BYTES for letter in word):
            pieces.append(bytes(_LETTER_BYTES[letter] for letter in word))
        else:
            raise UserError(f"token {token} is {_short(repr(word))}, which does not fit a tokenizer of kind {kind}")
    return pieces
