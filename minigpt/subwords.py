"""WordPiece, Unigram, words and sentencepiece-style BPE: tokens of a text that may first be lower-cased or normalised."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError
from minigpt.lossless import LETTER_BYTES
from minigpt.tokenizer import Tokenizer, guarded

KINDS = {"WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "words", "BPE": "bpe"}
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Subwords(Tokenizer):
    """`kind` is "wordpiece", "unigram", "words" or "bpe"; control tokens stand for no text."""

    def __init__(self, backend: Backend, settings: Mapping[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library."""
        super().__init__(backend, settings)
        description = json.loads(backend.to_str())
        self.kind = KINDS[description["model"]["type"]]
        spelled = _spelled(description)
        added = backend.get_added_tokens_decoder()
        self.pieces = [
            (b"" if added[token].special else word.encode()) if token in added else spelled(word)
            for token, word in enumerate(self.words)
        ]
        within = [word for word in self.specials if len(word) > 1 and self._reads_as_control(word)]
        if within:
            self._reader = _parting(backend, within)

    def _reads_as_control(self, word: str) -> bool:
        """Whether the model, which has control tokens among its pieces, takes plain text for one."""
        return any(token != self.special("unk") and self.words[token] == word for token in self.encode(word))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids as the file's decoder writes it, control tokens left out; UserError on an unknown id."""
        tokens = [int(token) for token in ids]
        for token in tokens:
            if not 0 <= token < self.vocab_size:
                raise UserError(f"token {token} is not in the vocabulary of {self.vocab_size} tokens")
        with guarded("decode the tokens"):
            return self.backend.decode(tokens, skip_special_tokens=True)


def _parting(backend: Backend, words: Iterable[str]) -> Backend:
    """The same tokenizer, which reads what looks like one of the words in two parts: up to its first character, and on."""
    reader = Backend.from_str(backend.to_str())
    reader.encode_special_tokens = True
    first = Regex("|".join(f"{re.escape(word[0])}(?={re.escape(word[1:])})" for word in words))
    before = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    reader.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.Split(first, "merged_with_previous")])
    return reader


def _spelled(description: Mapping[str, Any]) -> Callable[[str], bytes]:
    """How a token of the model becomes the bytes that it adds to a text."""
    model, decoder = description["model"], description["decoder"]
    steps = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder or {"type": None}]
    kinds = {step["type"]: step for step in steps}
    if "ByteLevel" in kinds:
        return lambda word: b"".join(bytes([LETTER_BYTES[c]]) if c in LETTER_BYTES else c.encode() for c in word)
    if "Metaspace" in kinds or "Replace" in kinds:
        space = kinds["Metaspace"]["replacement"] if "Metaspace" in kinds else kinds["Replace"]["pattern"].get("String", "▁")
        return lambda word: _byte(word) or word.replace(space, " ").encode()
    if "BPEDecoder" in kinds:
        return lambda word: word.replace(kinds["BPEDecoder"]["suffix"], " ").encode()
    prefix = model.get("continuing_subword_prefix")
    return lambda word: word[len(prefix) :].encode() if prefix and word.startswith(prefix) else b" " + word.encode()


def _byte(word: str) -> bytes | None:
    """The byte that a token of byte fallback stands for."""
    found = _BYTE.fullmatch(word)
    return bytes([int(found[1], 16)]) if found else None
