"""Every command, every mistake: one sentence on standard error, the right exit code, no traceback."""

import os
import subprocess
import sys

import pytest

import minigpt


def refused(result, *words):
    code, out, err = result
    assert code == 2 and out == "" and err.startswith("minigpt: ") and err.count("\n") == 1, result
    for word in words:
        assert word in err, err


def test_train_generate(command, text_file, tmp_path):
    sizes = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --max-steps 3 --eval-batches 1".split()
    code, out, _ = command("train", "--data", text_file, "--out", tmp_path / "m", *sizes)
    assert code == 0
    for words in ("bits per character", "trigram", "bigram", "this model", "A sample", "Saved in", "minigpt generate"):
        assert words in out
    code, out, _ = command("generate", tmp_path / "m", "--prompt", "400 bo", "--max-new-tokens", 20)
    assert code == 0 and out.startswith("400 bo") and len(out) == 6 + 20 + 1


def test_samples_differ_and_the_seed_repeats_them(command, trained):
    """Case 172."""
    arguments = ("generate", trained, "--max-new-tokens", 30, "--num-return-sequences", 2, "--seed", 4)
    _, out, _ = command(*arguments)
    first, second = out.split("-" * 20 + "\n")
    assert first != second and command(*arguments)[1] == out
    assert command("generate", trained, "--max-new-tokens", 30, "--seed", 4)[1] == first


def test_draw(command, trained, tmp_path):
    code, out, err = command("draw", trained, "--out", tmp_path / "a.svg", "--depth", 1)
    assert (code, err) == (0, "") and "a.svg" in out
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_check(command, trained):
    code, out, _ = command("check", trained)
    assert code == 0 and "all 25 checks passed" in out and "FAIL" not in out


def test_a_failed_check_is_exit_code_1(command, trained, monkeypatch):
    from minigpt import check

    monkeypatch.setattr(check, "check_model", lambda _: iter([check.Line("planted", 1.0, 2.0, 1.0, 1e-6)]))
    code, out, _ = command("check", trained)
    assert code == 1 and "FAIL" in out and "1 of 1 checks failed" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["trian"], ["invalid choice: 'trian'"]),
        (["train", "--lerning-rate", "1"], ["--lerning-rate", "did you mean --learning-rate?"]),
        (["train", "--n-lay", "1"], ["--n-lay", "did you mean --n-layer"]),
        (["train", "--n-layer", "2.5"], ["--n-layer", "2.5"]),
        (["train", "--learning-rate", "nan"], ["learning_rate must be in (0, 1000], not nan"]),
        (["train", "--learning-rate=-1"], ["learning_rate", "-1"]),
        (["train", "--n-embd", "130"], ["n_embd 130 is not divisible by n_head 4"]),
        (["train", "--preset", "huge"], ["preset must be one of nano, baby, gpt2, not 'huge'"]),
        (["train", "--config", "none.toml"], ["cannot read the configuration file none.toml"]),
        (["train", "--data", "none.txt"], ["cannot read the data file none.txt"]),
        (["generate"], ["DIR"]),
        (["generate", "none"], ["none is not a folder"]),
        (["generate", "none", "--temperature", "nan"], ["temperature must be in [0, inf), not nan"]),
        (["generate", "none", "--top-p", "0"], ["top_p must be in (0, 1], not 0"]),
        (["generate", "none", "--max-new-tokens", "-1"], ["max_new_tokens must be in [0, 1000000000], not -1"]),
        (["generate", "none", "--num-return-sequences", "0"], ["num_return_sequences must be in [1, 100000], not 0"]),
        (["generate", "none", "--seed", "-3"], ["--seed must be at least 0"]),
        (["draw", "none", "--out", "a.svg"], ["none is not a folder"]),
        (["draw", "none"], ["--out"]),
        (["draw", "none", "--out", "a.svg", "--depth", "-1"], ["--depth must be at least 0"]),
        (["check", "none"], ["none is not a folder"]),
    ],
)
def test_mistakes(command, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(command(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_bad_text_and_prompts(command, trained, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"abc\xff")
    refused(command("train", "--data", bad, "--out", tmp_path / "m"), "byte 0xff at offset 3")
    refused(command("generate", trained, "--prompt", "400 €"), "the character '€' at position 4")
    refused(command("generate", trained, "--prompt", "4" * 17), "17 tokens", "context is 16", "--truncate")
    assert command("generate", trained, "--prompt", "4" * 17, "--truncate", "--max-new-tokens", 3)[0] == 0
    refused(command("generate", tmp_path), "config.json")
    refused(command("draw", trained, "--out", tmp_path / "a.xyz"), "a.xyz")
    refused(command("draw", trained, "--out", tmp_path / "none" / "a.svg"), "cannot write", "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt"]


def test_help_and_flag_errors_are_instant():
    """No numba, no NumPy: what makes them instant is checked, not the clock. Case 256."""
    code = (
        "import sys; from minigpt.cli import main\n"
        "for arguments in (['train', '--bogus'], ['train', '--n-embd', '3'], ['train', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "slow = {'numba', 'numpy', 'tokenizers', 'matplotlib', 'rich', 'tensorgrad'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_interrupted(command, trained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minigpt.generation.decode.choose", interrupt)
    code, out, err = command("generate", trained, "--prompt", "400")
    assert code == 130 and out == "400" and err == "\nminigpt: interrupted\n"


def test_a_narrow_encoding_and_a_closed_pipe(trained):
    """Case 254."""
    code = f"import sys; from minigpt.cli import main; sys.exit(main(['generate', {str(trained)!r}, '--prompt', '4']))"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "LANG": "C"}
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    reader.stdout.read(1)
    reader.stdout.close()
    errors = reader.stderr.read()
    assert (reader.wait(60), errors) == (0, b"")


def test_too_little_memory_is_one_sentence(command, text_file, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 6.00 GiB")

    monkeypatch.setattr("minigpt.train.Trainer", fail)
    code, _, err = command("train", "--data", text_file, "--out", tmp_path / "m")
    assert (code, err) == (1, "minigpt: there is not enough memory: Unable to allocate 6.00 GiB\n")
    assert not (tmp_path / "m").exists()


def test_public_names():
    for name in minigpt.__all__:
        assert getattr(minigpt, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        minigpt.nothing  # noqa: B018
