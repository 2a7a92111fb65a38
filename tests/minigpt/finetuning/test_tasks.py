"""What each task makes of a row, and its loss, against the same by hand."""

import dataclasses
import json

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.chat import DEFAULT
from minigpt.checkpoint import load
from minigpt.errors import UserError
from minigpt.examples import IGNORED, batch
from minigpt.exchange.pretrained import save_pretrained
from minigpt.finetuning.run import task_of
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.finetuning.table import read_table
from minigpt.lossless import char_tokenizer
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.vocabularies import Vocabulary, learn


def made(folder, tmp_path, task, *rows, **settings):
    """The task, the model that learns it, and the examples of some rows."""
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, tokenizer = load(folder)
    task = task_of(FinetuneConfig(data=str(path), task=task, **settings), model, tokenizer)
    examples = [example for row in task.read(read_table(path)) for example in row]
    return task, task.start(model, np.random.default_rng(0)).eval(), examples


def log_softmax(x):
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_classes_weigh_the_inverse_of_how_often_they_occur(bert, tmp_path):
    rows = [{"text": "the film", "label": "a"}] * 3 + [{"text": "the book was dull", "label": "b"}]
    task, model, examples = made(bert, tmp_path, "classify", *rows, class_weights=True)
    assert task.labels == ("a", "b") and task.weights == pytest.approx([4 / (3 * 2), 4 / (1 * 2)])
    together = batch(examples[1:])  # over all rows the weights sum to their number, which would hide a wrong mean
    log_p = log_softmax(model(together.ids, together.segments, together.mask).numpy())[range(3), together.targets]
    weights = task.weights[together.targets]
    assert task.loss(model, together, None).item() == pytest.approx(-(weights * log_p).sum() / weights.sum(), rel=1e-5)
    task.weights = None
    assert task.loss(model, together, None).item() == pytest.approx(-log_p.mean(), rel=1e-5)
    assert task.measure(model, examples[1:])["loss"] == pytest.approx(-log_p.mean(), rel=1e-5)


def test_pairs_are_two_segments(bert, tmp_path):
    _, _, (first, _) = made(
        bert,
        tmp_path,
        "classify",
        {"text": "the film", "b": "dull", "label": 1},
        {"text": "of", "b": "the", "label": 0},
        pair_column="b",
    )
    assert first.segments.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_word_of_several_tokens_is_tagged_at_its_first(gpt, bert, tmp_path):
    _, tokenizer = load(bert)
    rows = [{"text": "the fil film", "label": "A B C"}]
    _, _, (example,) = made(bert, tmp_path, "tag", *rows)
    assert [t for t in example.targets if t != IGNORED] == [0, 1, 2] and example.targets[0] == example.targets[-1] == IGNORED
    assert len(example.ids) == len(tokenizer.encode_pair("the fil film"))


def test_tags_weigh_too_and_padding_does_not(bert, tmp_path):
    rows = [{"text": "the film was dull", "label": "A A A B"}, {"text": "the", "label": "A"}]
    task, model, examples = made(bert, tmp_path, "tag", *rows, class_weights=True)
    together = batch(examples)
    log_p = log_softmax(model(together.ids, together.segments, together.mask).numpy())
    counted = [(i, j, t) for (i, j), t in np.ndenumerate(together.targets) if t != IGNORED]
    assert [t for _, _, t in counted] == [0, 0, 0, 1, 0] and task.weights == pytest.approx([5 / (4 * 2), 5 / 2])
    weights = [task.weights[t] for _, _, t in counted]
    expected = -sum(w * log_p[place] for w, place in zip(weights, counted, strict=True)) / sum(weights)
    assert task.loss(model, together, None).item() == pytest.approx(expected, rel=1e-5)


def test_a_text_is_predicted_from_its_first_token_to_its_end(gpt, tmp_path):
    task, model, (example,) = made(gpt, tmp_path, "lm", {"text": "the film"})
    _, tokenizer = load(gpt)
    ids = [*tokenizer.encode("the film"), tokenizer.end_of_text]
    assert example.ids.tolist() == ids[:-1] and example.targets.tolist() == ids[1:]
    log_p = log_softmax(model(np.array([ids[:-1]])).numpy()[0])[range(len(ids) - 1), ids[1:]]
    assert task.measure(model, [example])["loss"] == pytest.approx(-log_p.mean(), rel=1e-5)


