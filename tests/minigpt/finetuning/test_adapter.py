"""An adapter is saved and read again bit for bit, PEFT reads and writes the same, and what does not fit is refused."""

import json
import warnings

import numpy as np
import pytest

from minigpt import tensorfile
from minigpt.errors import UserError
from minigpt.exchange.pretrained import from_pretrained, save_pretrained
from minigpt.files import write_whole
from minigpt.finetuning import adapter
from minigpt.finetuning.lora import adapted, add_lora, merge
from minigpt.models.bert import BERTConfig
from minigpt.models.decoder import Decoder, DecoderConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.heads import SequenceClassifier

IDS = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])


def gpt2():
    return GPT(GPTConfig(vocab_size=13, block_size=8, n_layer=2, n_head=2, n_embd=8), np.random.default_rng(0))


def bert():
    config = BERTConfig(13, 8, 2, 2, 8, labels=("good", "bad", "so"))
    return SequenceClassifier(config, np.random.default_rng(0))


def gpt_neox():  # query, key and value are stored as one, by heads
    shape = {"vocab_size": 13, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, "tied": False, "norm_eps": 1e-5}
    wiring = {"norm": "layer", "gated": False, "activation": "gelu", "residual": "parallel", "rotary_fraction": 0.5}
    biases = {"attention_bias": True, "out_bias": True, "mlp_bias": True}
    model = Decoder(DecoderConfig(**shape, **wiring, **biases), np.random.default_rng(0))
    model.model_type = "gpt_neox"
    return model


FAMILIES = {"gpt2": gpt2, "bert": bert, "gpt_neox": gpt_neox}
CASES = [("gpt2", "attention"), ("gpt2", "all"), ("bert", "q_proj,v_proj"), ("gpt_neox", "q_proj,v_proj"), ("gpt_neox", "all")]


def changed(family, targets, folder):
    """A base, saved, and the same model with changes, saved as an adapter."""
    model = FAMILIES[family]().eval()
    save_pretrained(model, folder / "base")
    add_lora(model, 2, 16.0, targets, np.random.default_rng(1))
    if family == "bert":
        model.classifier.requires_grad_()
        model.classifier.weight.data = np.random.default_rng(3).normal(size=(3, 8)).astype(np.float32)
    rng = np.random.default_rng(2)
    for module in adapted(model).values():
        module.lora_B.data = rng.normal(size=module.lora_B.shape).astype(np.float32)
    (folder / "adapter").mkdir()
    for name, content in adapter.contents(model, str(folder / "base")):
        write_whole(folder / "adapter" / name, content)
    return model


@pytest.mark.parametrize(("family", "targets"), CASES)
def test_saved_and_read_again(family, targets, tmp_path):
    model = changed(family, targets, tmp_path)
    again = from_pretrained(tmp_path / "base")
    adapter.load_adapter(again, tmp_path / "adapter")
    expected = model(IDS).numpy()
    assert np.abs(again(IDS).numpy() - expected).max() <= 1e-6 * np.abs(expected).max()
    (tmp_path / "second").mkdir()
    for p in again.parameters():
        p.requires_grad = False
    files = dict(adapter.contents(again, str(tmp_path / "base")))
    first, second = tensorfile.read(tmp_path / "adapter" / adapter.WEIGHTS), tmp_path / "second" / "w.safetensors"
    second.write_bytes(files[adapter.WEIGHTS])
    kept = tensorfile.read(second)
    assert all((kept[name] == first[name]).all() for name in kept)
    assert {name for name in first if "lora" in name} == set(kept)


@pytest.mark.parametrize(("family", "targets"), CASES)
def test_a_changed_model_is_saved_as_a_plain_one_that_computes_the_same(family, targets, tmp_path):
    model = changed(family, targets, tmp_path)
    expected, names = model(IDS).numpy(), [*adapted(model)]
    save_pretrained(model, tmp_path / "whole")
    whole, base = from_pretrained(tmp_path / "whole"), from_pretrained(tmp_path / "base")
    assert (
        np.abs(whole(IDS).numpy() - expected).max() <= 1e-6 * np.abs(expected).max() < np.abs(base(IDS).numpy() - expected).max()
    )
    assert (tmp_path / "whole" / "config.json").read_bytes() == (tmp_path / "base" / "config.json").read_bytes()
    plain, learned = dict(base.named_parameters()), {f"{name}.weight" for name in names} | {"classifier.weight"}
    for name, p in whole.named_parameters():
        assert (p.numpy() == plain[name].numpy()).all() == (name not in learned), name
    assert [*adapted(model)] == names and (model(IDS).numpy() == expected).all()


