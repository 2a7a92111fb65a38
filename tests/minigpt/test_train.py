"""A short run learns, logs, saves, repeats bit for bit, and stops at a number that is not finite."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from training_runs import no_pictures  # noqa: F401

import minigpt
from minigpt import checkpoint
from minigpt import train as training
from minigpt.config import TrainConfig
from minigpt.data import load_corpus
from minigpt.errors import TrainingError, UserError
from minigpt.generation.config import GenerationConfig
from minigpt.generation.text import generate_text
from minigpt.lossless import char_tokenizer
from minigpt.pretraining import model_config
from minigpt.trainer import Trainer

MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
FILES = {*MODEL, "loss.svg", "report.html", "run.json", "metrics.jsonl", "checkpoints"}


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
    """Case 171."""
    for name, settings in {"a": {}, "b": {"eval_interval": 3, "eval_batches": 5}, "c": {"seed": 2}}.items():
        training.train(small(text_file, tmp_path / name, dropout=0.1, **settings))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not np.array_equal(a["wte.weight"], c["wte.weight"])


def test_saving_and_sampling_more_changes_nothing(text_file, tmp_path, monkeypatch):
    """Case 171."""
    training.train(small(text_file, tmp_path / "a", dropout=0.1))
    update = Trainer.update

    def sampling(self, **how):
        self.model.eval()
        tokenizer = char_tokenizer("".join(map(chr, range(65, 65 + self.model.config.vocab_size))))
        settings = GenerationConfig(max_new_tokens=5)
        assert "".join(generate_text(self.model, tokenizer, "A", settings, np.random.default_rng(self.step)))
        return update(self, **how)

    monkeypatch.setattr(Trainer, "update", sampling)
    training.train(small(text_file, tmp_path / "b", dropout=0.1, save_interval=1))
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert max(float(np.abs(a[key] - b[key]).max()) for key in a) == 0.0 and all(np.array_equal(a[key], b[key]) for key in a)


def test_numpy_global_state_is_left_alone(text_file, tmp_path):
    """Case 170."""
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
    model = minigpt.GPT(model_config(config, corpus.tokenizer.vocab_size), np.random.default_rng(0))
    tokens, block = corpus.validation.astype(np.int64), config.block_size
    starts = range(0, len(tokens) - block, block)
    one_by_one = [model.loss(tokens[None, s : s + block], tokens[None, s + 1 : s + block + 1]).item() for s in starts]
    assert training.evaluate(model, corpus, config, 10**6) == pytest.approx(np.mean(one_by_one), rel=1e-6)
    some = training.evaluate(model, corpus, config, 1)
    chosen = np.arange(5) * len(one_by_one) // 5
    assert some == pytest.approx(np.mean([one_by_one[i] for i in chosen]), rel=1e-6)


@pytest.mark.parametrize("broken", ["loss", "gradient norm"])
def test_a_number_that_is_not_finite_stops_before_the_step(text_file, tmp_path, monkeypatch, broken):
    """Case 218."""
    config = small(text_file, tmp_path / "a", eval_interval=4)
    kept = {}
    real = Trainer._differentiate

    def differentiate(self, batches, **how):
        loss = real(self, batches, **how)
        if self.step == 7:
            kept.setdefault("model", self.model)
            kept.setdefault("weights", {k: v.copy() for k, v in self.model.state_dict().items()})
            if broken == "loss":
                return math.nan
            self.model.ln_f.bias.grad = self.model.ln_f.bias.grad * math.inf
        return loss

    monkeypatch.setattr(Trainer, "_differentiate", differentiate)
    with pytest.raises(TrainingError, match=f"the {broken} became (nan|inf) at step 7"):
        training.train(config)
    after = kept["model"].state_dict()
    assert all(np.array_equal(after[key], kept["weights"][key]) for key in after)
    assert set(os.listdir(tmp_path / "a")) == FILES - {"loss.svg", "report.html"}
    assert os.listdir(tmp_path / "a" / "checkpoints") == ["step-00000004"]
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "a").values())


def test_weights_that_overflow_are_never_saved(text_file, tmp_path, monkeypatch):
    """Case 206."""
    real = Trainer.update

    def update(self, **how):
        record = real(self, **how)
        if self.step == 6:
            self.model.ln_f.bias.data = np.full(16, np.inf, np.float32)
        return record

    monkeypatch.setattr(Trainer, "update", update)
    with pytest.raises(TrainingError, match=r"the weights of ln_f\.bias are no longer finite at step 6, so they are not saved"):
        training.train(small(text_file, tmp_path / "a", save_interval=3))
    assert os.listdir(tmp_path / "a" / "checkpoints") == ["step-00000003"]


def test_early_stopping(text_file, tmp_path, monkeypatch, capsys):
    losses = iter([3.0, 2.0, 2.5, 2.5, 2.5])
    monkeypatch.setattr(training, "evaluate", lambda *_: next(losses))
    result = training.train(small(text_file, tmp_path / "a", eval_interval=2, patience=2, max_steps=100, keep_last=1))
    assert [r["step"] for r in result.records] == [2, 4, 6, 8]
    out = capsys.readouterr().out
    assert "Stopped early: 2 evaluations without" in out and "The lowest validation loss, 2.0000, was at step 4" in out
    assert sorted(os.listdir(tmp_path / "a" / "checkpoints")) == ["step-00000004", "step-00000008"]


def test_every_kept_checkpoint_is_a_model(text_file, tmp_path):
    training.train(small(text_file, tmp_path / "a", eval_interval=4, save_interval=3, keep_last=3))
    kept = sorted(os.listdir(tmp_path / "a" / "checkpoints"))
    assert kept == ["step-00000008", "step-00000009", "step-00000012"]
    newest = tmp_path / "a" / "checkpoints" / kept[-1]
    assert all((newest / name).read_bytes() == (tmp_path / "a" / name).read_bytes() for name in MODEL)
    assert weights(newest).keys() == weights(tmp_path / "a").keys()


def test_a_new_run_never_replaces_a_model(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        training.train(small(text_file, TrainConfig().out, max_steps=1))
    assert {"minigpt-model", "minigpt-model-2", "minigpt-model-3"} == {p.name for p in tmp_path.iterdir()}
    assert "minigpt-model holds a model already, so this run goes to minigpt-model-3" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in Path("minigpt-model").rglob("*") if path.is_file()}
    training.train(small(text_file, "named", max_steps=1))
    with pytest.raises(UserError, match=r"named holds a model already; --resume named goes on .*, another --out leaves it"):
        training.train(small(text_file, "named", max_steps=1))
    assert before == {path: path.read_bytes() for path in Path("minigpt-model").rglob("*") if path.is_file()}


def test_the_log_of_a_run_that_saved_nothing_is_kept(text_file, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    training.train(small(text_file, tmp_path, max_steps=1))
    assert (tmp_path / "metrics.earlier.jsonl").read_text() == '{"step": 1}\n'


def test_an_unusable_text_or_folder_leaves_nothing(text_file, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(UserError, match="too short"):
        training.train(small(short, tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match="cannot write to the folder"):
        training.train(small(text_file, short))
