"""`data stats` and `evaluate` from the command line."""

import json
import math
import re
import subprocess
import sys

import pytest


def test_statistics_are_printed_and_drawn(command, text_file, tmp_path):
    code, out, _ = command("data", "stats", text_file, "--out", tmp_path / "s.svg")
    assert code == 0 and "Mutual information of tokens at a distance" in out and "most frequent: ' '" in out
    table = out.split("Mutual information")[1]
    bits = {int(d): float(b) for d, b in re.findall(r"│ +(\d+) │ +(-?\d+\.\d{5}) ", table)}
    assert sorted(bits) == list(range(1, 33)) and bits[1] > bits[32]
    assert (tmp_path / "s.svg").read_text().startswith("<?xml")


def test_a_reader_who_leaves_ends_a_command_quietly(text_file):
    """Case 254."""
    code = "import sys; from minigpt.cli import main; sys.exit(main(['data', 'stats', sys.argv[1]]))"
    process = subprocess.Popen([sys.executable, "-c", code, text_file], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 0)


def test_a_name_is_no_markup(command, text_file, tmp_path):
    path = tmp_path / "[red]a[" / "b] :smile:.txt"
    path.parent.mkdir()
    path.write_text(text_file.read_text())
    code, out, _ = command("data", "stats", path)
    assert code == 0 and out.startswith(f"{path}\n")


def test_statistics_of_too_little(command, tmp_path):
    (tmp_path / "a.txt").write_text("ab")
    assert command("data", "stats", tmp_path / "a.txt")[::2] == (
        2,
        f"minigpt: {tmp_path / 'a.txt'} has 2 tokens, and at least 3 are needed to count with\n",
    )
    assert command("data", "stats", tmp_path / "none")[0] == 2
    assert command("data", "stats", tmp_path / "a.txt", "--vocab-size", "3")[0] == 2


def test_evaluation_as_a_table_json_colours_and_page(command, trained, text_file, tmp_path):
    code, out, _ = command("evaluate", trained, "--data", text_file, "--surprise", "--html", tmp_path / "p.html")
    assert code == 0 and "bits per character" in out and out.count("bottles of beer") == 800
    assert "bottles.txt as" in (tmp_path / "p.html").read_text()
    code, out, _ = command("evaluate", trained, "--data", text_file, "--json")
    figures = json.loads(out)
    assert code == 0 and figures["tokens"] == figures["characters"] == len(text_file.read_text()) - 1
    assert 0 < figures["nats_per_token"] < math.log(30) and figures["top1"] <= figures["top5"] <= 1


@pytest.mark.parametrize("arguments", [["--data", "none"], ["--html", "x.html"], ["--data", "a", "--surprise", "--json"]])
def test_mistakes_are_one_sentence(command, trained, arguments):
    code, _, err = command("evaluate", trained, *arguments)
    assert code == 2 and err.startswith("minigpt: ") and err.count("\n") == 1
