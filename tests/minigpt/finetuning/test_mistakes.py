"""What cannot be learned or used is one sentence, and nothing is written."""

import json
import signal

import pytest

from minigpt import checkpoint, save_pretrained
from minigpt.display import Display
from minigpt.finetuning.tasks.task import Task


def refused(result, *words):
    code, out, err = result
    assert code == 2 and out == "" and err.startswith("minigpt: ") and err.count("\n") == 1, result
    for word in words:
        assert word in err, err


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        ("gpt", "classify", ["a GPT writes text", "reads in both directions"]),
        ("gpt", "tag", ["a GPT writes text"]),
        ("gpt", "answer", ["a GPT writes text"]),
        ("t5", "classify", ["a T5 writes text"]),
        ("bert", "lm", ["the task lm needs a model that continues texts", "not a BERT"]),
        ("t5", "lm", ["the task lm needs a model that continues texts", "not a T5"]),
        ("bert", "seq2seq", ["needs an encoder-decoder", "not a BERT"]),
        ("gpt", "seq2seq", ["needs an encoder-decoder", "not a GPT"]),
    ],
)
def test_the_wrong_model(model, task, words, tables, tmp_path, command, request):
    folder = request.getfixturevalue(model)
    result = command("finetune", folder, "--task", task, "--data", tables / f"{task}.jsonl", "--out", tmp_path / "out")
    refused(result, *words)
    assert not (tmp_path / "out").exists()


def table(tmp_path, *rows):
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def review(text="the film was good", label="up"):
    return {"text": text, "label": label}


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        ([review(), review()], [], ["has the class 'up' only", "at least two"]),
        ([review(), review(), review(label="down")], [], ["the class 'down' has one row only"]),
        ([review(label="")], [], ["line 1 has an empty class in column 'label'"]),
        ([review(text=" ")], [], ["line 1 has an empty text in column 'text'"]),
        ([review()], ["--label-column", "sentiment"], ["no column 'sentiment'", "'text', 'label'", "--label-column"]),
        (
            [review(text="the " * 30), review(label="down")],
            [],
            ["line 1 has 32 tokens, but at most 16 can be read", "--truncate"],
        ),
        ([review()], ["--max-length", "17"], ["max_length 17 is more than the 16 tokens"]),
        ([review(), review(label="down")] * 2, ["--freeze", "3"], ["freeze 3 is more than the 2 layers"]),
        ([review(), review(label="down")] * 2, ["--lora-rank", "17"], ["lora_rank 17 is more than the 16"]),
    ],
)
def test_tables_that_cannot_be_learned(rows, flags, words, bert, tmp_path, command):
    refused(command("finetune", bert, "--data", table(tmp_path, *rows), "--out", tmp_path / "out", *flags), *words)
    assert not (tmp_path / "out").exists()


def test_what_is_too_long_is_cut_and_counted(bert, tmp_path, command):
    rows = [review(), review(label="down"), review(text="the " * 30), review(label="down")]
    flags = ["--truncate", "--epochs", 1, "--out", tmp_path / "out"]
    code, out, _ = command("finetune", bert, "--data", table(tmp_path, *rows), *flags)
    assert code == 0 and "1 texts were cut to what the model can read" in out


def test_a_class_of_the_test_that_was_not_learned(bert, tables, tmp_path, command):
    test = table(tmp_path, review(label="sideways"))
    result = command("finetune", bert, "--data", tables / "classify.jsonl", "--test", test, "--out", tmp_path / "out")
    refused(result, "line 1 has the class 'sideways', but only down, up are known")


def test_a_folder_that_holds_a_model_is_left_alone(bert, tables, command):
    refused(command("finetune", bert, "--data", tables / "classify.jsonl", "--out", bert), "holds a model already")


def test_words_and_tags_of_different_numbers(bert, tmp_path, command):
    rows = table(tmp_path, {"text": "the film", "label": "O N O"})
    refused(command("finetune", bert, "--task", "tag", "--data", rows, "--out", tmp_path / "o"), "line 1 has 2 words, but 3 tags")


@pytest.mark.parametrize("name", ["classify", "tag", "answer"])
@pytest.mark.parametrize(("model", "kind"), [("gpt", "a GPT"), ("bert", "a BERT")])
def test_models_without_that_head(name, model, kind, command, request):
    more = ["--context", "the film was good"] if name == "answer" else []
    refused(command(name, request.getfixturevalue(model), "the film", *more), kind, f"minigpt finetune --task {name} makes")


def test_nothing_left_to_learn(bert, tables, tmp_path, command):
    flags = ["--task", "embed", "--pair-column", "pair", "--freeze", "all", "--out", tmp_path / "out"]
    code, _, err = command("finetune", bert, "--data", tables / "embed.jsonl", *flags)
    assert code == 2 and "freeze all leaves nothing to learn" in err


def test_no_finite_loss(bert, tables, tmp_path, command):
    flags = ["--learning-rate", 1000, "--grad-clip", 0, "--epochs", 100, "--warmup", 0, "--out", tmp_path / "out"]
    code, _, err = command("finetune", bert, "--data", tables / "classify.jsonl", *flags)
    assert code in (0, 1)
    if code:
        assert "became" in err and "nothing was saved" in err and not (tmp_path / "out" / "model.safetensors").exists()


def test_a_damaged_model_is_not_learned_from(bert, tables, tmp_path, command):
    model, tokenizer = checkpoint.load(bert)
    model.wte.weight.data = model.wte.weight.data * float("nan")
    save_pretrained(model, tmp_path / "damaged", tokenizer)
    flags = ["--data", tables / "classify.jsonl", "--out", tmp_path / "out"]
    code, _, err = command("finetune", tmp_path / "damaged", *flags)
    assert code == 1 and f"before anything is learned; the weights of {tmp_path / 'damaged'} may be damaged" in err
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(("event", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (BrokenPipeError, 141)])
def test_whoever_asks_it_to_stop_or_leaves_has_the_best_weights_so_far(bert, tables, tmp_path, command, monkeypatch, event, code):
    def step(_, record):
        if record["step"] == 2 and event is BrokenPipeError:
            raise event
        if record["step"] == 2:
            signal.raise_signal(event)

    monkeypatch.setattr(Display, "step", step)
    out, before = tmp_path / "out", signal.getsignal(signal.SIGINT)
    got, _, err = command("finetune", bert, "--data", tables / "classify.jsonl", "--batch-size", 2, "--out", out)
    assert got == code and err.count("\n") == 1 and "after step 3 of" in err and f"saved in {out}" in err
    assert signal.getsignal(signal.SIGINT) is before
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 3 and records[-1]["accuracy"] == json.loads((out / "results.json").read_text())["held_out"]["accuracy"]
    assert command("classify", out, "the book was nice")[0] == 0


def test_the_model_is_there_before_the_rest_is_measured(bert, tables, tmp_path, command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Task, "written", interrupted)
    out = tmp_path / "out"
    assert command("finetune", bert, "--data", tables / "classify.jsonl", "--out", out)[0] == 130
    assert command("classify", out, "the book was nice")[0] == 0
    assert "accuracy" in json.loads((out / "results.json").read_text())["held_out"]


def test_a_reader_who_leaves_before_anything_is_learned_is_no_success(bert, tables, tmp_path, command, monkeypatch):
    def leave(*_):
        raise BrokenPipeError

    monkeypatch.setattr(Display, "say", leave)
    code, _, err = command("finetune", bert, "--data", tables / "classify.jsonl", "--out", tmp_path / "out")
    assert code == 141 and "nothing was saved" in err and not (tmp_path / "out" / "model.safetensors").exists()
