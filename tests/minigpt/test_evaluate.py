"""The figures of an evaluation against direct counting; every token once, from at least half a context."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.errors import MinigptError, UserError
from minigpt.evaluate import _scored, calibration_error, encode, evaluate
from minigpt.lossless import byte_tokenizer, char_tokenizer
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.sources import open_source
from minigpt.surprise import colour, page, shown


class Recorder:
    """Stands in for a model: remembers what it was given, and answers with the position of every token it saw last."""

    def __init__(self, block):
        self.config = GPTConfig(vocab_size=500, block_size=block, n_layer=1, n_head=1, n_embd=4)
        self.context = {}

    def __call__(self, ids):
        for row in np.asarray(ids):
            assert len(row) <= self.config.block_size
            for i, token in enumerate(row):
                self.context[int(token)] = max(i + 1, self.context.get(int(token), 0))
        return tg.tensor(np.eye(500)[np.asarray(ids)])


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("length", [2, 3, 7, 8, 9, 15, 16, 17, 100, 301])
def test_every_token_is_scored_once_and_from_half_a_context(block, length):
    model, ids = Recorder(block), np.arange(length)
    parts = list(_scored(model, ids))
    assert np.concatenate([targets for _, targets in parts]).tolist() == list(range(1, length))
    seen = np.concatenate([logits.argmax(axis=-1) for logits, _ in parts])
    assert seen.tolist() == list(range(length - 1))  # each from the token before it
    assert all(model.context[t] >= min(t + 1, block - block // 2) for t in range(length - 1))


def test_figures_equal_a_direct_count(tmp_path):
    tokenizer = char_tokenizer("abcdefgh é")
    model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=16), np.random.default_rng(0))
    text = "abc hé fed cab" * 5
    ids = tokenizer.encode(text)
    got = evaluate(model, tokenizer, ids)
    nats, top1, top5, entropy = [], 0, 0, 0.0
    for t in range(1, len(ids)):
        start = 0 if t <= 8 else min(-(-(t - 8) // 4) * 4, len(ids) - 9)
        with tg.no_grad():
            z = model(ids[None, start:t]).numpy()[0, -1].astype(np.float64)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        nats.append(-math.log(p[ids[t]]))
        order = np.argsort(-p)
        top1 += order[0] == ids[t]
        top5 += ids[t] in order[:5]
        entropy -= (p * np.log(p)).sum()
    n = len(ids) - 1
    assert got.nats_per_token == pytest.approx(np.mean(nats), abs=1e-6)
    assert (got.tokens, got.characters, got.utf8_bytes) == (n, n, n + 5)
    assert (got.top1, got.top5) == pytest.approx((top1 / n, top5 / n))
    assert got.entropy == pytest.approx(entropy / n, abs=1e-6)
    assert got.surprise == pytest.approx(np.array(nats) / math.log(2), abs=1e-5)
    assert got.perplexity == pytest.approx(math.exp(np.mean(nats)), rel=1e-6)
    assert got.bits_per_byte * (n + 5) == pytest.approx(got.bits_per_character * n) == pytest.approx(sum(nats) / math.log(2))


def test_calibration():
    confidence = np.full(1000, 0.75)
    assert calibration_error(confidence, np.arange(1000) < 750) == pytest.approx(0)
    assert calibration_error(confidence, np.arange(1000) < 500) == pytest.approx(0.25)
    both = np.concatenate([np.full(100, 0.05), np.full(300, 1.0)])
    assert calibration_error(both, np.concatenate([np.ones(100), np.zeros(300)])) == pytest.approx((95 + 300) / 400)


def test_a_model_of_nan_is_said():
    model = GPT(GPTConfig(vocab_size=3, block_size=4, n_layer=1, n_head=1, n_embd=4), np.random.default_rng(0))
    model.ln_f.bias.data = np.full(4, np.nan, np.float32)
    with pytest.raises(MinigptError, match="not numbers") as caught:
        evaluate(model, char_tokenizer("abc"), np.arange(9) % 3)
    assert caught.value.exit_code == 1


def test_texts_too_short_or_strange(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    with pytest.raises(UserError, match="has 1 tokens, and at least 2"):
        encode(open_source(str(file)), char_tokenizer("ab"))
    file.write_text("abz")
    with pytest.raises(UserError, match="'z' at position 2"):
        encode(open_source(str(file)), char_tokenizer("ab"))


def test_documents_are_joined_by_the_end_token_where_there_is_one(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "ab"}\n{"text": "b"}\n')
    assert encode(open_source(str(file)), char_tokenizer("ab")).tolist() == [0, 1, 1]
    assert encode(open_source(str(file)), char_tokenizer("ab", ["<|endoftext|>"])).tolist() == [0, 1, 2, 1]


def test_surprise_joins_the_bytes_of_a_character_and_escapes():
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("<é>")
    assert list(shown(tokenizer, ids, [1.0, 2.0, 3.0, 4.0])) == [("<", 1.0), ("é", 5.0), (">", 4.0)]
    assert list(shown(tokenizer, ids[:2], [1.0, 2.0])) == [("<", 1.0), ("\ufffd", 2.0)]
    assert list(shown(tokenizer, [0xFF, 65], [1.0, 2.0])) == [("\ufffd", 1.0), ("A", 2.0)]
    made = page(tokenizer, ids, [1.0, 2.0, 30.0, 4.0], "a <title>")
    assert "&lt;title&gt;" in made and 'title="32.00 bits">é' in made and "<script" not in made
    assert (colour(0), colour(99), colour(-1)) == ("#ffffff", "#d7301f", "#ffffff")
