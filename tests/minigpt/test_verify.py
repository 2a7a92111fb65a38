"""Every equality holds on a right model, and each line fails when the thing it watches is broken."""

import numpy as np
import pytest

import tensorgrad as tg
from minigpt import check, checkpoint, verify
from minigpt.commands.verify import run
from minigpt.generation import beam
from minigpt.generation.context import Context
from minigpt.lossless import byte_tokenizer
from minigpt.models.cache import KeyValueCache
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.verify import Equality
from tensorgrad.ops.fused import _gelu

NAMES = [
    "cached = uncached, 200 steps",
    "batched = single",
    "left-padded = unpadded",
    "beam(1) = greedy",
    "speculative = greedy",
    "saved = loaded",
    "resumed = uninterrupted",
    "accumulated = full batch",
    "kernels = definitions",
    "kernels = definitions",
    "float32 = float64",
    "causal: later tokens change nothing",
    "gradients = finite differences",
    "engine = transformers",
]


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    made = GPT(GPTConfig(256, block_size=12, n_layer=1, n_head=2, n_embd=8), rng)
    state = made.state_dict().items()
    made.load_state_dict({k: rng.normal(0, 0.5, v.shape) if v.ndim == 2 else v for k, v in state})
    made.eval()
    return made


IDS = np.random.default_rng(1).integers(0, 256, (4, 12))


def test_every_line_passes(model, tmp_path, capsys):
    checkpoint.save(tmp_path, model, byte_tokenizer())
    lines = list(verify.verify(tmp_path))
    assert [line.name for line in lines] == NAMES
    assert [line for line in lines if line.verdict == "FAIL"] == []
    assert [line.difference for line in lines if not line.limit and line.difference is not None] == [0] * 5


def test_the_table_and_the_exit_code(command, monkeypatch):
    lines = [Equality("this = that", 1e-7, 1e-6, "logits"), Equality("one = other", None, 0, "not installed")]
    monkeypatch.setattr(verify, "verify", lambda folder: iter(lines))
    code, out, _ = command("verify", "folder")
    assert code == 0 and "this = that" in out and "1.0e-07" in out and "skipped" in out and "no equality failed" in out
    lines.append(Equality("up = down", float("nan"), 1e-6))
    code, out, _ = command("verify", "folder")
    assert code == 1 and "FAIL" in out and "1 of 3 equalities failed" in out
    assert callable(run)


def test_no_folder(command):
    code, out, err = command("verify", "none")
    assert code == 2 and out == "" and "none is not a folder" in err and err.count("\n") == 1


# Planted faults: each breaks one thing, in the place where it would break.


def late_positions(patch):
    right = GPT._positions
    patch.setattr(GPT, "_positions", lambda self, start, length, p: right(self, max(start - 1, 0), length, p))


def visible_padding(patch):
    right = KeyValueCache._equally_padded
    patch.setattr(KeyValueCache, "_equally_padded", lambda self: ((rows, max(n - 1, 0)) for rows, n in right(self)))


def mixed_rows(patch):
    right = Context.logits
    patch.setattr(Context, "logits", lambda self, last=1: right(self, last)[::-1])


def beams_of_the_second_best(patch):
    right = beam._Search._continuations
    patch.setattr(beam._Search, "_continuations", lambda *args: right(*args)[1:])


def guesses_judged_in_the_wrong_order(patch):
    right = Context.logits
    patch.setattr(Context, "logits", lambda self, last=1: right(self, last)[:, ::-1])


def lost_dropout_stream(patch):
    patch.setattr("minigpt.trainer.restore_stream", lambda rng, state: None)


def mean_of_means(patch):
    right = tg.cross_entropy
    patch.setattr(tg, "cross_entropy", lambda *args, **kwargs: right(*args, **kwargs | {"reduction": "mean"}))


def approximate_kernel(patch):
    right = _gelu.kernel.forward

    def wrong(x, **params):
        y, saved = right(x, **params)
        return y * (1 + 1e-9), saved

    patch.setattr(_gelu.kernel, "forward", wrong)


def imprecise_single(patch):
    right = _gelu.kernel.forward

    def wrong(x, **params):
        y, saved = right(x, **params)
        return (y * np.float32(1.001) if x.dtype == np.float32 else y), saved

    patch.setattr(_gelu.kernel, "forward", wrong)


def not_causal(patch):
    right = tg.self_attention
    patch.setattr(tg, "self_attention", lambda qkv, heads, **kw: right(qkv, heads, **kw | {"causal": False}))


def wrong_gradient(patch):
    right = tg.grad

    def wrong(f, *args, **kwargs):
        def gradient(*xs):
            return {name: g * (1.001 if name == "wpe.weight" else 1.0) for name, g in right(f, *args, **kwargs)(*xs).items()}

        return gradient

    patch.setattr(check.tg, "grad", wrong)


FAULTS = [
    (late_positions, verify.verify_generation, "cached = uncached, 200 steps"),
    (mixed_rows, verify.verify_generation, "batched = single"),
    (visible_padding, verify.verify_generation, "left-padded = unpadded"),
    (beams_of_the_second_best, verify.verify_generation, "beam(1) = greedy"),
    (guesses_judged_in_the_wrong_order, verify.verify_generation, "speculative = greedy"),
    (lost_dropout_stream, verify.verify_training, "resumed = uninterrupted"),
    (mean_of_means, verify.verify_training, "accumulated = full batch"),
    (approximate_kernel, verify.verify_engine, "kernels = definitions"),
    (imprecise_single, verify.verify_engine, "float32 = float64"),
    (not_causal, verify.verify_engine, "causal: later tokens change nothing"),
    (wrong_gradient, verify.verify_engine, "gradients = finite differences"),
]


@pytest.mark.parametrize(("plant", "part", "name"), FAULTS, ids=[plant.__name__ for plant, _, _ in FAULTS])
def test_a_planted_fault_fails_its_line(model, monkeypatch, plant, part, name):
    plant(monkeypatch)
    assert name in [line.name for line in part(model, IDS) if line.verdict == "FAIL"]


def test_a_weight_that_is_lost_in_saving_is_found(model, monkeypatch):
    right = checkpoint.load

    def load(folder):
        loaded, tokenizer = right(folder)
        loaded.ln_f.weight.data = np.nextafter(loaded.ln_f.weight.data, np.float32(2))
        return loaded, tokenizer

    monkeypatch.setattr(checkpoint, "load", load)
    assert verify.saved_is_loaded(model, byte_tokenizer()).verdict == "FAIL"


def test_another_model_is_not_what_transformers_reads(model, tmp_path):
    pytest.importorskip("transformers")
    checkpoint.save(tmp_path, model, byte_tokenizer())
    model.ln_f.weight.data = model.ln_f.weight.data * np.float32(1.001)
    assert verify.engine_is_transformers(model, IDS, tmp_path).verdict == "FAIL"


def test_nan_passes_no_line():
    assert Equality("a = b", float("nan"), 1.0).verdict == "FAIL"
