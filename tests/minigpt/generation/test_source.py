"""What an encoder-decoder writes for sources: alone, in batches, cached, by beams; and token for token as transformers does."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.decode import decode
from minigpt.generation.source import SourceContext
from minigpt.models.bart import Bart, BartConfig
from minigpt.models.t5 import T5, T5Config

NEW, END = 15, 1
SIZES = {
    "vocab_size": 24,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "dropout": 0.0,
    "pad_token": 0,
    "start_token": 0,
    "end_token": END,
}


def varied(kind):
    """Weights large enough that what it writes varies; the token that is tied to itself does not win by that alone."""
    rng = np.random.default_rng(0)
    shape = (
        T5Config(**SIZES, n_buckets=8, farthest=20)
        if kind is T5
        else BartConfig(**SIZES, block_size=32, pre_norm=True, embedding_norm=False)
    )
    model = kind(shape, rng, "float64")
    for name, p in model.named_parameters():
        if p.ndim == 2:
            p.data = rng.normal(0, {"wte": 0.8 if kind is T5 else 0.6, "table": 1.5}.get(name.split(".")[-2], 0.6), p.shape)
        elif name == "output_bias":
            p.data = np.where(np.arange(24) == END, 4.0, 0.0)  # texts end now and then
    return model.eval()


@pytest.fixture(params=[T5, Bart], scope="module")
def model(request):
    return varied(request.param)


def sources(count=12):
    rng = np.random.default_rng(4)
    return [rng.integers(2, 24, length).tolist() for length in rng.integers(1, 13, count)]


def greedy(model, given, prompt=(0,), rngs=None, **settings):
    config = GenerationConfig(**{"max_new_tokens": NEW, "temperature": 0} | settings)
    found, over = [[] for _ in given], set()
    context = SourceContext(model, given, prompt, NEW)
    for step in decode(context, config, rngs or [None] * len(given), over=over):
        found[step.row].append(step.token)
        over |= {step.row} if step.token == END else set()
    return found


def test_greedy_is_the_likeliest_token_of_the_full_forward(model):
    for source, found in zip(sources(), greedy(model, sources()), strict=True):
        ids = [0]
        for token in found:
            with tg.no_grad():
                assert token == model(np.array([source]), np.array([ids])).data[0, -1].argmax()
            ids.append(token)
        assert len(found) == NEW or found[-1] == END


def test_a_batch_of_unequal_sources_equals_each_alone(model):
    alone = [greedy(model, [source])[0] for source in sources()]
    assert greedy(model, sources()) == alone
    assert len({tuple(tokens) for tokens in alone}) > 6 and len({len(tokens) for tokens in alone}) > 1
    drawn = [[np.random.default_rng(i) for i in range(12)] for _ in range(2)]
    together = greedy(model, sources(), rngs=drawn[0], temperature=1.0)
    assert together == [greedy(model, [s], rngs=[rng], temperature=1.0)[0] for s, rng in zip(sources(), drawn[1], strict=True)]


def test_guesses_change_no_token(model):
    for source in sources():
        assert greedy(model, [source], prompt_lookup_num_tokens=3) == greedy(model, [source])


def test_the_memory_is_looked_at_once(model, monkeypatch):
    """Its keys and values are made once for each layer, and copied only when other sources are left."""
    made, copied = [], []
    attention = type(model.decoder.h[0].cross)
    whole = attention.keys_values
    monkeypatch.setattr(attention, "keys_values", lambda self, source: made.append(self) or whole(self, source))
    crosses = [block.cross for block in model.decoder.h]
    layer = type(model.new_cache(1, 1)[0])
    select = layer.select_memory
    monkeypatch.setattr(layer, "select_memory", lambda self, rows: copied.append(len(rows)) or select(self, rows))
    config = GenerationConfig(max_new_tokens=8, temperature=0, num_beams=3)
    beam_search(SourceContext(model, sources(4), [0], 8), config)
    assert [sum(m is cross for m in made) for cross in crosses] == [1, 1]
    assert copied[:2] == [12, 12] and set(copied[2:]) <= {0, 3, 6, 9}


def test_positions_that_end_are_an_error_of_one_sentence():
    model = varied(Bart)
    with pytest.raises(ValueError, match="33 tokens do not fit in the 32 positions"):
        list(decode(SourceContext(model, [[3]], [0], 40), GenerationConfig(max_new_tokens=40, temperature=0), [None]))


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    """The same model in transformers."""
    transformers = pytest.importorskip("transformers")
    from minigpt.exchange.pretrained import save_pretrained

    folder = tmp_path_factory.mktemp("model")
    save_pretrained(model, folder)
    kind = {T5: "T5ForConditionalGeneration", Bart: "BlenderbotForConditionalGeneration"}[type(model)]
    torch = pytest.importorskip("torch")
    return getattr(transformers, kind).from_pretrained(folder, dtype=torch.float64).eval()


def their_tokens(theirs, source, **settings):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokens = {"eos_token_id": END, "pad_token_id": 0, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    config = transformers.GenerationConfig(max_new_tokens=NEW, do_sample=False, **tokens, **settings)
    ids = torch.tensor([source])
    with torch.no_grad():
        found = theirs.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    rows = [row[1:] for row in found.tolist()]
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


@pytest.mark.oracle
def test_greedy_equals_transformers(model, theirs):
    assert greedy(model, sources(30)) == [their_tokens(theirs, source)[0] for source in sources(30)]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("beams", "length_penalty", "early_stopping", "returned"),
    [(2, 1.0, "no", 1), (4, 1.0, "no", 4), (4, 0.0, "yes", 2), (3, 2.0, "never", 3)],
)
def test_beam_search_equals_transformers(model, theirs, beams, length_penalty, early_stopping, returned):
    """Ours all sources at once, theirs each alone."""
    shared = {"num_beams": beams, "length_penalty": length_penalty, "num_return_sequences": returned}
    config = GenerationConfig(max_new_tokens=NEW, temperature=0, early_stopping=early_stopping, **shared)
    found = beam_search(SourceContext(model, sources(20), [0], NEW), config, ends=lambda tokens: tokens[-1] == END)
    stopping = {"no": False, "yes": True, "never": "never"}[early_stopping]
    for source, hypotheses in zip(sources(20), found, strict=True):
        expected = their_tokens(theirs, source, early_stopping=stopping, **shared)
        assert [hypothesis.tokens for hypothesis in hypotheses] == expected


@pytest.mark.oracle
def test_processors_see_what_theirs_see(model, theirs):
    from minigpt.generation.processors import min_new_tokens, no_repeat_ngram, repetition_penalty

    def process(scores, ids, start):
        scores = no_repeat_ngram(repetition_penalty(scores, ids, start, 1.4), ids, start, 2)
        return min_new_tokens(scores, ids, start, 6, END)

    config = GenerationConfig(max_new_tokens=NEW, temperature=0, num_beams=3)
    found = beam_search(SourceContext(model, sources(), [0], NEW), config, [process], lambda tokens: tokens[-1] == END)
    for source, hypotheses in zip(sources(), found, strict=True):
        settings = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 6, "num_beams": 3}
        assert hypotheses[0].tokens == their_tokens(theirs, source, **settings)[0]
