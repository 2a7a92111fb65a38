"""Tokenizers learned from a text: WordPiece, Unigram and words here, the lossless kinds in minigpt.lossless; with the special
tokens of the shape of model they are for, and its template around a text.

The same text gives the same tokenizer, whatever the order in which the library's threads and hash tables go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from minigpt.errors import UserError
from minigpt.lossless import bpe_tokenizer, byte_tokenizer, char_tokenizer
from minigpt.subwords import Subwords
from minigpt.tokenizer import END_OF_TEXT, Tokenizer, short, utf8

LOSSLESS, LOSSY = ("char", "bytes", "bpe"), ("wordpiece", "unigram", "words")
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(99, -1, -1))  # the first has the highest id, as in T5
SPECIALS = {
    "gpt": (),
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "t5": ("<pad>", "</s>", "<unk>", *SENTINELS),
}
TEMPLATES = {"bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"), "t5": ("$A </s>", "$A </s> $B </s>")}
LARGEST_ALPHABET = 1000  # different characters that WordPiece and Unigram keep
_STEP = 1e-4  # by which the library's Unigram scores of characters that are no other piece go up


@dataclass(frozen=True)
class Vocabulary:
    """What is to be learned: a kind, the number of tokens (of bpe and the lossy kinds), for a model: gpt, bert or t5."""

    kind: str
    size: int
    model: str = "gpt"
    lowercase: bool = False


def learn(wanted: Vocabulary, texts: Iterable[str], alphabet: Collection[str], ends: bool = False) -> Tokenizer:
    """The tokenizer, learned from the texts, all of whose characters are in `alphabet`.

    With `ends`, a gpt's has a token that ends a document; a bert's is [SEP] and a t5's </s>. UserError if the texts or
    the size are too small for the kind.
    """
    specials = SPECIALS[wanted.model] + ((END_OF_TEXT,) if wanted.model == "gpt" and ends else ())
    if wanted.kind in LOSSLESS:
        tokenizer = _lossless(wanted, texts, alphabet, specials)
        _set_template(tokenizer.backend, wanted.model)
        return tokenizer
    if wanted.model == "gpt":
        specials = ("<unk>", *specials)
    makers: dict[str, Callable[..., Backend]] = {"wordpiece": _wordpiece, "unigram": _unigram, "words": _words}
    try:
        backend = makers[wanted.kind](wanted, (text for text in texts if utf8(text)), alphabet, specials)
    except (KeyboardInterrupt, MemoryError, UserError):
        raise
    except BaseException as error:  # the library raises bare Exception, and where it panics not even that
        raise UserError(f"no {wanted.kind} vocabulary of {wanted.size} tokens can be learned: {short(error)}") from None
    found = backend.get_vocab_size()
    if found > wanted.size:
        raise UserError(f"vocab_size {wanted.size} is too small: the text's characters and the special tokens are {found}")
    _set_template(backend, wanted.model)
    return Subwords(backend)


def _set_template(backend: Backend, model: str) -> None:
    """Let the tokenizer put around a text what the model expects there."""
    if model in TEMPLATES:
        single, pair = TEMPLATES[model]
        ids = [(word, token) for word, token in backend.get_vocab().items() if word in single.split()]
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _lossless(wanted: Vocabulary, texts: Iterable[str], alphabet: Collection[str], specials: Sequence[str]) -> Tokenizer:
    if wanted.kind == "char":
        return char_tokenizer(alphabet, specials)
    return byte_tokenizer(specials) if wanted.kind == "bytes" else bpe_tokenizer(texts, wanted.size, specials)


def _unknown(specials: Sequence[str]) -> str:
    return next(word for word in specials if word.lower() in ("[unk]", "<unk>"))


def _wordpiece(wanted: Vocabulary, texts: Iterable[str], alphabet: Collection[str], specials: Sequence[str]) -> Backend:
    """WordPiece (Schuster and Nakajima 2012) as in BERT: ## before what continues a word.

    The characters that continue a word are handed over as if they were special, in order: left to itself, the library
    numbers them by chance, and by these numbers it decides between pairs of equal counts.
    """
    backend = Backend(models.WordPiece(unk_token=_unknown(specials)))
    backend.normalizer = normalizers.BertNormalizer(lowercase=wanted.lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = sorted({c for c in backend.normalizer.normalize_str("".join(sorted(alphabet))) if not c.isspace()})
    trainer = trainers.WordPieceTrainer(
        vocab_size=wanted.size,
        min_frequency=2,
        limit_alphabet=LARGEST_ALPHABET,
        special_tokens=[*specials, *(f"##{c}" for c in letters[:LARGEST_ALPHABET])],
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    learned = Backend(models.WordPiece(backend.get_vocab(), unk_token=_unknown(specials)))
    learned.normalizer, learned.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    learned.decoder = decoders.WordPiece()
    learned.add_special_tokens(list(specials))
    return learned


def _unigram(wanted: Vocabulary, texts: Iterable[str], alphabet: Collection[str], specials: Sequence[str]) -> Backend:
    """Unigram (Kudo 2018) on text whose white space is single spaces, which begin a token as ▁."""
    lowercase = [normalizers.Lowercase()] if wanted.lowercase else []
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    backend = Backend(models.Unigram())
    backend.normalizer, backend.pre_tokenizer = (
        normalizers.Sequence([normalizers.NFKC(), *lowercase, spaces]),
        pre_tokenizers.Metaspace(),
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=wanted.size, special_tokens=list(specials), unk_token=_unknown(specials), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    vocab = [(piece, score) for piece, score in json.loads(backend.to_str())["model"]["vocab"]]
    pieces = [(word, 0.0) for word in specials] + _ordered(vocab[len(specials) :])
    learned = Backend(models.Unigram(pieces, unk_id=list(specials).index(_unknown(specials))))
    learned.normalizer, learned.pre_tokenizer, learned.decoder = backend.normalizer, backend.pre_tokenizer, decoders.Metaspace()
    learned.add_special_tokens(list(specials))
    return learned


def _ordered(vocab: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The pieces by score, without what is left to chance in it.

    That is the last digits, and which of the characters that are no other piece is how many steps above the lowest score:
    these all get the lowest.
    """
    lowest = min((score for piece, score in vocab if len(piece) == 1), default=0.0)

    def score_of(piece: str, score: float) -> float:
        steps = (score - lowest) / _STEP
        return lowest if len(piece) == 1 and abs(steps - round(steps)) < 1e-5 else score

    scored = [(piece, round(score_of(piece, score), 9)) for piece, score in vocab]
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def _words(wanted: Vocabulary, texts: Iterable[str], alphabet: Collection[str], specials: Sequence[str]) -> Backend:
    """The commonest words and signs, one token each; all others are unknown."""
    backend = Backend(models.WordLevel(unk_token=_unknown(specials)))
    if wanted.lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=wanted.size, special_tokens=list(specials), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend
