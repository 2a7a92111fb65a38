"""A bar on a terminal, plain lines elsewhere, and a table of losses with the right numbers."""

import io
import math

from rich.console import Console

from minigpt.display import Display, next_command, summary

RECORD = {
    "step": 5,
    "loss": 2.5,
    "val_loss": 2.75,
    "lr": 1e-3,
    "grad_norm": 1.0,
    "tokens_per_second": 12345.6,
    "seconds": 61.0,
}


def shown(terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    with Display(10, console) as display:
        display.compiling("softmax", 1, 2)
        display.step(RECORD | {"step": 1, "val_loss": None})
        display.step(RECORD)
    return stream.getvalue()


def test_plain_lines_have_no_control_characters():
    text = shown(terminal=False)
    assert "compiling softmax (1 of 2) ..." in text
    assert "step  5/10  loss 2.5000  val 2.7500  lr 1.00e-03  12,346 tok/s  1:01" in text
    assert "\x1b" not in text and "step  1/10" not in text


def test_bar_on_a_terminal():
    text = shown(terminal=True)
    assert "5/10" in text and "loss 2.500  val 2.750  12,346 tok/s" in text and "left" in text


def test_summary_converts_units():
    stream = io.StringIO()
    Console(file=stream, width=100).print(summary({"this model": math.log(4), "bigram": math.log(2)}, 0.5))
    rows = [line.strip("│ ").replace("│", " ").split() for line in stream.getvalue().splitlines() if "│" in line]
    assert rows == [["bigram", "0.6931", "2.00", "0.500"], ["this", "model", "1.3863", "4.00", "1.000"]]


def test_next_command_is_quoted_for_the_shell():
    assert next_command("gpt", "a b", "it's") == "minigpt generate 'a b' --prompt 'it'\"'\"'s'"
    assert next_command("bert", "a b", "to [MASK]") == "minigpt fill-mask 'a b' 'to [MASK]'"
    assert next_command("t5", "a b", "") == "minigpt finetune 'a b' --task seq2seq --data FILE"
