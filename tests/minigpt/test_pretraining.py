"""Training a bert and a t5 from scratch: they learn, go on exactly where they stopped, and are what their folder says."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import minigpt
from minigpt import train as training
from minigpt.config import TrainConfig
from minigpt.data import load_corpus
from minigpt.errors import UserError
from minigpt.heldout import baselines, evaluate, held_out
from minigpt.models.heads import MaskedLM
from minigpt.models.t5 import T5
from minigpt.objectives.objective import IGNORED
from minigpt.pretraining import blocks, model_of, objective_of, predicted
from minigpt.team import ALONE
from minigpt.trainer import Trainer

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "batch_size": 8, "eval_batches": 2, "vocab_size": 260}
MODELS = {"bert": MaskedLM, "t5": T5}


@pytest.fixture(params=MODELS)
def config(request, text_file):
    return TrainConfig(model=request.param, data=str(text_file), max_steps=20, dropout=0.1, **SIZES)


def trainer_for(config):
    corpus = load_corpus(config)
    return Trainer(config, corpus.train, corpus.tokenizer.vocab_size, ALONE, objective_of(config, corpus.tokenizer)), corpus


def weights_equal(a, b):
    return all(np.array_equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_a_run_from_beginning_to_end(config, tmp_path, capsys):
    out = tmp_path / "model"
    result = training.train(dataclasses.replace(config, out=str(out), eval_interval=60, max_steps=120, learning_rate=3e-3))
    assert result.losses["this model"] < 0.7 * np.log(260)
    assert config.model == "bert" or result.losses["this model"] < result.losses["unigram"]
    shown = capsys.readouterr().out
    assert "unigram" in shown and "bits per character" not in shown and "read: " in shown and "guessed: " in shown
    page = (out / "report.html").read_text()
    assert "wanted: " in page and "its a character" not in page
    model, tokenizer = minigpt.load(out)
    assert type(model) is MODELS[config.model] and weights_equal(model, result.model)
    assert tokenizer.kind == ("wordpiece" if config.model == "bert" else "unigram")
    objective = objective_of(config, tokenizer)
    again = evaluate(model, result.corpus, config, 20, objective=objective)
    assert again == result.losses["this model"]


@pytest.mark.slow
def test_what_is_hidden_is_learned_from_what_is_around_it(config):
    """A bert stays at the unigram baseline for some hundred steps, as transformers' does, then leaves it."""
    trainer, corpus = trainer_for(dataclasses.replace(config, n_embd=64, max_steps=1200, dropout=0.0))
    losses = [trainer.update()["loss"] for _ in range(1200)]
    unigram = baselines(corpus, config, 20, trainer.objective)["unigram"]
    assert np.mean(losses[-100:]) < 0.85 * unigram  # 0.79 and 0.5 where it was written


