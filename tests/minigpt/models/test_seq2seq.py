"""T5 and BART against their papers: initialisation, padding, causality, the cache, gradients, and what is refused."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.models.bart import Bart, BartConfig
from minigpt.models.t5 import T5, T5Config

SHAPE = {"vocab_size": 19, "n_layer": 2, "n_decoder_layer": 3, "n_head": 2, "n_embd": 16, "n_inner": 24, "dropout": 0.0}
SMALL = {
    "t5": (T5, T5Config(**SHAPE, n_buckets=8, farthest=12, head_size=6)),
    "t5 1.1": (T5, T5Config(**SHAPE, feed_forward="gated_gelu", tied=False)),
    "bart": (Bart, BartConfig(**SHAPE, n_decoder_head=4)),
    "pre-norm": (Bart, BartConfig(**SHAPE, pre_norm=True, embedding_norm=False)),
    "sinusoidal": (Bart, BartConfig(**SHAPE, positions="sinusoidal", scale_embedding=True)),
    "after padding": (Bart, BartConfig(**SHAPE, positions="sinusoidal_after_padding", output_bias=False)),
}


@pytest.fixture(params=SMALL)
def model(request):
    return small(request.param)


def small(name, dtype="float64", **changed):
    make, config = SMALL[name]
    rng = np.random.default_rng(0)
    made = make(type(config)(**{**vars(config), **changed}), rng, dtype)
    for p in made.parameters():
        p.data = rng.normal(0, 0.4, p.shape).astype(dtype)
    return made


def batch(source=9, target=7, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(3, 19, (3, length)) for length in (source, target, target))


def test_padding_of_the_source_changes_nothing(model):
    """Neither what is predicted, nor the loss, nor any gradient; what stands there gets none (case 138)."""
    ids, decoder_ids, targets = batch()
    padded = np.concatenate([ids, np.full((3, 4), 18)], axis=1)
    ids, targets = np.where(ids == 18, 17, ids), np.where(targets == 18, 17, targets)
    decoder_ids, padded[:, :9] = np.where(decoder_ids == 18, 17, decoder_ids), ids
    mask = np.arange(13) < np.array([[9], [9], [9]])
    loss = model.loss(ids, decoder_ids, targets)
    gradients = gradients_of(model, loss)
    again = model.loss(padded, decoder_ids, targets, mask)
    assert again.item() == pytest.approx(loss.item(), rel=1e-13)
    for name, gradient in gradients_of(model, again).items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-9, atol=1e-13, err_msg=name)
    unmasked = model.loss(padded, decoder_ids, targets)
    assert abs(unmasked.item() - loss.item()) > 1e-6


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.data.copy() for name, p in model.named_parameters() if p.grad is not None}


def test_rows_of_unequal_length_are_what_they_are_alone(model):
    ids, decoder_ids, _ = batch()
    lengths = [9, 4, 1]
    together = model(ids, decoder_ids, np.arange(9) < np.array(lengths)[:, None]).data
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length], decoder_ids[row : row + 1]).data
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-10, atol=1e-12)


def test_later_tokens_change_no_earlier_logit_and_any_source_token_changes_all(model):
    ids, decoder_ids, _ = batch()
    before = model(ids, decoder_ids).data
    changed = decoder_ids.copy()
    changed[:, 4] = (changed[:, 4] + 1) % 19
    after = model(ids, changed).data
    np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-12)
    assert (np.abs(after - before)[:, 4:].max(axis=2) > 1e-6).all()
    for place in (0, 8):
        other = ids.copy()
        other[:, place] = (other[:, place] + 1) % 19
        assert (np.abs(model(other, decoder_ids).data - before).max(axis=2) > 1e-9).all()


def test_cached_logits_equal_the_full_forward(model):
    ids, decoder_ids, _ = batch()
    mask = np.arange(9) < np.array([[9], [4], [6]])
    model.eval()
    with tg.no_grad():
        memory = model.encode(ids, mask)
        full = model.decode(decoder_ids, memory, mask).data
        cache = model.new_cache(3, 7)
        parts = [model.decode(decoder_ids[:, :2], memory, mask, cache).data]
        nothing = tg.zeros(memory.shape, dtype="float64")  # the memory was looked at already
        parts += [model.decode(decoder_ids[:, i : i + 1], nothing, mask, cache).data for i in range(2, 7)]
    np.testing.assert_allclose(np.concatenate(parts, 1), full, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences(model):
    """Every parameter, along a random direction; a relative bias is the sum over all pairs of its bucket (case 135)."""
    ids, decoder_ids, targets = batch()
    targets[0, 5:] = -100
    mask = np.arange(9) < np.array([[9], [4], [6]])
    gradients = gradients_of(model, model.loss(ids, decoder_ids, targets, mask, label_smoothing=0.1))
    rng, step = np.random.default_rng(1), 1e-5
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        kept, direction = p.data.copy(), rng.normal(size=p.shape)
        losses = []
        for sign in (1, -1):
            p.data = kept + sign * step * direction
            losses.append(model.loss(ids, decoder_ids, targets, mask, label_smoothing=0.1).item())
        p.data = kept
        expected = (losses[0] - losses[1]) / (2 * step)
        assert (gradients[name] * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-9), name


def test_the_gradient_of_a_bucket_is_summed_over_its_pairs():
    """With a weight of zero for keys beyond reach, each of T queries adds its own share: compared with a table for each query."""
    model = small("t5")
    ids, decoder_ids, targets = batch()
    gradient = gradients_of(model, model.loss(ids, decoder_ids, targets))["decoder.distance.weight"]
    table = model.decoder.distance.weight
    total = np.zeros(table.shape)
    whole = type(model.decoder)._bias
    for query in range(7):  # the bias of one query at a time is made from a copy of the table
        copy = tg.tensor(table.data, requires_grad=True)

        def bias(self, start, length, query=query, copy=copy):
            plain = whole(self, start, length)
            if not self.is_decoder:
                return plain
            distances = np.maximum(np.arange(length)[:, None] - np.arange(length), 0)
            near = np.where(distances < 4, distances, np.minimum(4 + (np.log(np.maximum(distances, 1) / 4) / np.log(3) * 4), 7))
            rows = copy[near.astype(int)[query]]  # (S, H)
            own = tg.permute_dims(rows, (1, 0))[None, :, None]  # (1, H, 1, S)
            return tg.concat([plain[:, :, :query], own, plain[:, :, query + 1 :]], axis=2)

        type(model.decoder)._bias = bias
        try:
            gradients_of(model, model.loss(ids, decoder_ids, targets))
        finally:
            type(model.decoder)._bias = whole
        total += copy.grad.data
    np.testing.assert_allclose(gradient, total, rtol=1e-9, atol=1e-12)


def test_t5s_initial_weights_are_the_papers():
    config = T5Config(vocab_size=400, n_layer=4, n_head=8, n_embd=128, n_inner=512, head_size=32)
    weights = T5(config, np.random.default_rng(0)).state_dict()
    expected = {
        "wte": 1,
        "encoder.h.0.attn.q_proj": (128 * 32) ** -0.5,
        "decoder.h.1.cross.k_proj": 128**-0.5,
        "decoder.h.1.attn.out_proj": (8 * 32) ** -0.5,
        "encoder.h.2.mlp.up": 128**-0.5,
        "encoder.h.2.mlp.down": 512**-0.5,
    }
    for name, deviation in expected.items():
        assert weights[f"{name}.weight"].std() == pytest.approx(deviation, rel=0.03), name
    assert weights["decoder.distance.weight"].std() == pytest.approx(128**-0.5, rel=0.2)
    assert (weights["decoder.ln_f.weight"] == 1).all()


@pytest.mark.parametrize("name", SMALL)
def test_first_loss_is_about_that_of_a_uniform_guess(name):
    make, config = SMALL[name]
    ids, decoder_ids, targets = batch(20, 20)
    loss = make(config, np.random.default_rng(0)).loss(ids, decoder_ids, targets).item()
    assert math.log(19) - 0.5 < loss < math.log(19) + 1.0


def test_dropout_follows_the_generator_and_stops_in_eval():
    ids, decoder_ids, _ = batch()
    for name in SMALL:
        model = small(name, dropout=0.3)
        first, same, other = (model(ids, decoder_ids, rng=np.random.default_rng(seed)).data for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, same)
        assert np.abs(first - other).max() > 1e-3
        model.eval()
        np.testing.assert_allclose(model(ids, decoder_ids).data, small(name)(ids, decoder_ids).data)


def test_the_output_bias_is_not_learned():
    model = small("bart")
    assert not model.output_bias.requires_grad
    ids, decoder_ids, targets = batch()
    assert "output_bias" not in gradients_of(model, model.loss(ids, decoder_ids, targets))


def test_an_empty_source_is_refused(model):
    _, decoder_ids, _ = batch()
    with pytest.raises(ValueError, match="the source is empty"):
        model(np.zeros((3, 0), int), decoder_ids)
    with pytest.raises(ValueError, match="source 1 is empty"):
        model(np.ones((3, 2), int), decoder_ids, [[True, True], [False, False], [True, False]])
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 2\) does not fit a source of shape \(3, 2\)"):
        model(np.ones((3, 2), int), decoder_ids, np.ones((2, 2), bool))


def test_more_tokens_than_there_are_positions_are_refused():
    model = small("bart", block_size=8)
    with pytest.raises(ValueError, match="9 tokens do not fit in the 8 positions"):
        model(np.ones((1, 9), int), np.ones((1, 3), int))


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (T5Config, {"n_embd": 15}, "n_embd must be a multiple of n_head"),
        (T5Config, {"n_layer": 0}, "n_layer must be an integer >= 1"),
        (T5Config, {"n_buckets": 6}, "n_buckets must be a multiple of 4"),
        (T5Config, {"feed_forward": "gelu"}, "feed_forward must be one of relu, gated_gelu"),
        (T5Config, {"dropout": math.nan}, "dropout"),
        (BartConfig, {"n_decoder_head": 3}, "n_embd must be a multiple of n_decoder_head"),
        (BartConfig, {"positions": "rotary"}, "positions must be one of learned, sinusoidal"),
        (BartConfig, {"n_embd": 15, "n_head": 3, "positions": "sinusoidal"}, "n_embd must be even"),
        (BartConfig, {"activation": "sin"}, "activation must be one of"),
        (BartConfig, {"start_token": 99}, "start_token must be one of the .* tokens, got 99"),
        (T5Config, {"pad_token": -1}, "pad_token must be one of the .* tokens, got -1"),
        (BartConfig, {"attention_dropout": 1.0}, "attention_dropout"),
    ],
)
def test_config_refuses_what_makes_no_model(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**{"vocab_size": 19, "n_embd": 16, "n_head": 2, **fields})


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_blocks_computed_again_in_the_backward_pass_give_the_same_gradients(name):
    ids, decoder_ids, targets = batch()
    found = []
    for again in (False, True):
        model = small(name, dropout=0.2)
        for block in [*model.encoder.h, *model.decoder.h] if again else []:
            block.forward = tg.checkpoint(block.forward)
        found.append(gradients_of(model, model.loss(ids, decoder_ids, targets, rng=np.random.default_rng(0))))
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        np.testing.assert_allclose(found[1][key], gradient, rtol=1e-10, atol=1e-14, err_msg=key)


def test_a_model_is_a_tree_of_parameters(model):
    """Its gradient as a function of the whole model is the one of the backward pass."""
    ids, decoder_ids, targets = batch()
    gradients = gradients_of(model, model.loss(ids, decoder_ids, targets))
    functional = tg.grad(lambda m: m.loss(ids, decoder_ids, targets))(model)
    assert functional.keys() >= gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(functional[name].data, gradient, rtol=1e-10, atol=1e-14, err_msg=name)
