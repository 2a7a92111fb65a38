"""Tiny models that know nothing yet, with tokenizers of whole words, and tables to learn from."""

import itertools
import json

import numpy as np
import pytest

from minigpt.exchange.pretrained import save_pretrained
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.t5 import T5, T5Config
from minigpt.vocabularies import Vocabulary, learn

NOUNS = ("film", "book", "song", "play", "tale", "show")
GOOD, BAD = ("good", "fine", "great", "nice"), ("bad", "poor", "awful", "dull")
REVIEWS = [(f"the {noun} was {word}", "up" if word in GOOD else "down") for noun, word in itertools.product(NOUNS, GOOD + BAD)]
WORDS = " ".join(["the was of", *NOUNS, *GOOD, *BAD])
LETTERS = WORDS + "user: assistant:\n"


def words(model):
    return learn(Vocabulary("words", 300, model), [WORDS] * 3, set(WORDS))


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("bert"), words("bert")
    config = BERTConfig(tokenizer.vocab_size, 16, 2, 2, 16, dropout=0, attention_dropout=0)
    save_pretrained(BERT(config, np.random.default_rng(0)), folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def gpt(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("gpt"), learn(Vocabulary("char", 0), [LETTERS], set(LETTERS), ends=True)
    save_pretrained(GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 2, 32), np.random.default_rng(0)), folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def t5(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("t5"), words("t5")
    config = T5Config(tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, dropout=0)
    save_pretrained(T5(config, np.random.default_rng(0)), folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A table for each task, by name."""
    folder = tmp_path_factory.mktemp("tables")
    context = "the {0} of the {1} was {2}"
    rows = {
        "classify": [{"text": text, "label": label} for text, label in REVIEWS],
        "lm": [{"text": text} for text, _ in REVIEWS],
        "tag": [
            {"text": text, "label": " ".join("N" if w in NOUNS else label if w in GOOD + BAD else "O" for w in text.split())}
            for text, label in REVIEWS
        ],
        "answer": [
            {"question": a, "context": context.format(a, b, c), "answer": c if c in GOOD else ""}
            for a, b, c in itertools.product(NOUNS[:3], NOUNS[3:], GOOD + BAD)
        ],
        "seq2seq": [{"source": text, "target": " ".join(reversed(text.split()))} for text, _ in REVIEWS],
        "chat": [
            {"messages": [{"role": "user", "content": noun}, {"role": "assistant", "content": f"the {noun} was {word}"}]}
            for noun, word in zip(NOUNS * 4, (GOOD + BAD[:2]) * 4, strict=True)
        ],
        "embed": [{"text": f"the {noun}", "pair": f"{noun} of {noun}"} for noun in NOUNS for _ in range(4)],
    }
    for name, values in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    return folder