@pytest.mark.oracle
def test_a_bert_and_transformers_take_the_same_steps(text_file, tmp_path):
    """The same weights, batches, optimizer and schedule: the same losses."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = TrainConfig(model="bert", data=str(text_file), max_steps=25, weight_decay=0.0, **SIZES)
    ours, corpus = trainer_for(config)
    twin, _ = trainer_for(config)  # for its batches
    minigpt.save_pretrained(ours.model, tmp_path, corpus.tokenizer)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path).train()
    optimizer = torch.optim.AdamW(theirs.parameters(), betas=(config.beta1, config.beta2), weight_decay=0.0)
    for step in range(25):
        batch = twin.objective(*twin.batches.next(), twin.noise_rng)
        optimizer.param_groups[0]["lr"] = twin.schedule(step)
        loss = theirs(input_ids=torch.from_numpy(batch.inputs[0]), labels=torch.from_numpy(batch.targets)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), config.grad_clip)
        optimizer.step()
        assert ours.update()["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_resumed_is_uninterrupted(config):
    """Also what the objective leaves to chance."""
    whole, _ = trainer_for(config)
    first, _ = trainer_for(config)
    second, _ = trainer_for(config)
    losses = [whole.update()["loss"] for _ in range(6)]
    for _ in range(3):
        first.update()
    arrays, state = first.state()
    second.restore(first.model.state_dict(), arrays, json.loads(json.dumps(state)))
    assert [second.update()["loss"] for _ in range(3)] == losses[3:]
    assert weights_equal(whole.model, second.model)
    del state["noise"]
    with pytest.raises(UserError, match="malformed"):
        second.restore(first.model.state_dict(), arrays, state)


def test_a_step_hides_something_else_each_time(config):
    trainer, _ = trainer_for(config)
    ids, following = trainer.batches.next()
    first, second = (trainer.objective(ids, following, trainer.noise_rng) for _ in range(2))
    assert not np.array_equal(first.inputs[0], second.inputs[0])


def test_evaluation_is_the_mean_over_all_targets_and_always_the_same(config):
    """Without dropout, and without the smoothing that only learning has."""
    config = dataclasses.replace(config, label_smoothing=0.2)
    trainer, corpus = trainer_for(config)
    before = trainer.state()[1]
    loss = evaluate(trainer.model, corpus, config, 3, objective=trainer.objective)
    assert loss == evaluate(trainer.model, corpus, config, 3, objective=trainer.objective)
    after = trainer.state()[1]
    assert all(before[name] == after[name] for name in ("noise", "dropout", "batches"))
    losses = []
    for batch in held_out(corpus, config, 3, trainer.objective):
        logits = trainer.model(*batch.inputs).numpy().astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for row, position in np.argwhere(batch.targets != IGNORED):
            losses.append(-log_p[row, position, batch.targets[row, position]])
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_nothing_to_predict_among_what_is_held_out_is_one_sentence(tmp_path):
    """Not a loss of 0."""
    path = tmp_path / "short.txt"
    path.write_text("the cat sat on the mat and the dog sat too. " * 12)
    config = TrainConfig(model="bert", data=str(path), n_layer=1, n_head=1, n_embd=8, block_size=3, batch_size=2, vocab_size=300)
    trainer, corpus = trainer_for(config)
    with pytest.raises(UserError, match="none of the 15 tokens held out is a target: a longer text is needed"):
        evaluate(trainer.model, corpus, config, 10, objective=trainer.objective)


@pytest.mark.parametrize(("model", "block"), [("gpt", 1), ("bert", 3), ("t5", 2)])
def test_the_shortest_windows_can_be_learned(model, block, text_file):
    config = TrainConfig(model=model, data=str(text_file), **SIZES | {"block_size": block, "batch_size": 64})
    trainer, corpus = trainer_for(config)
    assert np.isfinite(trainer.update()["loss"])
    assert np.isfinite(evaluate(trainer.model, corpus, config, 2, objective=trainer.objective))


def test_logits_only_where_there_is_a_target(config):
    trainer, corpus = trainer_for(config)
    trainer.model.eval()
    batch = next(held_out(corpus, config, 1, trainer.objective))
    logits, targets = predicted(trainer.model, batch, slice(2, 6))
    whole = trainer.model(*(part[2:6] for part in batch.inputs)).numpy()
    wanted = batch.targets[2:6]
    assert (targets != IGNORED).all()
    assert np.allclose(logits.numpy().reshape(len(targets.ravel()), -1), whole[wanted != IGNORED], atol=1e-5)


def test_recomputed_blocks_give_the_same_gradients(config):
    losses = []
    for recomputed in (False, True):
        trainer, _ = trainer_for(dataclasses.replace(config, checkpoint_activations=recomputed))
        losses.append([trainer.update()["loss"] for _ in range(3)])
        assert len(blocks(trainer.model)) == (2 if config.model == "bert" else 4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # a t5's layers add up the gradient of what they share


def test_the_unigram_baseline_is_above_the_entropy_of_nothing(config):
    corpus = load_corpus(config)
    found = baselines(corpus, config, 2, objective_of(config, corpus.tokenizer))
    assert list(found) == ["unigram"] and 0 < found["unigram"] < np.log(corpus.tokenizer.vocab_size)


@pytest.mark.parametrize("kind", ["char", "bytes", "bpe", "wordpiece", "unigram", "words"])
@pytest.mark.parametrize("model", ["gpt", "bert", "t5"])
def test_every_model_learns_with_every_tokenizer(text_file, model, kind):
    config = TrainConfig(model=model, tokenizer=kind, data=str(text_file), **SIZES | {"vocab_size": 400})
    trainer, _ = trainer_for(config)
    first = trainer.update()["loss"]
    assert np.isfinite(first) and first == pytest.approx(np.log(trainer.model.config.vocab_size), rel=0.4)


def test_bad_settings_are_one_sentence(text_file):
    for settings, message in [
        ({"model": "bert", "bias": False}, "without biases .* gpt only"),
        ({"model": "t5", "whole_words": True}, "cannot be given for t5"),
        ({"lowercase": True}, "lowercase is for wordpiece, unigram and words: char gives back exactly the text"),
        ({"model": "t5", "block_size": 1}, "block_size must be at least 2 for t5, not 1"),
        ({"model": "bert", "block_size": 1}, "block_size must be at least 3 for bert, not 1"),
        ({"model": "bert", "block_size": 2}, "block_size must be at least 3 for bert, not 2"),
        ({"model": "bart"}, "model must be one of gpt, bert, t5, not 'bart'"),
    ]:
        with pytest.raises(UserError, match=message):
            TrainConfig(data=str(text_file), **settings)
    config = TrainConfig(model="bert", data=str(text_file), **SIZES)
    gpt = load_corpus(dataclasses.replace(config, model="gpt", tokenizer="char"))
    with pytest.raises(UserError, match="needs a mask token"):
        objective_of(config, gpt.tokenizer)
    masked = objective_of(config, load_corpus(config).tokenizer)
    with pytest.raises(UserError, match="n_head"):
        model_of(SimpleNamespace(**dataclasses.asdict(config) | {"n_head": 5}), 9, masked, np.random.default_rng(0))