def names_of(folder):
    return json.loads((folder / "adapter" / adapter.CONFIG).read_text())


def test_what_the_configuration_says(tmp_path):
    changed("gpt2", "attention", tmp_path)
    says = names_of(tmp_path)
    assert says["target_modules"] == ["attn.c_proj", "c_attn"] and says["fan_in_fan_out"] and says["task_type"] == "CAUSAL_LM"
    assert (says["r"], says["lora_alpha"], says["modules_to_save"]) == (2, 16.0, None)


def test_a_head_is_saved_too(tmp_path):
    changed("bert", "q_proj", tmp_path)
    says = names_of(tmp_path)
    assert says["modules_to_save"] == ["classifier"] and says["target_modules"] == ["query"] and says["task_type"] == "SEQ_CLS"
    assert "base_model.model.classifier.bias" in tensorfile.read(tmp_path / "adapter" / adapter.WEIGHTS)


def hugging_face(family):
    transformers = pytest.importorskip("transformers")
    return {"bert": transformers.AutoModelForSequenceClassification}.get(family, transformers.AutoModelForCausalLM)


@pytest.mark.oracle
@pytest.mark.parametrize(("family", "targets"), CASES)
def test_peft_reads_it(family, targets, tmp_path):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    model = changed(family, targets, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        base = hugging_face(family).from_pretrained(tmp_path / "base").eval()
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(IDS)).logits.numpy()
    assert np.abs(model(IDS).numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("family", "modules"),
    [("gpt2", ["c_attn", "c_fc"]), ("bert", ["key", "intermediate.dense"]), ("gpt_neox", ["query_key_value"])],
)
def test_ours_reads_what_peft_wrote(family, modules, tmp_path):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    save_pretrained(FAMILIES[family](), tmp_path / "base")
    base = hugging_face(family).from_pretrained(tmp_path / "base")
    task = "SEQ_CLS" if family == "bert" else "CAUSAL_LM"
    last = modules[-1]
    settings = peft.LoraConfig(task, r=3, lora_alpha=5, target_modules=modules, rank_pattern={last: 2}, alpha_pattern={last: 9})
    theirs = peft.get_peft_model(base, settings).eval()
    torch.manual_seed(0)
    for name, p in theirs.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(p)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = from_pretrained(tmp_path / "base")
    adapter.load_adapter(ours, tmp_path / "adapter")
    with torch.no_grad():
        expected = theirs(torch.tensor(IDS)).logits.numpy()
    for _ in range(2):  # as it is, then merged
        assert np.abs(ours(IDS).numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
        merge(ours)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "says peft_type 'IA3', but only 'LORA' is supported"),
        ({"use_dora": True}, "says use_dora True, but only False is supported"),
        ({"r": 5}, "says r 5 and lora_alpha 16.0, but transformer.h.0.attn.c_attn has rank 2"),
        ({"rank_pattern": [3]}, "rank_pattern must be an object"),
        ({"lora_alpha": "much"}, "lora_alpha 'much'"),
    ],
)
def test_settings_that_are_not_known(change, message, tmp_path):
    changed("gpt2", "c_attn", tmp_path)
    path = tmp_path / "adapter" / adapter.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        adapter.load_adapter(from_pretrained(tmp_path / "base"), tmp_path / "adapter")


def test_every_tensor_that_does_not_fit_is_named(tmp_path):
    changed("gpt2", "c_attn", tmp_path)
    path = tmp_path / "adapter" / adapter.WEIGHTS
    stored = tensorfile.read(path)
    first, second = "base_model.model.transformer.h.0.attn.c_attn", "base_model.model.transformer.h.1.attn.c_attn"
    stored[f"{first}.lora_A.weight"] = np.zeros((2, 9), np.float32)
    del stored[f"{second}.lora_B.weight"]
    stored["base_model.model.transformer.h.7.attn.c_attn.lora_A.weight"] = np.zeros((2, 8), np.float32)
    stored["base_model.model.transformer.ln_f.weight"] = np.zeros(3, np.float32)
    path.write_bytes(tensorfile.pack(stored))
    with pytest.raises(UserError) as caught:
        adapter.load_adapter(from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    for words in (
        "(2, 9)",
        f"{second}.lora_B.weight is missing",
        "h.7.attn.c_attn.lora_A.weight is unexpected",
        "(3,), not (8,)",
    ):
        assert words in str(caught.value)
