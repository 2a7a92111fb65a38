"""A short run learns, logs, saves, repeats bit for bit, and stops at a number that is not finite."""

import json
import math
import os

import numpy as np
import pytest

import minigpt
from minigpt import checkpoint
from minigpt import train as training
from minigpt.config import TrainConfig
from minigpt.data import load_corpus
from minigpt.errors import TrainingError, UserError

FILES = {"config.json", "loss.svg", "metrics.jsonl", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def small(text_file, out, **settings):
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "eval_batches": 2}
    return TrainConfig(**{"data": str(text_file), "out": str(out), "max_steps": 12, **sizes, **settings})


def weights(folder):
    return checkpoint.load(folder)[0].state_dict()


def test_the_folder_holds_everything_and_nothing_else(trained):
    assert set(os.listdir(trained)) == FILES
    record = json.loads((trained / "config.json").read_text())["minigpt"]["train"]
    assert TrainConfig(**record).max_steps == 30


def test_metrics(trained):
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [10, 15, 20, 30]
    assert [r["val_loss"] is not None for r in records] == [False, True, False, True]
    assert set(records[0]) == {"step", "loss", "val_loss", "lr", "grad_norm", "tokens_per_second", "seconds"}
    assert records[-1]["val_loss"] < records[1]["val_loss"] < math.log(40)


def test_the_same_seed_gives_the_same_bits_and_evaluating_more_changes_nothing(text_file, tmp_path):
    for name, settings in {"a": {}, "b": {"eval_interval": 3, "eval_batches": 5}, "c": {"seed": 2}}.items():
        training.train(small(text_file, tmp_path / name, dropout=0.1, **settings))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not np.array_equal(a["wte.weight"], c["wte.weight"])


def test_numpy_global_state_is_left_alone(text_file, tmp_path):
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    training.train(small(text_file, tmp_path / "a", max_steps=2))
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_other_tokenizers(text_file, tmp_path, tokenizer):
    result = training.train(small(text_file, tmp_path / "a", tokenizer=tokenizer, vocab_size=300, bias=False))
    assert checkpoint.load(tmp_path / "a")[1].kind == tokenizer
    assert set(result.losses) == {"this model", "unigram", "bigram", "trigram"}


def test_evaluation_covers_every_window_once(text_file, tmp_path):
    config = small(text_file, tmp_path / "a", batch_size=5)
    corpus = load_corpus(config)
    model = minigpt.GPT(training._model_config(config, corpus), np.random.default_rng(0))
    tokens, block = corpus.validation.astype(np.int64), config.block_size
    starts = range(0, len(tokens) - block, block)
    one_by_one = [model.loss(tokens[None, s : s + block], tokens[None, s + 1 : s + block + 1]).item() for s in starts]
    assert training.evaluate(model, corpus, config, 10**6) == pytest.approx(np.mean(one_by_one), rel=1e-6)
    some = training.evaluate(model, corpus, config, 1)
    chosen = np.arange(5) * len(one_by_one) // 5
    assert some == pytest.approx(np.mean([one_by_one[i] for i in chosen]), rel=1e-6)


@pytest.mark.parametrize("broken", ["loss", "gradient norm"])
def test_a_number_that_is_not_finite_stops_before_the_step(text_file, tmp_path, monkeypatch, broken):
    config = small(text_file, tmp_path / "a", eval_interval=4)
    kept = {}
    real_loss, real_step = minigpt.GPT.loss, training.tg.optim.AdamW.clipped_step
    calls = {"steps": 0}

    def loss(self, ids, targets, rng=None):
        value = real_loss(self, ids, targets, rng=rng)
        if rng is not None:
            calls["steps"] += 1
            if calls["steps"] == 7:
                kept["model"], kept["weights"] = self, {k: v.copy() for k, v in self.state_dict().items()}
                return value * math.nan if broken == "loss" else value
        return value

    def clipped_step(optimizer, limit):
        if calls["steps"] == 7 and broken == "gradient norm":
            p = optimizer.parameters()[0]
            p.grad = p.grad * math.inf
        return real_step(optimizer, limit)

    monkeypatch.setattr(minigpt.GPT, "loss", loss)
    monkeypatch.setattr(training.tg.optim.AdamW, "clipped_step", clipped_step)
    with pytest.raises(TrainingError, match=f"the {broken} became (nan|inf) at step 7"):
        training.train(config)
    after = kept["model"].state_dict()
    assert all(np.array_equal(after[key], kept["weights"][key]) for key in after)
    assert set(os.listdir(tmp_path / "a")) == FILES - {"loss.svg"}
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "a").values())


def test_an_unusable_text_or_folder_leaves_nothing(text_file, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(UserError, match="too short"):
        training.train(small(short, tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match="cannot write to the folder"):
        training.train(small(text_file, short))
