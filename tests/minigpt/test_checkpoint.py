"""What is saved is loaded; whatever does not fit together is refused in one sentence."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minigpt import checkpoint, snapshots
from minigpt.errors import UserError
from minigpt.lossless import char_tokenizer
from minigpt.models.gpt import GPT, GPTConfig


def model_of(**settings):
    return GPT(
        GPTConfig(**{"vocab_size": 3, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, **settings}),
        np.random.default_rng(1),
    )


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path, model_of(), char_tokenizer("abc"))
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("bias", [True, False])
def test_saved_is_loaded(tmp_path, bias):
    model = model_of(bias=bias, dropout=0.25)
    checkpoint.save(tmp_path, model, char_tokenizer("abc"))
    again, tokenizer = checkpoint.load(tmp_path)
    assert again.config == model.config and tokenizer.decode([0, 1, 2]) == "abc"
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    ids = np.array([[0, 1, 2, 1]])
    model.eval()
    assert np.array_equal(model(ids).numpy(), again(ids).numpy())


def test_published_names_and_layout(folder):
    tensors = load_file(folder / "model.safetensors")
    assert tensors["transformer.h.1.attn.c_attn.weight"].shape == (8, 24)
    assert tensors["transformer.h.0.mlp.c_proj.weight"].shape == (32, 8)
    assert tensors["transformer.wte.weight"].shape == (3, 8)
    assert not any("lm_head" in name for name in tensors)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"


def test_the_older_published_form_without_prefix_and_with_masks(folder):
    expected = checkpoint.load(folder)[0].state_dict()

    def change(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.float32)
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()

    rewrite(folder, change)
    got = checkpoint.load(folder)[0].state_dict()
    assert all(np.array_equal(got[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt7"}, "model_type 'gpt7', but only .*gpt2.* are known"),
        ({"model_type": "../gpt2"}, "model_type '../gpt2', but only"),
        ({"model_type": ["gpt2"]}, r"model_type \['gpt2'\], but only"),
        (
            {"architectures": ["GPT2ForTokenClassification"]},
            r"architectures \['GPT2For.*'\], but only GPT2LMHeadModel, GPT2Model are",
        ),
        ({"architectures": 3}, "architectures 3, but only"),
        ({"activation_function": "softsign"}, "activation_function 'softsign', but only 'gelu_new' or 'gelu_pytorch_tanh' or"),
        ({"activation_function": {}}, "activation_function {}, but only"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True, but only False is supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False"),
        ({"n_layer": "2"}, "n_layer must be a positive integer, not '2'"),
        ({"n_embd": {"a": 1}}, "n_embd must be a positive integer"),
        ({"n_embd": 10**12}, "n_embd must be a positive integer"),
        ({"n_inner": 7}, r"c_fc.bias is float32 \(32,\), not float \(7,\)"),
        ({"n_inner": 0}, "n_inner must be a positive integer or null, not 0"),
        ({"layer_norm_epsilon": -1}, "norm_eps must be "),
        ({"n_head": 3}, "n_head"),
        ({"n_layer": 10**9}, "too few for the 1000000000 layers"),
        ({"n_layer": 3}, "h.2.attn.c_attn.bias is missing; .*h.2.mlp.c_proj.weight is missing$"),
        ({"n_layer": 1}, "h.1.attn.c_attn.bias is unexpected"),
        ({"vocab_size": 10**9}, r"wte.weight is float32 \(3, 8\), not float \(1000000000, 8\)"),
        ({"resid_pdrop": "x"}, "resid_pdrop"),
        ({"resid_pdrop": 1.5}, "dropout"),
        ({"minigpt": {"bias": 1}}, "bias must be true or false"),
        ({"minigpt": 3}, "minigpt must be an object"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(UserError, match=message):
        checkpoint.load(folder)


def test_weights_that_are_nan_are_read(folder):
    """Case 195."""
    rewrite(folder, lambda tensors: tensors["transformer.ln_f.bias"].fill(np.nan))
    assert np.isnan(checkpoint.load(folder)[0].ln_f.bias.data).all()


def test_a_folder_without_weights_of_its_own_gives_its_newest_checkpoint(folder, tmp_path):
    files = [(name, (folder / name).read_bytes()) for name in checkpoint.FILES]
    snapshots.publish(tmp_path / "run", 3, files)
    expected, got = (checkpoint.load(path)[0].state_dict() for path in (folder, tmp_path / "run"))
    assert all(np.array_equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "does not say how the model was trained"),
        ({"train": []}, "does not say how"),
        ({"train": {"n_layers": 3}}, "has a setting that is not known here: 'n_layers'"),
        ({"train": {"n_layer": "3"}}, "n_layer must be an integer, not '3'"),
        ({"train": {"learning_rate": 1e400}}, "learning_rate must be in"),
    ],
)
def test_settings_of_a_training_that_are_none(folder, record, message):
    edit(folder, minigpt=record)
    with pytest.raises(UserError, match=message):
        checkpoint.read_train_config(folder)


def test_biases_without_biases(folder):
    rewrite(folder, lambda tensors: tensors["transformer.ln_f.bias"].fill(1))
    edit(folder, minigpt={"bias": False})
    with pytest.raises(UserError, match=r"ln_f\.bias is not zero"):
        checkpoint.load(folder)


def test_weights_that_do_not_fit(folder):
    """Case 190."""

    def change(tensors):
        del tensors["transformer.ln_f.bias"]
        tensors["transformer.extra"] = np.zeros(1, np.float32)
        tensors["transformer.wpe.weight"] = np.zeros((8, 8), np.int32)

    rewrite(folder, change)
    with pytest.raises(UserError, match=r"extra is unexpected; ln_f\.bias is missing; wpe\.weight is int32"):
        checkpoint.load(folder)


def test_an_untied_head_is_refused(folder):
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"] + 1}))
    with pytest.raises(UserError, match=r"lm_head\.weight differs from wte.weight, but config.json says that they are tied"):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, pickle.dumps({"a": 1}), b"PK\x03\x04"])
def test_weights_that_are_no_safetensors(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is not a safetensors file"):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_malformed_configuration(folder, content):
    """Case 188."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"is not valid JSON|must hold an object"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"cannot read .*{name}"):
        checkpoint.load(folder)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        checkpoint.load(tmp_path / "none")


def test_a_tokenizer_of_another_size(folder):
    """Case 235."""
    (folder / "tokenizer.json").write_text(char_tokenizer("abcd").backend.to_str())
    with pytest.raises(UserError, match="the tokenizer has 4 tokens, but the model has 3"):
        checkpoint.load(folder)
