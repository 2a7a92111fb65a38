"""Commands for models that continue texts: any decoder will do, and a model of another shape is one sentence."""

import numpy as np
import pytest
from wordpiece import word_tokenizer

import minigpt
from minigpt.lossless import char_tokenizer
from minigpt.models.decoder import Decoder, DecoderConfig
from minigpt.models.t5 import T5, T5Config

SIZES = {"vocab_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16}


@pytest.fixture
def folders(tmp_path):
    """A BERT, a head of one, an encoder-decoder and a decoder."""
    bert = minigpt.BERTConfig(**SIZES, block_size=8, labels=("a", "b"))
    models = {"bert": minigpt.BERT(bert), "classifier": minigpt.SequenceClassifier(bert), "t5": T5(T5Config(**SIZES))}
    for name, model in models.items():
        minigpt.save_pretrained(model, tmp_path / name, word_tokenizer("abcdefghijk"))
    llama = Decoder(DecoderConfig(**SIZES, block_size=8), np.random.default_rng(0))
    minigpt.save_pretrained(llama, tmp_path / "llama", char_tokenizer("abcdefghijklmnop"))
    return tmp_path


@pytest.mark.parametrize("arguments", [["generate"], ["evaluate", "--data", __file__], ["check"], ["verify"]])
@pytest.mark.parametrize("name", ["bert", "classifier", "t5"])
def test_what_continues_no_text_is_refused(command, folders, name, arguments):
    what, *flags = arguments
    code, out, err = command(what, folders / name, *flags)
    assert code == 2 and out == "" and err.startswith(f"minigpt: {folders / name} holds a ") and err.count("\n") == 1
    assert "needs a model that continues texts" in err


def test_every_decoder_is_checked_and_verified(command, folders):
    code, out, _ = command("check", folders / "llama")
    assert code == 0 and "checks passed" in out and "FAIL" not in out
    code, out, _ = command("verify", folders / "llama")
    assert code == 0 and "no equality failed" in out and out.count("skipped") >= 2
    assert command("generate", folders / "llama", "--prompt", "abc", "--max-new-tokens", 4)[0] == 0


@pytest.mark.parametrize("name", ["bert", "classifier", "t5", "llama"])
def test_every_model_is_drawn(command, folders, name):
    code, _, err = command("draw", folders / name, "--out", folders / "g.svg", "--depth", 1)
    assert (code, err) == (0, "") and "<svg" in (folders / "g.svg").read_text()
