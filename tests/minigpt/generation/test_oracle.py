"""transformers on PyTorch, with the same weights: the same tokens for 50 prompts, greedy and by beam search."""

import numpy as np
import pytest

from minigpt import checkpoint
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.generation.decode import decode
from minigpt.lossless import byte_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

END = 10
NEW = 24


@pytest.fixture(scope="module")
def pair(tmp_path_factory, varied_models):
    """Our model and theirs, read from the folder that ours was saved in; it uses activation gelu."""
    folder = tmp_path_factory.mktemp("pair")
    ours = varied_models(vocab_size=24, block_size=48, n_embd=32)
    checkpoint.save(folder, ours, byte_tokenizer())
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    assert theirs.config.activation_function == "gelu"
    return ours, theirs


def prompts():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 24, length).tolist() for length in rng.integers(1, 25, 50)]


def their_tokens(theirs, prompt, **settings):
    """The new tokens of each sequence, up to and with the end token."""
    config = transformers.GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=END, pad_token_id=END, **settings)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        found = theirs.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [_until_end(row[len(prompt) :]) for row in found.tolist()]


def _until_end(tokens):
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens


def our_greedy(ours, prompt, processors=()):
    tokens, over = [], set()
    config = GenerationConfig(max_new_tokens=NEW, temperature=0)
    for step in decode(Context(ours, [prompt], NEW), config, [None], processors, over):
        tokens.append(step.token)
        over |= {0} if step.token == END else set()
    return tokens


def test_greedy(pair):
    ours, theirs = pair
    found = [our_greedy(ours, prompt) for prompt in prompts()]
    assert found == [their_tokens(theirs, prompt)[0] for prompt in prompts()]
    assert len({len(tokens) for tokens in found}) > 3 and len({tokens[0] for tokens in found}) > 5


def test_greedy_with_penalties(pair):
    from minigpt.generation.processors import min_new_tokens, no_repeat_ngram, repetition_penalty, sequence_bias

    ours, theirs = pair
    settings = {
        "sequence_bias": [[[3], 2.0], [[7, 8], -4.0]],
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[5], [6, 9]],
        "min_new_tokens": 6,
    }

    def ours_of(scores, ids, start):
        scores = sequence_bias(scores, ids, start, [((3,), 2.0), ((7, 8), -4.0)])
        scores = no_repeat_ngram(repetition_penalty(scores, ids, start, 1.3), ids, start, 2)
        scores = sequence_bias(scores, ids, start, [((5,), -np.inf), ((6, 9), -np.inf)])
        return min_new_tokens(scores, ids, start, 6, END)

    for prompt in prompts():
        assert our_greedy(ours, prompt, [ours_of]) == their_tokens(theirs, prompt, **settings)[0]


@pytest.mark.parametrize(
    ("beams", "length_penalty", "early_stopping", "returned"),
    [(2, 1.0, "no", 1), (4, 1.0, "no", 4), (4, 0.0, "yes", 2), (3, 2.0, "never", 3), (5, -1.0, "no", 1)],
)
def test_beam_search(pair, beams, length_penalty, early_stopping, returned):
    ours, theirs = pair
    config = GenerationConfig(
        max_new_tokens=NEW,
        temperature=0,
        num_beams=beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return_sequences=returned,
    )
    lengths = set()
    for prompt in prompts():
        found = beam_search(Context(ours, [prompt], NEW), config, ends=lambda tokens: tokens[-1] == END)[0]
        expected = their_tokens(
            theirs,
            prompt,
            num_beams=beams,
            length_penalty=length_penalty,
            early_stopping={"no": False, "yes": True, "never": "never"}[early_stopping],
            num_return_sequences=returned,
        )
        assert [hypothesis.tokens for hypothesis in found] == expected
        lengths |= {len(tokens) for tokens in expected}
    assert len(lengths) > 1


def test_beam_search_with_processors(pair):
    from minigpt.generation.processors import no_repeat_ngram

    ours, theirs = pair
    config = GenerationConfig(max_new_tokens=NEW, temperature=0, num_beams=3)
    for prompt in prompts():
        process = [lambda scores, ids, start: no_repeat_ngram(scores, ids, start, 2)]
        found = beam_search(Context(ours, [prompt], NEW), config, process, lambda tokens: tokens[-1] == END)
        assert found[0][0].tokens == their_tokens(theirs, prompt, num_beams=3, no_repeat_ngram_size=2)[0]
