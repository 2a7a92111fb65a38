"""Folders of models without the reference: written and read, in one file or several, in any float; what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigpt
from minigpt import tensorfile
from minigpt.errors import UserError
from minigpt.exchange import pretrained
from minigpt.exchange.pretrained import family_of, known, table_of
from minigpt.exchange.storage import read_weights, weight_files
from minigpt.exchange.weights import Stored
from minigpt.lossless import char_tokenizer
from minigpt.models.gpt import GPT, GPTConfig


def model_of(**settings):
    sizes = {"vocab_size": 30, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
    return GPT(GPTConfig(**sizes | settings), np.random.default_rng(1)).eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture
def folder(tmp_path):
    minigpt.save_pretrained(model_of(), tmp_path)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "settings",
    [{}, {"n_inner": 12, "activation": "gelu_tanh", "norm_eps": 1e-3}, {"activation": "relu", "bias": False, "dropout": 0.25}],
)
def test_saved_is_loaded(tmp_path, settings):
    model = model_of(**settings)
    minigpt.save_pretrained(model, tmp_path)
    again = minigpt.from_pretrained(tmp_path)
    assert again.config == model.config and same(again, model) and not again.training


def test_precision_is_kept(tmp_path):
    model = model_of().astype("float64")
    minigpt.save_pretrained(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float64"
    assert same(minigpt.from_pretrained(tmp_path, "float64"), model)
    assert {p.dtype for p in minigpt.from_pretrained(tmp_path).parameters()} == {np.dtype("float32")}


def test_a_tokenizer_goes_with_its_model(tmp_path):
    words = char_tokenizer("abc", ["<|endoftext|>"])
    minigpt.save_pretrained(model_of(), tmp_path, words)
    model, tokenizer = minigpt.load(tmp_path)
    assert same(model, model_of()) and tokenizer.pieces == words.pieces and tokenizer.special("eos") == words.end_of_text
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 8 and settings["eos_token"] == "<|endoftext|>"
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == words.end_of_text


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_halves_are_read_as_float32(folder, dtype):
    tensors = load_file(folder / "model.safetensors")
    header, data = {}, b""
    for name, value in tensors.items():
        bits = value.astype(np.float16).view("<u2") if dtype == "F16" else (value.view("<u4") >> 16).astype("<u2")
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": (len(data), len(data) + bits.nbytes)}
        data += bits.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    limit = 2**-10 if dtype == "F16" else 2**-7  # of the last bit kept
    for name, value in minigpt.from_pretrained(folder).state_dict().items():
        exact = model_of().state_dict()[name]
        assert value.dtype == np.float32 and np.abs(value - exact).max() <= limit * np.abs(exact).max() + 1e-7
        assert value.any() or not exact.any()


def test_several_files(folder, monkeypatch):
    whole = minigpt.from_pretrained(folder)
    monkeypatch.setattr(pretrained, "LARGEST_FILE", 1500)
    minigpt.save_pretrained(whole, folder)
    parts = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(parts) > 3 and parts[0] == f"model-00001-of-{len(parts):05d}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(parts)
    assert index["metadata"]["total_size"] == 4 * sum(p.size for p in whole.parameters())
    assert same(minigpt.from_pretrained(folder), whole)
    monkeypatch.undo()
    minigpt.save_pretrained(whole, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_tensor_larger_than_a_file_has_its_own():
    tensors = [Stored(name, size, lambda: np.zeros(1)) for name, size in (("a", 4), ("b", 9), ("c", 3), ("d", 2))]
    places = json.loads([*weight_files(tensors, 5)][-1][1])["weight_map"]
    assert [name[6:11] for name in places.values()] == ["00001", "00002", "00003", "00003"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "does not list the files"),
        ({"weight_map": {"a": "../../etc/passwd.safetensors"}}, "does not list the files"),
        ({"weight_map": {"a": 3}}, "does not list the files"),
        ({"weight_map": {"a": "other.safetensors"}}, r"cannot read .*other\.safetensors"),
        ({"weight_map": {"a": "part.safetensors"}}, r"and part\.safetensors differ on a, b"),
    ],
)
def test_an_index_that_is_none(tmp_path, content, message):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    (tmp_path / "part.safetensors").write_bytes(tensorfile.pack({"b": np.zeros(2)}))
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path)


def test_an_unknown_family_names_those_that_are_known(folder):
    edit(folder, model_type="mamba")
    with pytest.raises(UserError, match=rf"model_type 'mamba', but only {', '.join(known())} are known$"):
        minigpt.from_pretrained(folder)


def test_every_fault_is_listed(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.0.ln_1.bias"], tensors["transformer.h.1.ln_2.weight"]
    tensors["transformer.h.0.gate"] = np.zeros(3, np.float32)
    tensors["transformer.wpe.weight"] = np.zeros((9, 8), np.float32)
    tensors["transformer.h.1.attn.c_attn.weight"] = np.zeros((8, 24), np.int64)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError) as caught:
        minigpt.from_pretrained(folder)
    assert str(caught.value).endswith(
        "does not fit config.json: h.0.gate is unexpected; h.0.ln_1.bias is missing; h.1.attn.c_attn.weight is int64 (8, 24), "
        "not float (8, 24); h.1.ln_2.weight is missing; wpe.weight is float32 (9, 8), not float (8, 8)"
    )


def test_a_name_with_and_without_prefix(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"wte.weight": tensors["transformer.wte.weight"]}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"has wte.weight twice, once as (transformer\.)?wte\.weight"):
        minigpt.from_pretrained(folder)


def test_a_model_that_no_family_can_say():
    with pytest.raises(UserError, match=r"no family of .*gpt2.* has a GPT with GPTConfig\(.*'sinh'"):
        model = model_of()
        object.__setattr__(model.config, "activation", "sinh")
        table_of(model)


def test_silent_files_mean_what_transformers_assumes(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    family, _, config = pretrained.read_config(tmp_path / "config.json")
    assert family is family_of("gpt2", "") and config == GPTConfig(
        50257, block_size=1024, n_layer=12, n_head=12, n_embd=768, dropout=0.1, activation="gelu_tanh"
    )


def test_weights_are_never_there_twice(tmp_path):
    """A model of 120 MB is read with at most half as much besides: not beside its own file, or its initial values."""
    minigpt.save_pretrained(model_of(vocab_size=50_000, n_embd=512, n_inner=2000), tmp_path)
    code = (
        "import resource, sys, minigpt\n"
        "from minigpt.exchange import pretrained\n"
        "pretrained.family_of('gpt2', '')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "minigpt.from_pretrained(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 100e6 and int(done.stdout) * 1024 < 2.1 * size, done.stdout
