"""Masking against its closed forms: 15%, 80/10/10, never special tokens, whole words, anew each time."""

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.lossless import byte_tokenizer
from minigpt.objectives.masked import Masked
from minigpt.objectives.objective import IGNORED
from minigpt.vocabularies import Vocabulary, learn

TEXT = "the low lower lowest slowly blowing below the following " * 40
TOKENIZER = learn(Vocabulary("wordpiece", 48, "bert"), [TEXT], set(TEXT))
SPECIAL = list(TOKENIZER.specials.values())


def windows(rows=500, length=42, seed=0):
    """Tokens of all kinds, special ones among them."""
    return np.random.default_rng(seed).integers(0, TOKENIZER.vocab_size, (rows, length))


def within(count, n, p):
    """Whether a binomial count is within five standard deviations of its mean."""
    return abs(count - n * p) <= 5 * np.sqrt(n * p * (1 - p))


def test_the_window_stands_between_cls_and_sep():
    ids = windows()
    (inputs,), targets = Masked(TOKENIZER)(ids, ids, np.random.default_rng(1))
    assert (inputs[:, 0] == TOKENIZER.special("cls")).all() and (inputs[:, -1] == TOKENIZER.special("sep")).all()
    assert (targets[:, [0, -1]] == IGNORED).all()
    same = targets[:, 1:-1] == IGNORED
    assert (inputs[:, 1:-1][same] == ids[:, :-2][same]).all()
    assert (targets[:, 1:-1][~same] == ids[:, :-2][~same]).all()


def test_shares_are_those_of_the_paper():
    """15% of the tokens; of these 80% masked, 10% a uniformly random token, 10% themselves."""
    ids = windows()
    (inputs,), targets = Masked(TOKENIZER)(ids, ids, np.random.default_rng(2))
    inside, plain = inputs[:, 1:-1], ~np.isin(ids[:, :-2], SPECIAL)
    chosen = targets[:, 1:-1] != IGNORED
    n, words = int(chosen.sum()), TOKENIZER.vocab_size - len(SPECIAL)
    assert within(n, plain.sum(), 0.15)
    masked, kept = inside[chosen] == TOKENIZER.special("mask"), inside[chosen] == ids[:, :-2][chosen]
    assert within(masked.sum(), n, 0.8) and within(kept.sum(), n, 0.1 + 0.1 / words)
    replaced = inside[chosen][~masked & ~kept]
    assert within(len(replaced), n, 0.1 * (1 - 1 / words))
    counts = np.bincount(replaced, minlength=TOKENIZER.vocab_size)
    assert not counts[SPECIAL].any()
    expected = len(replaced) / words
    chi2 = ((np.delete(counts, SPECIAL) - expected) ** 2).sum() / expected
    assert abs(chi2 - (words - 1)) <= 5 * np.sqrt(2 * (words - 1))


def test_special_tokens_are_never_targets():
    ids = windows()
    _, targets = Masked(TOKENIZER)(ids, ids, np.random.default_rng(3))
    assert not np.isin(targets, SPECIAL).any()
    everything = np.full((4, 30), TOKENIZER.special("unk"))
    assert (Masked(TOKENIZER)(everything, everything, np.random.default_rng(3))[1] == IGNORED).all()


def test_masks_are_fresh_and_follow_the_stream():
    ids, made = windows(8), Masked(TOKENIZER)
    rng = np.random.default_rng(4)
    first, second = made(ids, ids, rng), made(ids, ids, rng)
    again = made(ids, ids, np.random.default_rng(4))
    assert not np.array_equal(first.targets, second.targets)
    assert np.array_equal(first.targets, again.targets) and np.array_equal(first.inputs[0], again.inputs[0])


def test_whole_words_are_targets_or_not():
    ids = np.tile(TOKENIZER.encode(TEXT), 40)[: 200 * 60].reshape(200, 60)
    pieces = np.array([word.startswith("##") for word in TOKENIZER.words])
    targets = Masked(TOKENIZER, whole_words=True)(ids, ids, np.random.default_rng(5)).targets
    hidden, goes_on = (targets != IGNORED)[:, 1:-1], pieces[ids[:, :-2]]
    assert goes_on.any()
    assert (hidden[:, 1:] == hidden[:, :-1])[goes_on[:, 1:]].all()
    words = ~goes_on
    assert within(hidden[words].sum(), words.sum(), 0.15)
    by_token = Masked(TOKENIZER)(ids, ids, np.random.default_rng(5)).targets[:, 1:-1] != IGNORED
    assert not (by_token[:, 1:] == by_token[:, :-1])[goes_on[:, 1:]].all()


def test_expected_targets():
    """All tokens but the special ones, in proportion: the expectation of what is drawn."""
    ids = windows(2000, 32)
    made = Masked(TOKENIZER)
    counts = made.target_counts(ids[:, :-2].ravel(), 32, TOKENIZER.vocab_size)
    targets = made(ids, ids, np.random.default_rng(6)).targets
    drawn = np.bincount(targets[targets != IGNORED], minlength=TOKENIZER.vocab_size)
    assert (np.abs(drawn - 0.15 * counts) <= 5 * np.sqrt(0.15 * counts)).all()


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(UserError, match="needs a mask token, and this one, of kind bytes, has none"):
        Masked(byte_tokenizer())
