"""BERT and its heads: initialisation, both directions, and padding that changes neither numbers nor gradients."""

import math

import numpy as np
import pytest

from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier

SIZES = dict(vocab_size=23, block_size=12, n_layer=2, n_head=2, n_embd=16, labels=("a", "b", "c"))
SMALL = BERTConfig(**SIZES, dropout=0, attention_dropout=0)
MODELS = [BERT, MaskedLM, SequenceClassifier, TokenClassifier, AnswerExtractor]
HEADS = MODELS[1:]
LENGTHS = 9, 4, 7


def make(kind, config=SMALL, dtype="float64"):
    """A model whose biases and gains are random too, so that none of them goes unnoticed."""
    rng = np.random.default_rng(0)
    model = kind(config, rng, dtype)
    for p in model.parameters():
        p.data = p.data + rng.normal(0, 0.1, p.shape)
    return model


def texts(seed=1):
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 23, n), rng.integers(0, 2, n)) for n in LENGTHS]


def padded(rows, side, width=11, fill=5):
    """(B, width), the rows at the left (padding at the right), at the right, or with holes in them."""
    out = np.full((len(rows), width), fill)
    for line, row, places in zip(out, rows, where(side, width), strict=True):
        line[places] = row
    return out


def where(side, width=11):
    holes = np.random.default_rng(3)
    for n in LENGTHS:
        places = {"right": np.arange(n), "left": np.arange(width - n, width), "holes": np.sort(holes.permutation(width)[:n])}
        yield places[side]


def mask_of(side):
    return padded([np.ones(n, int) for n in LENGTHS], side, fill=0).astype(bool)


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 0), ("n_segments", -1), ("n_head", 3), ("n_inner", -1), ("dropout", 1.0), ("attention_dropout", math.nan),
     ("activation", "swish"), ("activation", None), ("pooler", "softmax"), ("norm_eps", 0.0), ("labels", ("a", "a"))],
)  # fmt: skip
def test_config_refuses_what_makes_no_model(field, value):
    with pytest.raises(ValueError, match=field):
        BERTConfig(**SIZES | {field: value})


@pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier])
def test_classifiers_need_labels(kind):
    with pytest.raises(ValueError, match="labels must not be empty"):
        kind(BERTConfig(vocab_size=23, n_layer=1, n_embd=12))


@pytest.mark.parametrize("kind", MODELS)
def test_initial_weights_are_berts(kind):
    config = BERTConfig(vocab_size=500, block_size=64, n_layer=2, n_head=4, n_embd=128, labels=tuple("ab"))
    for name, p in kind(config, np.random.default_rng(0)).named_parameters():
        if p.ndim == 2:
            assert p.data.std() == pytest.approx(0.02, rel=3 / p.size**0.5), name
            assert abs(p.data.mean()) < 4 * 0.02 / p.size**0.5, name
        else:
            assert (p.data == (0 if name.endswith("bias") else 1)).all(), name


def test_every_token_sees_every_other():
    model, ids = make(BERT), np.arange(12)[None]
    before = model(ids).data
    for place in (0, 11):
        changed = ids.copy()
        changed[0, place] = 20
        assert np.abs(model(changed).data - before).max(-1).min() > 1e-4


def test_segments_are_0_unless_given_and_tell_two_texts_apart():
    model, ids = make(BERT), np.arange(8)[None]
    zeros, second = np.zeros((1, 8), int), np.repeat([0, 1], 4)[None]
    np.testing.assert_array_equal(model(ids).data, model(ids, zeros).data)
    assert np.abs(model(ids, second).data - model(ids).data).max() > 1e-3


def test_a_model_without_segments_passes_them_over():
    model = make(BERT, BERTConfig(**SIZES, n_segments=0, dropout=0, attention_dropout=0))
    ids = np.arange(8)[None]
    np.testing.assert_array_equal(model(ids).data, model(ids, np.ones((1, 8), int)).data)
    assert not any("wse" in name for name, _ in model.named_parameters())


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(ValueError, match="13 tokens do not fit in the 12 positions"):
        make(BERT)(np.zeros((1, 13), int))


