"""Classes of texts against the model on each text alone, and what cannot be classified."""

import dataclasses

import numpy as np
import pytest
from wordpiece import word_tokenizer

from minigpt.classifying import classify
from minigpt.errors import UserError
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import SequenceClassifier

CONFIG = BERTConfig(10, block_size=12, n_layer=2, n_head=2, n_embd=16, labels=("up", "down", "so-so"))
TEXTS = ["a b", ("a", "c d"), "e d c b a", "c"]
TOKENIZER = word_tokenizer("abcde")


def model(config=CONFIG):
    made = SequenceClassifier(config, np.random.default_rng(0), "float64").eval()
    for p in made.parameters():
        p.data = p.data + np.random.default_rng(1).normal(0, 0.5, p.shape)
    return made


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_class_is_what_the_model_says_of_the_text_alone(batch_size):
    bert = model()
    for text, found in zip(TEXTS, classify(bert, TOKENIZER, TEXTS, batch_size=batch_size), strict=True):
        a, b = (text, None) if isinstance(text, str) else text
        tokens = TOKENIZER.encode_pair(a, b)
        e = np.exp(bert(tokens.ids[None], tokens.segments[None]).data[0])
        expected = dict(zip(CONFIG.labels, e / e.sum(), strict=True))
        assert found.label == max(expected, key=expected.get) == next(iter(found.probabilities))
        assert found.probabilities == pytest.approx(expected, rel=1e-9)


def test_what_cannot_be_classified_is_one_sentence():
    for made, texts, message in [
        (BERT(CONFIG), ["a"], "a BERT classifies nothing"),
        (model(dataclasses.replace(CONFIG, labels=("score",))), ["a"], "one class only, 'score'"),
        (model(), ["a", " "], "text 2 is empty"),
        (model(), ["a " * 11], "text 1 has 13 tokens, but the model reads 12 at most"),
    ]:
        with pytest.raises(UserError, match=message):
            classify(made, TOKENIZER, texts)
