"""Span corruption against its closed forms, and put together again."""

import itertools
from collections import Counter

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.objectives.objective import IGNORED, unigram_loss
from minigpt.objectives.spans import Spans, sizes
from minigpt.vocabularies import Vocabulary, learn

TEXT = "the low lower lowest slowly blowing below the following " * 40
TOKENIZER = learn(Vocabulary("unigram", 150, "t5"), [TEXT], set(TEXT))
SENTINELS, END = TOKENIZER.sentinels, TOKENIZER.special("eos")


def windows(rows, length, seed=0):
    return np.random.default_rng(seed).integers(103, TOKENIZER.vocab_size, (rows, length))


def restored(read, written):
    """The window: the spans put where their sentinels stand."""
    spans, current = {}, None
    for token in written:
        if token in SENTINELS:
            current = spans.setdefault(token, [])
        elif token != END:
            current.append(token)
    return [t for token in read if token != END for t in spans.get(token, [token])]


@pytest.mark.parametrize("length", [2, 3, 7, 20, 64, 100, 513])
def test_nothing_is_lost(length):
    ids = windows(20, length)
    (read, before), written = Spans(TOKENIZER, length)(ids, ids, np.random.default_rng(1))
    noise, spans = sizes(length)
    assert read.shape == (20, length - noise + spans + 1) and written.shape == before.shape == (20, noise + spans + 2)
    for row in range(20):
        assert restored(read[row].tolist(), written[row].tolist()) == ids[row].tolist()
        found = [token for token in read[row] if token in SENTINELS]
        assert found == SENTINELS[:spans] and [t for t in written[row] if t in SENTINELS] == SENTINELS[: spans + 1]
    assert (read[:, -1] == END).all() and (written[:, -2:] == [SENTINELS[spans], END]).all()
    assert (before[:, 0] == TOKENIZER.special("pad")).all() and np.array_equal(before[:, 1:], written[:, :-1])
    assert not (written == IGNORED).any()


def test_fifteen_percent_in_spans_of_three():
    for length in (64, 100, 512):
        noise, spans = sizes(length)
        assert abs(noise / length - 0.15) < 0.5 / length + 1e-9 and abs(noise / spans - 3) < 0.35


def test_all_ways_to_cut_are_equally_likely():
    """20 tokens: 3 of them in one span, after 1 to 17 others; 40: 6 in two spans, 5 x 33 ways, by chi-squared."""
    rng = np.random.default_rng(2)
    for length, ways in ((20, 1), (40, 5 * 33)):
        ids = np.arange(1000, 1000 + length)[None].repeat(8000, axis=0)
        (read, _), written = Spans(TOKENIZER, length)(ids, ids, rng)
        seen = Counter(tuple(row) for row in np.concatenate([read, written], axis=1).tolist())
        assert len(seen) == ways
        if ways > 1:
            chi2 = sum((count - 8000 / ways) ** 2 for count in seen.values()) * ways / 8000
            assert abs(chi2 - (ways - 1)) <= 5 * np.sqrt(2 * (ways - 1))


def test_the_same_stream_gives_the_same():
    ids, made, rng = windows(4, 64), Spans(TOKENIZER, 64), np.random.default_rng(3)
    first, second = made(ids, ids, rng), made(ids, ids, rng)
    again = made(ids, ids, np.random.default_rng(3))
    assert not np.array_equal(first.targets, second.targets)
    assert all(np.array_equal(a, b) for a, b in zip([*first.inputs, first.targets], [*again.inputs, again.targets], strict=True))


def test_expected_targets_and_the_unigram_baseline():
    """In spans of random tokens; what is drawn has the frequencies that are expected, and the entropy of these is the loss."""
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(TOKENIZER.vocab_size - 103))
    text = rng.choice(np.arange(103, TOKENIZER.vocab_size), 64 * 4000, p=p)
    made = Spans(TOKENIZER, 64)
    counts = made.target_counts(text, 64, TOKENIZER.vocab_size)
    ids = text.reshape(-1, 64)
    targets = made(ids, ids, rng).targets
    drawn = np.bincount(targets.ravel(), minlength=TOKENIZER.vocab_size)
    assert counts.sum() == pytest.approx(targets.size)
    assert (np.abs(drawn - counts) <= 5 * np.sqrt(counts) + 1e-9).all()
    q = counts[counts > 0] / counts.sum()
    assert unigram_loss(counts, targets) == pytest.approx(-(q * np.log(q)).sum(), rel=5e-3)


def test_the_baseline_is_its_formula():
    counts, targets = np.array([3.0, 1.0, 0.0, 0.0]), np.array([[0, 1], [2, IGNORED]])
    expected = -np.mean(np.log([(3 + 0.5) / 6, (1 + 0.5) / 6, 0.5 / 6]))
    assert unigram_loss(counts, targets) == pytest.approx(expected, rel=1e-12)


def test_too_few_sentinels_are_one_sentence():
    with pytest.raises(UserError, match="to restore the 150 spans of 3000 tokens a tokenizer needs </s> and 151 sentinels"):
        Spans(TOKENIZER, 3000)
    bert = learn(Vocabulary("wordpiece", 60, "bert"), [TEXT], set(TEXT))
    with pytest.raises(UserError, match="needs </s> and 4 sentinels, and this one, of kind wordpiece, has 0"):
        Spans(bert, 64)


def test_every_composition_is_drawn():
    from minigpt.objectives.spans import _parts

    rng = np.random.default_rng(5)
    seen = {tuple(_parts(6, 3, rng)) for _ in range(500)}
    assert seen == {c for c in itertools.product(range(1, 5), repeat=3) if sum(c) == 6}