def test_without_a_pooler_nothing_is_pooled():
    config = BERTConfig(**SIZES, pooler=None)
    with pytest.raises(ValueError, match="no pooler"):
        BERT(config).pooled(BERT(config).eval()(np.zeros((1, 3), int)))
    with pytest.raises(ValueError, match="needs a pooler"):
        SequenceClassifier(config)


@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("kind", MODELS)
def test_padding_changes_nothing(kind, side):
    """Case 132: a batch with padding anywhere gives what each text gives by itself, whatever the padding holds."""
    model, rows = make(kind), texts()
    for fill in (0, 5):
        ids, segments = (
            padded(part, side, fill=fill % size) for part, size in zip(zip(*rows, strict=True), (23, 2), strict=True)
        )
        together = model(ids, segments, mask_of(side)).data
        for i, ((tokens, parts), places) in enumerate(zip(rows, where(side), strict=True)):
            alone = model(tokens[None], parts[None]).data[0]
            got = together[i] if kind is SequenceClassifier else together[i, places]
            np.testing.assert_allclose(got, alone, rtol=0, atol=1e-12)


def test_no_answer_is_in_the_padding():
    logits = make(AnswerExtractor)(padded([ids for ids, _ in texts()], "right"), mask=mask_of("right")).data
    assert (logits[~mask_of("right")] == -np.inf).all()
    assert np.isfinite(logits[mask_of("right")]).all()


def targets_of(kind, side):
    """Targets, those of padding being nonsense that must not count, and for each text by itself."""
    rng = np.random.default_rng(4)
    if kind is SequenceClassifier:
        labels = rng.integers(0, 3, 3)
        return labels, [labels[i : i + 1] for i in range(3)]
    if kind is AnswerExtractor:
        ends = [np.sort(rng.integers(0, n, 2)) for n in LENGTHS]
        return np.array([places[end] for end, places in zip(ends, where(side), strict=True)]), [end[None] for end in ends]
    each = [np.where(rng.random(n) < 0.5, rng.integers(0, 3, n), -100) for n in LENGTHS]
    return padded(each, side, fill=1), [row[None] for row in each]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", HEADS)
def test_padding_changes_neither_loss_nor_gradients(kind, side):
    """Case 138: both are those of the texts one by one, weighted by their targets."""
    model, rows = make(kind), texts()
    targets, each = targets_of(kind, side)
    counts = [np.count_nonzero(t != -100) for t in each]
    ids, segments = (padded(part, side, fill=1) for part in zip(*rows, strict=True))
    loss = model.loss(ids, targets, segments, mask_of(side))
    loss.backward()
    got = {name: p.grad.data.copy() for name, p in model.named_parameters()}
    model.zero_grad()
    alone = sum(model.loss(i[None], t, s[None]) * (n / sum(counts)) for (i, s), t, n in zip(rows, each, counts, strict=True))
    alone.backward()
    assert loss.item() == pytest.approx(alone.item(), abs=1e-12)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(got[name], p.grad.data, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier, AnswerExtractor])
def test_the_token_of_the_padding_gets_no_gradient(kind):
    model = make(kind)
    rows = [ids % 20 for ids, _ in texts()]
    model.loss(padded(rows, "right", fill=22), targets_of(kind, "right")[0], mask=mask_of("right")).backward()
    grad = model.bert.wte.weight.grad.data
    assert (grad[22] == 0).all()
    assert (grad[rows[0]] != 0).any(-1).all()
    assert (model.bert.wpe.weight.grad.data[max(LENGTHS) :] == 0).all()


def test_masked_loss_is_that_of_all_logits():
    model, rng = make(MaskedLM), np.random.default_rng(5)
    ids = rng.integers(0, 23, (2, 6))
    targets = np.full((2, 6), -100)
    targets[0, 2], targets[1, 4] = 3, 7
    logits = model(ids).data
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert model.loss(ids, targets).item() == pytest.approx(-(log_p[0, 2, 3] + log_p[1, 4, 7]) / 2, abs=1e-12)
    assert model.loss(ids, np.full((2, 6), -100)).item() == 0


def test_dropout_follows_the_generator_and_stops_in_eval():
    model, ids = make(BERT, BERTConfig(**SIZES)), np.arange(12)[None]
    same = [model(ids, rng=np.random.default_rng(1)).data for _ in range(2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(same[0] - model(ids, rng=np.random.default_rng(2)).data).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(model(ids).data, make(BERT)(ids).data)
