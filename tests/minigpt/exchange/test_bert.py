"""What folders of BERTs differ in, and losses and gradients of every head against transformers."""

import dataclasses
import json

import numpy as np
import pytest

from minigpt import tensorfile
from minigpt.errors import UserError
from minigpt.exchange.pretrained import from_pretrained, save_pretrained
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier

SMALL = BERTConfig(vocab_size=23, block_size=12, n_layer=2, n_head=2, n_embd=16, labels=("good", "bad", "so-so"))
IDS = np.arange(2, 14).reshape(2, 6)


def written(model, folder):
    """A folder of a model without a weight at its initial value, what config.json says, and its tensors."""
    for p in model.parameters():
        p.data = p.data + np.random.default_rng(1).normal(0, 0.3, p.shape).astype(p.dtype)
    save_pretrained(model.eval(), folder)
    return json.loads((folder / "config.json").read_text()), dict(tensorfile.read(folder / "model.safetensors"))


def rewrite(folder, config, tensors):
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(tensorfile.pack(tensors))


def same(folder, model):
    read = from_pretrained(folder)
    assert type(read) is type(model) and read.config == model.config
    np.testing.assert_array_equal(read(IDS).data, model(IDS).data)


@pytest.mark.parametrize("pooler", ["tanh", None])
def test_a_bert_with_and_without_a_pooler(pooler, tmp_path):
    model = BERT(dataclasses.replace(SMALL, pooler=pooler))
    _, tensors = written(model, tmp_path)
    assert ("pooler.dense.weight" in tensors) == (pooler is not None)
    same(tmp_path, model)


def test_half_a_pooler_is_a_fault(tmp_path):
    config, tensors = written(BERT(SMALL), tmp_path)
    del tensors["pooler.dense.bias"]
    rewrite(tmp_path, config, tensors)
    with pytest.raises(UserError, match=r"pooler\.dense\.bias is missing"):
        from_pretrained(tmp_path)


def test_the_first_files_of_bert_are_read(tmp_path):
    """Norms have gamma and beta; the pooler, the head for next sentences, stored positions and the tied output are there too."""
    model = MaskedLM(SMALL)
    config, tensors = written(model, tmp_path)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for name, value in tensors.items()}  # fmt: skip
    square, pair = np.ones((16, 16), np.float32), np.ones((2, 16), np.float32)
    old |= {"bert.pooler.dense.weight": square, "bert.pooler.dense.bias": square[0],
            "cls.seq_relationship.weight": pair, "cls.seq_relationship.bias": pair[:, 0],
            "bert.embeddings.position_ids": np.arange(12, dtype=np.int64)[None],
            "cls.predictions.decoder.weight": old["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": old["cls.predictions.bias"]}  # fmt: skip
    rewrite(tmp_path, config, old)
    same(tmp_path, model)
    rewrite(tmp_path, config, old | {"cls.predictions.decoder.bias": old["cls.predictions.bias"] + 1})
    with pytest.raises(UserError, match=r"cls\.predictions\.decoder\.bias differs from cls\.predictions\.bias"):
        from_pretrained(tmp_path)


def test_labels_are_written_by_number_and_by_name(tmp_path):
    model = SequenceClassifier(SMALL)
    config, tensors = written(model, tmp_path)
    assert config["id2label"] == {"0": "good", "1": "bad", "2": "so-so"}
    assert config["label2id"] == {"good": 0, "bad": 1, "so-so": 2}
    same(tmp_path, model)
    config["id2label"] = {"2": "so-so", "0": "good", "1": "bad"}
    rewrite(tmp_path, config, tensors)
    same(tmp_path, model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id2label": {"0": "good", "2": "bad"}}, "a name for each number from 0"),
        ({"id2label": {}}, r"config.json says id2label \{\}, but a model that classifies needs the name of a class"),
        ({"id2label": None}, "says id2label None, but a model that classifies"),
        ({"id2label": ["good", "bad"]}, "id2label must be an object"),
        ({"id2label": {"0": "good", "1": "bad"}}, r"classifier\.weight is float32 \(3, 16\), not float \(2, 16\)"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ({"is_decoder": True}, "is_decoder True, but only False"),
        ({"problem_type": "multi_label_classification"}, "but only None or 'single_label_classification' is supported"),
        ({"hidden_act": "mish"}, "hidden_act 'mish', but only"),
        ({"num_attention_heads": 3}, "n_embd must be a multiple of n_head"),
    ],
)
def test_what_is_not_supported_is_one_sentence(change, words, tmp_path):
    config, tensors = written(SequenceClassifier(SMALL), tmp_path)
    rewrite(tmp_path, config | change, tensors)
    with pytest.raises(UserError, match=words):
        from_pretrained(tmp_path)


def test_a_table_of_positions_that_is_too_short_for_roberta(tmp_path):
    config, tensors = written(BERT(SMALL), tmp_path)
    rewrite(
        tmp_path,
        config | {"model_type": "roberta", "architectures": ["RobertaModel"], "max_position_embeddings": 2, "pad_token_id": 1},
        tensors,
    )
    with pytest.raises(UserError, match="block_size must be an integer >= 1, got 0"):
        from_pretrained(tmp_path)


HEADS = {MaskedLM: "ForMaskedLM", SequenceClassifier: "ForSequenceClassification", TokenClassifier: "ForTokenClassification",
         AnswerExtractor: "ForQuestionAnswering"}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Roberta"])
@pytest.mark.parametrize("kind", HEADS)
def test_losses_and_gradients_are_those_of_transformers(kind, family, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    extra = {"DistilBert": {"n_segments": 0, "pooler": "relu"}, "Roberta": {}, "Bert": {}}[family]
    model = kind(dataclasses.replace(SMALL, dropout=0, attention_dropout=0, **extra), dtype="float64")
    model.model_type = family.lower()
    written(model, tmp_path / "m")
    peer = getattr(transformers, family + HEADS[kind]).from_pretrained(tmp_path / "m", dtype=torch.float64)
    rng, mask = np.random.default_rng(0), np.arange(6) < np.array([[6], [4]])
    targets = {
        MaskedLM: np.where((rng.random(IDS.shape) < 0.5) & mask, rng.integers(0, 23, IDS.shape), -100),
        SequenceClassifier: rng.integers(0, 3, 2),
        TokenClassifier: np.where(mask, rng.integers(0, 3, IDS.shape), -100),
        AnswerExtractor: np.array([[1, 3], [0, 2]]),
    }[kind]
    ids, mask = (IDS, mask) if kind is not AnswerExtractor else (IDS, None)  # theirs seeks answers in the padding too
    loss = model.loss(ids, targets, mask=mask)
    loss.backward()

    more = {} if mask is None else {"attention_mask": torch.from_numpy(mask.astype(int))}
    wanted = torch.from_numpy(targets)
    more |= (
        {"labels": wanted} if kind is not AnswerExtractor else {"start_positions": wanted[:, 0], "end_positions": wanted[:, 1]}
    )
    theirs = peer(torch.from_numpy(ids), **more).loss
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-9)
    for p in model.parameters():
        p.data = p.grad.data  # the gradients travel under the tensors' names
    save_pretrained(model, tmp_path / "gradients")
    ours = tensorfile.read(tmp_path / "gradients" / "model.safetensors")
    for name, p in peer.named_parameters():
        scale = max(np.abs(value).max() for value in ours.values())
        np.testing.assert_allclose(ours[name], p.grad.numpy(), rtol=0, atol=1e-12 * scale, err_msg=name)
