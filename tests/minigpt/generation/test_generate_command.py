"""`minigpt generate` from the command line: every flag, every mistake in one sentence with exit code 2."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from minigpt.commands import generate


def refused(result, *words):
    code, out, err = result
    assert code == 2 and out == "" and err.startswith("minigpt: ") and err.count("\n") == 1, result
    for word in words:
        assert word in err, err


def test_json_has_tokens_log_probabilities_and_times(command, trained):
    code, out, _ = command("generate", trained, "--prompt", "40", "--max-new-tokens", 5, "--num-return-sequences", 2, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(records) == 2
    for record in records:
        assert record["prompt"] == "40" and len(record["tokens"]) == len(record["log_probs"]) == 5
        assert record["finish"] == "length" and len(record["text"]) == 5
        assert 0 < record["first_token_seconds"] < record["seconds"] and record["tokens_per_second"] > 0


def test_prompts_from_a_file(command, trained, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbf400 bo\r\n\n7\n")
    arguments = ("--max-new-tokens", 8, "--seed", 3)
    code, out, _ = command("generate", trained, "--prompts", path, *arguments)
    assert code == 0
    texts = out.removesuffix("\n").split("\n" + generate.RULE + "\n")
    alone = [command("generate", trained, "--prompt", prompt, *arguments)[1] for prompt in ("400 bo", "7")]
    assert [text + "\n" for text in texts] == alone
    assert command("generate", trained, "--prompts", path, *arguments, "--batch-size", 1)[1] == out


def test_prompts_from_standard_input_are_bounded(command, trained, monkeypatch):
    """Case 259."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"400\n")))
    assert command("generate", trained, "--prompts", "-", "--max-new-tokens", 3)[1].startswith("400")

    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            Endless.given += len(buffer)
            return len(buffer)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    refused(command("generate", trained, "--prompts", "-"), "the prompts in - are more than 16 MiB")
    assert Endless.given <= (16 << 20) + (1 << 20)


def test_strategies(command, trained):
    def text(*arguments):
        code, out, err = command("generate", trained, "--prompt", "40", "--max-new-tokens", 12, *arguments)
        assert (code, err) == (0, "")
        return out

    greedy = text("--temperature", 0)
    assert text("--temperature", 0, "--prompt-lookup-num-tokens", 5) == greedy
    assert text("--top-k", 1) == text("--top-p", 1e-9) == text("--min-p", 1) == greedy
    assert text("--num-beams", 3, "--early-stopping", "yes", "--length-penalty", 0.5)
    assert text("--num-beams", 3, "--num-return-sequences", 2).count(generate.RULE) == 1
    assert "o" not in text("--bad-words", "o", "--bad-words", "l")
    assert text("--sequence-bias", "b=1e6") == "40" + "b" * 12 + "\n"
    stopped = text("--temperature", 0, "--stop-strings", greedy[5:7])
    assert stopped == greedy[: greedy.index(greedy[5:7], 2)] + "\n"
    varied = ("--repetition-penalty", 1.2, "--presence-penalty", 0.1, "--frequency-penalty", 0.1, "--typical-p", 0.9)
    assert text(*varied, "--no-repeat-ngram-size", 3, "--min-new-tokens", 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "nan"], ["temperature must be in [0, inf), not nan"]),
        (["--temperature", "inf"], ["temperature", "inf"]),
        (["--temperature=-1"], ["temperature", "-1"]),
        (["--top-p", "nan"], ["top_p must be in (0, 1], not nan"]),
        (["--min-p", "nan"], ["min_p must be in [0, 1], not nan"]),
        (["--typical-p", "0"], ["typical_p must be in (0, 1], not 0"]),
        (["--repetition-penalty", "nan"], ["repetition_penalty", "nan"]),
        (["--frequency-penalty", "inf"], ["frequency_penalty", "inf"]),
        (["--top-k", "2.5"], ["--top-k", "2.5"]),
        (["--top-k", "-2"], ["top_k", "-2"]),
        (["--stop-strings", ""], ["stop_strings must hold texts that are not empty"]),
        (["--bad-words", ""], ["bad_words"]),
        (["--sequence-bias", "a"], ["--sequence-bias must be TEXT=NUMBER, not 'a'"]),
        (["--sequence-bias", "a=nan"], ["sequence_bias must add a finite number, not nan"]),
        (["--num-beams", "2", "--temperature", "1"], ["temperature must be 0, not 1"]),
        (["--temperature", "0", "--num-return-sequences", "2"], ["the same text"]),
        (["--early-stopping", "maybe"], ["early_stopping must be one of no, yes, never, not 'maybe'"]),
        (["--batch-size", "0"], ["--batch-size must be at least 1, not 0"]),
        (["--prompt", "a", "--prompts", "b"], ["--prompts", "not allowed with"]),
        (["--prompts", "none.txt"], ["cannot read the prompts in none.txt"]),
        (["--max-new-token", "3"], ["did you mean --max-new-tokens"]),
    ],
)
def test_mistakes(command, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(command("generate", "none", *arguments), *words)


def test_bad_prompts(command, trained, tmp_path):
    path = tmp_path / "prompts.txt"
    for content, message in [
        (b"", "there are no prompts in"),
        (b"\n \r\n", "there are no prompts in"),
        (b"4\n\xff", "byte 0xff at offset 2"),
        (b"4\n" + b"4" * 17, "the prompt has 17 tokens, but the model's context is 16"),
        ("4\n€".encode(), "the character '€' at position 0"),
    ]:
        path.write_bytes(content)
        refused(command("generate", trained, "--prompts", path), message)
    refused(command("generate", trained, "--bad-words", "€"), "the character '€'")
    refused(command("generate", trained, "--prompt", "4\ud800"), "lone surrogate")


def test_damaged_weights_and_nothing_left_are_said(command, trained, tmp_path):
    """Case 251."""
    import numpy as np

    from minigpt import checkpoint

    model, tokenizer = checkpoint.load(trained)
    words = [word for piece in tokenizer.pieces for word in ("--bad-words", piece.decode())]
    code, out, err = command("generate", trained, "--prompt", "4", *words)
    assert code == 1 and out == "4" and "no token is left" in err and err.count("\n") <= 2
    model.ln_f.weight.data = np.full(model.ln_f.weight.shape, np.nan)
    checkpoint.save(tmp_path / "nan", model, tokenizer)
    code, _, err = command("generate", tmp_path / "nan", "--prompt", "4")
    assert code == 1 and "not numbers" in err


def test_help_and_mistaken_flags_are_answered_before_anything_is_imported():
    """Case 256."""
    code = (
        "import sys; from minigpt.cli import main\n"
        "for arguments in (['generate', 'x', '--top-p', 'nan'], ['generate', '--help'], ['verify', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "slow = {'numba', 'numpy', 'tokenizers', 'rich', 'tensorgrad'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for words in ("--num-beams", "--stop-strings", "newest half"):
        assert words in done.stdout


LAUNCH = "import sys; from minigpt.cli import main; sys.exit(main(sys.argv[1:]))"


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "generate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "LANG": "C"},
    )


def test_a_reader_that_leaves_ends_it_quietly(trained):
    """Case 254."""
    reader = started(trained, "--prompt", "4", "--max-new-tokens", 100_000)
    reader.stdout.read(5)
    reader.stdout.close()
    assert (reader.wait(60), reader.stderr.read()) == (0, b"")


def test_ctrl_c_leaves_the_text_so_far_and_exit_code_130(trained):
    """Case 254."""
    process = started(trained, "--prompt", "4", "--max-new-tokens", 10_000_000)
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == b"\nminigpt: interrupted\n"