def test_only_the_words_of_the_assistant_are_learned(gpt, tmp_path):
    turns = [("user", "the film"), ("assistant", "good"), ("user", "of"), ("assistant", "bad")]
    task, _, (example,) = made(gpt, tmp_path, "chat", {"messages": [{"role": r, "content": c} for r, c in turns]})
    _, tokenizer = load(gpt)
    end = tokenizer.end_of_text
    text = [tokenizer.encode(part) for part in ("user: the film\nassistant:", " good", "\nuser: of\nassistant:", " bad", "\n")]
    ids = [*text[0], *text[1], end, *text[2], *text[3], end, *text[4]]
    assert [*example.ids, ids[-1]] == ids
    learned = [None] * len(text[0]) + [*text[1], end, *text[4]] + [None] * (len(text[2]) - 1) + [*text[3], end, *text[4]]
    assert example.targets.tolist() == [IGNORED if token is None else token for token in learned[1:]]
    assert tokenizer.chat_template is None and task.tokenizer.chat_template == DEFAULT


def test_a_model_without_an_end_learns_one(tmp_path):
    tokenizer = char_tokenizer("user: assistant\n")
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 1, 2, 8), np.random.default_rng(0))
    save_pretrained(model, tmp_path / "base", tokenizer)
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "as is"}]}
    task, grown, (example,) = made(tmp_path / "base", tmp_path, "chat", row)
    end = tokenizer.vocab_size
    assert task.tokenizer.end_of_text == end == example.targets[-2] and grown.config.vocab_size == end + 1
    table = grown.wte.weight.numpy()
    assert (table[:-1] == model.wte.weight.numpy()).all() and table[-1] == pytest.approx(table[:-1].mean(axis=0))
    ids = example.ids[None, :5]
    assert (grown(ids).numpy()[..., :-1] == model.eval()(ids).numpy()).all()
    task, same, _ = made(tmp_path / "base", tmp_path, "chat", row, lora_rank=1)
    assert task.tokenizer.end_of_text is None and same.config.vocab_size == end


def test_dialogues_without_an_assistant(gpt, tmp_path):
    with pytest.raises(UserError, match="line 1 has no words of the assistant to learn"):
        made(gpt, tmp_path, "chat", {"messages": [{"role": "user", "content": "good"}]})


def test_padding_changes_no_loss(gpt, tmp_path):
    task, model, examples = made(gpt, tmp_path, "lm", {"text": "the film"}, {"text": "a"}, {"text": "the book was dull"})
    counts = [len(example.targets) for example in examples]
    single = [task.loss(model, batch([example]), None).item() for example in examples]
    assert task.loss(model, batch(examples), None).item() == pytest.approx(np.average(single, weights=counts), rel=1e-5)


def test_the_decoder_reads_what_stands_before(t5, tmp_path):
    task, model, (example,) = made(t5, tmp_path, "seq2seq", {"source": "the film", "target": "film the"})
    ends = model.config.end_token
    assert example.ids[-1] == example.targets[-1] == ends and list(example.ids).count(ends) == 1
    before = [[model.config.start_token, *example.targets[:-1]]]
    logits = model(example.ids[None], np.array(before)).numpy()[0]
    log_p = log_softmax(logits)[range(len(example.targets)), example.targets]
    assert task.loss(model, batch([example]), None).item() == pytest.approx(-log_p.mean(), rel=1e-5)


def test_texts_of_a_pair_rank_before_the_others(bert, tmp_path):
    rows = [{"text": "the film", "b": "dull"}, {"text": "the book", "b": "great"}, {"text": "of", "b": "dull"}]
    task, model, examples = made(bert, tmp_path, "embed", *rows, pair_column="b", batch_size=3)

    def vector(ids):
        mean = model(ids[None]).numpy()[0].astype(np.float64).mean(axis=0)
        return mean / np.linalg.norm(mean)

    a, b = (np.stack([vector(ids) for ids in column]) for column in zip(*((e.ids, e.targets) for e in examples), strict=True))
    scores = 20 * a @ b.T
    scores[0, 2] = scores[2, 0] = -np.inf  # the same text, so no negative
    expected = -np.mean(np.diag(log_softmax(scores)))
    assert task.loss(model, batch(examples), None).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("task", ["classify", "tag", "embed"])
