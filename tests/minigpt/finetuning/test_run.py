"""Every task is learned from a small table, the same way each time, and what is saved is an ordinary model."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from minigpt import tensorfile
from minigpt.chat import DEFAULT, render
from minigpt.checkpoint import load, load_writer
from minigpt.errors import UserError
from minigpt.exchange.pretrained import save_pretrained
from minigpt.finetuning import adapter
from minigpt.finetuning.lora import adapted
from minigpt.finetuning.run import finetune, said
from minigpt.finetuning.settings import FinetuneConfig
from minigpt.generation.config import GenerationConfig
from minigpt.generation.text import generate_text
from minigpt.models.heads import SequenceClassifier


def learned(base, tables, tmp_path, task, name="out", **settings):
    data, out = str(tables / f"{task}.jsonl"), str(tmp_path / name)
    defaults = {"batch_size": 8, "learning_rate": 5e-3, "epochs": 8, "held_out": 0.25}
    config = FinetuneConfig(task=task, data=data, out=out, **defaults | settings)
    return finetune(base, config, Console(file=io.StringIO()))


def test_classes(bert, tables, tmp_path, command):
    found = learned(bert, tables, tmp_path, "classify", test=str(tables / "classify.jsonl"))
    assert found["held_out"]["accuracy"] == found["test"]["accuracy"] == found["test"]["macro_f1"] == 1
    out = tmp_path / "out"
    files = {p.name for p in out.iterdir()}
    assert files >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "metrics.jsonl",
        "results.json",
        "curves.svg",
        "confusion.svg",
    }
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "down", "1": "up"}
    assert json.loads((out / "results.json").read_text())["held_out"] == found["held_out"]
    code, text, _ = command("classify", out, "the book was nice", "the tale was awful")
    assert code == 0 and [line.split("\t")[0] for line in text.splitlines()] == ["up", "down"]
    code, text, _ = command("classify", out, "the book was nice", "--json")
    record = json.loads(text)
    assert record["label"] == "up" and sum(record["probabilities"].values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_bits(bert, tables, tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        learned(bert, tables, tmp_path, "classify", name, epochs=1, seed=seed)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_tags(bert, tables, tmp_path, command):
    found = learned(bert, tables, tmp_path, "tag")
    assert found["held_out"]["accuracy"] == 1
    code, text, _ = command("tag", tmp_path / "out", "the  book was dull")
    assert code == 0 and text == "the/O book/N was/O dull/down\n"
    assert json.loads(command("tag", tmp_path / "out", "the book", "--json")[1])["tags"] == ["O", "N"]


def test_answers(bert, tables, tmp_path, command):
    found = learned(bert, tables, tmp_path, "answer", epochs=20, learning_rate=1e-2)
    assert found["held_out"]["exact_match"] == found["held_out"]["f1"] == 1
    context = ["--context", "the song of the tale was fine"]
    assert command("answer", tmp_path / "out", "song", *context)[1].startswith("fine\t")
    record = json.loads(command("answer", tmp_path / "out", "song", *context, "--json")[1])
    assert (record["answer"], record["begin"], record["end"]) == ("fine", 25, 29)
    assert (
        command("answer", tmp_path / "out", "song", "--context", "the song of the tale was dull")[1]
        == "(the text has no answer)\n"
    )


def test_answers_from_a_folder(bert, tables, tmp_path, command):
    learned(bert, tables, tmp_path, "answer", epochs=20, learning_rate=1e-2)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("nothing here\n\nthe song of the tale was fine")
    (folder / "b.txt").write_text("the book of the show was poor")
    model = tmp_path / "out"
    _, text, _ = command("answer", model, "song", "--knowledge", folder)
    assert text.startswith("fine\t") and "\n* a.txt:3 (bm25 " in text
    assert command("answer", model, "zebra", "--knowledge", folder)[1] == "(nothing in these texts is about that question)\n"
    _, text, _ = command("answer", model, "show", "--knowledge", folder, "--embedder", bert)
    assert "b.txt:1 (bm25 " in text and "cosine" in text
    assert command("answer", model, "show", "--knowledge", folder)[1].startswith(
        "(none of these passages has an answer)\n  b.txt:1"
    )
    record = json.loads(command("answer", model, "song", "--knowledge", folder, "--json")[1])
    assert record["passages"][record["from"]]["text"] == "the song of the tale was fine"


def test_vectors(bert, tables, tmp_path):
    found = learned(bert, tables, tmp_path, "embed", pair_column="pair", epochs=4)
    assert found["held_out"]["accuracy"] == 1


def test_texts(gpt, tables, tmp_path):
    found = learned(gpt, tables, tmp_path, "lm", epochs=20, learning_rate=2e-2)
    _, tokenizer = load(gpt)
    assert found["held_out"]["loss"] < np.log(tokenizer.vocab_size) / 2
    assert found["held_out"]["perplexity"] == pytest.approx(np.exp(found["held_out"]["loss"]))


def test_dialogues(gpt, tables, tmp_path):
    found = learned(gpt, tables, tmp_path, "chat", epochs=60, learning_rate=1e-2)
    assert found["held_out"]["perplexity"] < 1.2
    model, tokenizer = load(tmp_path / "out")
    assert tokenizer.chat_template == DEFAULT
    prompt = render(tokenizer, [{"role": "user", "content": "song"}], add_generation_prompt=True)
    assert "".join(generate_text(model, tokenizer, prompt, GenerationConfig(temperature=0.0))) == " the song was great"


def test_other_texts(t5, tables, tmp_path):
    found = learned(t5, tables, tmp_path, "seq2seq", epochs=40, learning_rate=1e-2)
    assert found["held_out"]["perplexity"] < 1.5 and found["held_out"]["bleu"] > 60 and found["before"]["perplexity"] > 10


def test_texts_are_judged_as_training_goes_on(t5, tables, tmp_path):
    learned(t5, tables, tmp_path, "seq2seq", epochs=40, learning_rate=1e-2, eval_interval=20, judge=3)
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    seen = [record["bleu"] for record in records if record["val_loss"] is not None]
    assert seen[0] < 30 and seen[-1] > 60 and len(seen) < len(records)
    assert "bleu, held out" in (tmp_path / "out" / "curves.svg").read_text()


def test_low_rank_changes_are_saved_alone_or_merged(bert, tables, tmp_path, command):
    settings = {"lora_rank": 4, "lora_targets": "all", "epochs": 12, "learning_rate": 2e-2}
    alone = learned(bert, tables, tmp_path, "classify", "alone", **settings)
    merged = learned(bert, tables, tmp_path, "classify", "merged", **settings, merge=True)
    assert alone == merged and alone["held_out"]["accuracy"] == 1
    assert not (tmp_path / "alone" / "model.safetensors").exists()
    before, after = tensorfile.read(bert / "model.safetensors"), tensorfile.read(tmp_path / "merged" / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert (before[name] == after[f"bert.{name}"]).all()
    models = [load(tmp_path / folder)[0] for folder in ("alone", "merged")]
    ids = np.array([[2, 5, 6, 7, 3]])
    assert np.abs(models[0](ids).numpy() - models[1](ids).numpy()).max() < 1e-5
    assert command("classify", tmp_path / "alone", "the book was nice")[1].startswith("up")


@pytest.fixture(scope="module", params=["bert", "gpt"])
def on_top(request, tables, tmp_path_factory):
    """An adapter and its task; what it computes is far from what its base does."""
    folder, task = tmp_path_factory.mktemp("adapter"), {"bert": "classify", "gpt": "chat"}[request.param]
    learned(request.getfixturevalue(request.param), tables, folder, task, lora_rank=4, lora_targets="all", learning_rate=2e-2)
    return folder / "out", task


IDS = np.array([[2, 5, 6, 7, 3]])


def test_an_adapter_is_saved_as_a_whole_model(on_top, tmp_path):
    model, tokenizer = load(on_top[0])
    save_pretrained(model, tmp_path / "whole", tokenizer)
    whole, again = load(tmp_path / "whole")
    expected = model(IDS).numpy()
    assert np.abs(whole(IDS).numpy() - expected).max() <= 2e-6 * np.abs(expected).max()
    assert type(whole) is type(model) and not adapted(whole) and again.pieces == tokenizer.pieces
    described = [json.loads((folder / "config.json").read_text()) for folder in (on_top[0], tmp_path / "whole")]
    assert described[0] == described[1] and not list((tmp_path / "whole").glob("adapter*"))


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2, "merge": True}])
def test_an_adapter_goes_on_as_part_of_its_model(on_top, settings, tables, tmp_path):
    folder, task = on_top
    nothing = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    found = learned(folder, tables, tmp_path, task, **nothing | settings)
    expected, whole = load(folder)[0](IDS).numpy(), load(tmp_path / "out")[0]
    assert np.abs(whole(IDS).numpy() - expected).max() <= 2e-6 * np.abs(expected).max() and not adapted(whole)
    earlier = json.loads((folder / "results.json").read_text())["held_out"]["loss"]
    assert found["before"]["loss"] == pytest.approx(earlier, rel=1e-5)


def test_an_adapter_goes_on_under_another_head(bert, tables, tmp_path):
    learned(bert, tables, tmp_path, "classify", "adapter", lora_rank=4, lora_targets="all", learning_rate=2e-2)
    learned(tmp_path / "adapter", tables, tmp_path, "tag", epochs=1, learning_rate=1e-12, weight_decay=0.0)
    base, expected, found = (load(folder)[0] for folder in (bert, tmp_path / "adapter", tmp_path / "out"))
    known = expected.bert(IDS).numpy()
    assert np.abs(found.bert(IDS).numpy() - known).max() <= 2e-6 * np.abs(known).max()
    assert np.abs(base(IDS).numpy() - known).max() > 0.01


def test_no_adapter_is_saved_on_top_of_another(on_top, tables, tmp_path):
    folder, task = on_top
    with pytest.raises(UserError, match=f"{folder} is an adapter, .* without lora_rank or with merge"):
        learned(folder, tables, tmp_path, task, lora_rank=4)
    assert not (tmp_path / "out").exists()


def test_frozen_layers_stay_as_they_are(bert, tables, tmp_path):
    learned(bert, tables, tmp_path, "classify", epochs=1, freeze="1")
    before, after = tensorfile.read(bert / "model.safetensors"), tensorfile.read(tmp_path / "out" / "model.safetensors")
    same = {name for name in before if (before[name] == after[f"bert.{name}"]).all()}
    assert same == {name for name in before if name.startswith(("embeddings.", "encoder.layer.0."))}


def test_an_evaluation_that_is_no_better_ends_it(bert, tables, tmp_path):
    found = learned(bert, tables, tmp_path, "classify", epochs=50, patience=2)
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    seen = [r for r in records if r["val_loss"] is not None]
    best = [r["accuracy"] for r in seen].index(max(r["accuracy"] for r in seen))
    assert len(seen) == best + 3 < 50 and found["held_out"]["loss"] == seen[best]["val_loss"]
    assert isinstance(load(tmp_path / "out")[0], SequenceClassifier)


def test_a_head_that_is_there_goes_on(bert, tables, tmp_path):
    learned(bert, tables, tmp_path, "classify", "first")
    found = learned(tmp_path / "first", tables, tmp_path, "classify", "second", epochs=1, learning_rate=1e-9)
    assert found["held_out"]["accuracy"] == 1


def test_an_adapter_of_a_model_that_is_gone(bert, tables, tmp_path):
    learned(bert, tables, tmp_path, "classify", lora_rank=1, epochs=1)
    path = tmp_path / "out" / adapter.CONFIG
    for base in ("/nowhere", str(tmp_path / "out"), None):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
        with pytest.raises(UserError, match="which is not there"):
            load(tmp_path / "out")


def test_counts_are_said_as_counts():
    assert said({"texts": 1200, "exact_match": 0.25}) == "texts 1,200  exact match 0.2500"


def test_a_writer_with_an_adapter_is_checked_and_evaluated_like_any(gpt, tables, tmp_path, command):
    learned(gpt, tables, tmp_path, "lm", "changed", lora_rank=2, epochs=1, learning_rate=5e-2)
    adapted, merged = load(tmp_path / "changed")[0], load_writer(tmp_path / "changed")[0]
    ids = np.array([[5, 6, 7, 8]])
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in load(gpt)[0].named_parameters()}
    np.testing.assert_allclose(merged(ids).numpy(), adapted(ids).numpy(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(merged(ids).numpy(), load(gpt)[0](ids).numpy(), atol=1e-4)
    code, out, err = command("check", tmp_path / "changed")
    assert code == 0 and "all" in out and err == ""
