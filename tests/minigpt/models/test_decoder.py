"""Every kind of decoder: the cache, padding, what is seen, and generation on it; parity is tested in tests/minigpt/exchange."""

import math

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.decode import decode
from minigpt.models.decoder import Decoder, DecoderConfig
from minigpt.models.positions import alibi_slopes

PLAIN = {"norm": "layer", "gated": False, "attention_bias": True, "out_bias": True, "mlp_bias": True}
KINDS = {
    "llama": {"n_group": 2},
    "llama, wide heads": {"n_group": 1, "head_size": 6, "n_inner": 40, "tied": True},
    "gpt_neo": PLAIN | {"positions": "learned", "window": 3, "local": (False, True, False), "attention_scale": 1.0, "tied": True},
    "gptj": PLAIN | {"residual": "shared", "rotary_size": 2, "rotary_interleaved": True, "head_bias": True},
    "gpt_neox": PLAIN | {"residual": "parallel", "rotary_size": 2},
    "bloom": PLAIN | {"positions": "alibi", "embedding_norm": True, "tied": True},
    "opt": PLAIN | {"positions": "learned", "activation": "relu", "tied": True},
    "opt, post-norm": PLAIN
    | {"positions": "learned", "activation": "relu", "residual": "post", "final_norm": False, "tied": True, "embedding_size": 8},
}
VOCABULARY, BLOCK = 19, 16


def made(kind, dtype="float32", **more):
    """Weights large enough that what it writes varies."""
    sizes = {"vocab_size": VOCABULARY, "block_size": BLOCK, "n_layer": 3, "n_head": 4, "n_embd": 16}
    rng = np.random.default_rng(3)
    model = Decoder(DecoderConfig(**sizes | KINDS[kind] | more), rng, dtype)
    scales = {"wte.weight": 0.5, "wpe.weight": 1.0}
    model.load_state_dict({k: v + rng.normal(0, scales.get(k, 0.3), v.shape) for k, v in model.state_dict().items()})
    return model.eval()


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_cached_logits_equal_the_full_forward(kind):
    model, tokens = made(kind, "float64"), ids(3, BLOCK)
    cache = model.new_cache(batch=3)
    with tg.no_grad():
        parts = [model(tokens[:, :5], cache=cache).data]
        parts += [model(tokens[:, i : i + 1], cache=cache).data for i in range(5, BLOCK)]
    np.testing.assert_allclose(np.concatenate(parts, 1), model(tokens).data, atol=1e-12)


@every_kind
def test_left_padded_rows_are_as_by_themselves(kind):
    model, tokens, padding = made(kind, "float64"), ids(3, 9), np.array([4, 0, 1])
    cache = model.new_cache(3, padding=padding)
    with tg.no_grad():
        parts = [model(tokens[:, :6], cache=cache).data]
        parts += [model(tokens[:, i : i + 1], cache=cache).data for i in range(6, 9)]
    together = np.concatenate(parts, 1)
    for row, blank in enumerate(padding):
        np.testing.assert_allclose(together[row, blank:], model(tokens[row : row + 1, blank:]).data[0], atol=1e-12)


@every_kind
def test_later_tokens_change_no_earlier_logit(kind):
    model, tokens = made(kind), ids(2, 12)
    changed = tokens.copy()
    changed[:, 7] = (changed[:, 7] + 1) % VOCABULARY
    before, after = model(tokens).data, model(changed).data
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7:] - after[:, 7:]).max() > 1e-4


@every_kind
def test_gradients_equal_finite_differences(kind):
    """In a random direction of all weights; the step is small enough to cross no corner of a ReLU."""
    model, tokens, targets = made(kind, "float64"), ids(2, 7), ids(2, 7, seed=1)
    model.loss(tokens, targets).backward()
    rng = np.random.default_rng(0)
    start = model.state_dict()
    direction = {name: rng.normal(0, 1, p.shape) for name, p in model.named_parameters()}
    slope = sum(float((p.grad.data * direction[name]).sum()) for name, p in model.named_parameters())

    def along(step):
        model.load_state_dict({name: value + step * direction[name] for name, value in start.items()})
        return model.loss(tokens, targets).item()

    assert slope == pytest.approx((along(1e-6) - along(-1e-6)) / 2e-6, rel=1e-6)