def test_the_gradient_of_a_loss_is_its_derivative(task, bert, tmp_path):
    rows = [{"text": "the film", "label": "A B"}, {"text": "the book", "label": "A A"}]
    task, model, examples = made(bert, tmp_path, task, *rows, pair_column="text" if task == "embed" else None)
    model.astype("float64")
    together = batch(examples)
    task.loss(model, together, None).backward()
    named = dict(model.named_parameters())
    direction = {name: np.random.default_rng(1).normal(size=p.shape) for name, p in named.items()}
    slope = sum((p.grad.numpy() * direction[name]).sum() for name, p in named.items() if p.grad is not None)
    values = []
    for step in (1e-6, -1e-6):
        for name, p in named.items():
            p.data = p.data + step * direction[name]
        with tg.no_grad():
            values.append(task.loss(model, together, None).item())
        for name, p in named.items():
            p.data = p.data - step * direction[name]
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_a_label_that_is_not_known(bert, tmp_path):
    task, _, _ = made(bert, tmp_path, "classify", {"text": "a", "label": "x"}, {"text": "b", "label": "y"})
    (tmp_path / "other.jsonl").write_text('{"text": "a", "label": "z"}\n')
    with pytest.raises(UserError, match="line 1 has the class 'z', but only x, y are known"):
        task.read(read_table(tmp_path / "other.jsonl"))


@pytest.mark.parametrize("answer", [5, True, 1.5, 0, {}, [1]])
def test_an_answer_that_is_no_text(bert, tmp_path, answer):
    row = {"question": "film", "context": "the film was good", "answer": answer}
    with pytest.raises(UserError, match=r"line 1 has .* in column 'answer', not a text, a list of texts, or null for none"):
        made(bert, tmp_path, "answer", row)


@pytest.mark.parametrize("task", ["classify", "tag", "embed"])
def test_a_text_that_vanishes_among_its_tokens_is_refused(task, tmp_path):
    """A zero-width space is no white space, and no token either."""
    tokenizer = learn(Vocabulary("wordpiece", 60, "bert"), ["the film"], set("the film"))
    model = BERT(BERTConfig(tokenizer.vocab_size, 16, 1, 2, 16), np.random.default_rng(0))
    save_pretrained(model, tmp_path / "base", tokenizer)
    rows = [{"text": text, "label": label, "b": "film"} for text, label in (("film", "a"), ("\u200b", "b"))]
    with pytest.raises(UserError, match=r"line 2 has a text of which no token can be read: '\\u200b'"):
        made(tmp_path / "base", tmp_path, task, *rows, pair_column="b" if task == "embed" else None)


def test_what_is_cut_to_nothing_is_refused(bert, tmp_path):
    rows = [{"text": "the film", "label": "A B"}]
    with pytest.raises(UserError, match="line 1 has a text of which no token can be read: 'the film'"):
        made(bert, tmp_path, "tag", *rows, max_length=2, truncate=True)


def test_what_is_cut_keeps_its_ends(bert, t5, tmp_path):
    row = {"text": "the " * 30, "label": "a"}
    task, _, examples = made(bert, tmp_path, "classify", row, row | {"label": "b"}, truncate=True)
    _, tokenizer = load(bert)
    assert task.shortened == 2 and len(examples[0].ids) == 16
    assert (examples[0].ids[0], examples[0].ids[-1]) == (tokenizer.special("cls"), tokenizer.special("sep"))
    row = {"source": "the " * 30, "target": "film"}
    task, model, examples = made(t5, tmp_path, "seq2seq", row, truncate=True, max_length=8)
    assert task.shortened == 1 and len(examples[0].ids) == 8 and examples[0].ids[-1] == model.config.end_token
    assert dataclasses.is_dataclass(examples[0])