def written(model, prompts, seeds=(0,), **settings):
    config = GenerationConfig(**{"max_new_tokens": 24, "temperature": 0, **settings})
    found = [[] for _ in prompts]
    for step in decode(Context(model, prompts, config.max_new_tokens), config, [np.random.default_rng(seed) for seed in seeds]):
        found[step.row].append(step.token)
    return found


@every_kind
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_generation_in_a_batch_is_that_of_single_prompts(kind, temperature):
    """Beyond the context, too, and with guesses, which are made for a single prompt only."""
    model = made(kind, "float64")
    prompts = [ids(n, seed=n).tolist() for n in (1, 5, 11, 16)]
    batch = written(model, prompts, range(4), temperature=temperature)
    for guessed in (0, 3):
        settings = {"temperature": temperature, "prompt_lookup_num_tokens": guessed}
        assert [written(model, [prompt], [i], **settings)[0] for i, prompt in enumerate(prompts)] == batch
    assert len({tuple(row) for row in batch}) > 2


@every_kind
def test_generation_equals_choosing_from_the_full_forward(kind):
    model, tokens = made(kind, "float64"), ids(4).tolist()
    expected = []
    for _ in range(BLOCK - 4):
        expected.append(int(model([tokens + expected]).data[0, -1].argmax()))
    assert written(model, [tokens], max_new_tokens=BLOCK - 4) == [expected]


@every_kind
def test_beams_know_how_likely_their_texts_are(kind):
    model, prompt = made(kind, "float64"), ids(4).tolist()
    config = GenerationConfig(max_new_tokens=6, temperature=0, num_beams=4)
    best = beam_search(Context(model, [prompt], 6), config)[0][0]
    logits = model([prompt + best.tokens]).data[0, 3:-1]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(best.log_probs, log_probs[np.arange(6), best.tokens], atol=1e-10)


def test_slopes_are_the_papers():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(alibi_slopes(6), [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])


def test_a_window_hides_what_is_far():
    model = made("gpt_neo", "float64", local=(True,) * 3)
    tokens = ids(1, BLOCK)
    changed = tokens.copy()
    changed[0, 2] = (changed[0, 2] + 1) % VOCABULARY
    far = np.abs(model(tokens).data - model(changed).data).max(-1)[0]
    reach = 2 + 3 * (3 - 1)  # each layer passes it on by two positions
    assert (far[2 : reach + 1] > 1e-9).all() and (far[reach + 1 :] == 0).all()


def test_first_loss_is_that_of_a_uniform_guess():
    for options in KINDS.values():
        model = Decoder(DecoderConfig(VOCABULARY, 8, 2, 4, 16, **options | {"local": ()}), np.random.default_rng(0))
        assert model.loss(ids(8, 8), ids(8, 8, seed=1)).item() == pytest.approx(math.log(VOCABULARY), abs=0.1)


def test_dropout_follows_the_generator():
    model = made("llama", dropout=0.2, attention_dropout=0.1).train()
    same = [model(ids(2, 9), rng=np.random.default_rng(1)).data for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert np.abs(same[0] - model(ids(2, 9), rng=np.random.default_rng(2)).data).max() > 1e-3


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="17 tokens do not fit in the context of 16"):
        made("llama")(ids(1, 17))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_layer", 0),
        ("n_head", 3),
        ("n_group", 3),
        ("n_inner", -1),
        ("rotary_size", 3),
        ("rotary_size", 6),
        ("rotary_base", math.nan),
        ("norm_eps", 0.0),
        ("norm", "batch"),
        ("residual", "none"),
        ("positions", "absolute"),
        ("activation", "softmax"),
        ("window", 0),
        ("local", (True,)),
        ("embedding_size", 0),
        ("rotary_fraction", 0.0),
        ("dropout", 1.0),
        ("attention_dropout", math.nan),
        ("attention_scale", -1.0),
    ],
)
def test_config_refuses_what_makes_no_model(field, value):
    sizes = {"vocab_size": 17, "block_size": 8, "n_layer": 2, "n_head": 4, "n_embd": 16}
    with pytest.raises(ValueError, match=field):
        DecoderConfig(**sizes | {field: value})
