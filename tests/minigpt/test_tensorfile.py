"""Arrays of any layout come back as they were; a file that is not exactly right is refused, with little memory."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open

from minigpt import tensorfile
from minigpt.errors import UserError


def file_of(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_layouts(tmp_path):
    """Case 185."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    readonly = base.copy()
    readonly.setflags(write=False)
    arrays = {
        "fortran": np.asfortranarray(base), "steps": base[:, ::2], "backwards": base[::-1], "big": base.astype(">f4"),
        "0-d": np.array(3.5), "empty": np.zeros((2, 0), np.float32), "read-only": readonly, "half": base.astype(np.float16),
        "whole": np.arange(3), "true": np.array([True, False]), "nan": np.array([np.nan, np.inf, -0.0]),
    }  # fmt: skip
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensorfile.pack(arrays))
    again = tensorfile.read(path)
    assert again.keys() == arrays.keys()
    for name, value in arrays.items():
        assert (
            again[name].shape == value.shape
            and again[name].tobytes() == np.ascontiguousarray(value).astype(again[name].dtype).tobytes()
        )
    assert tensorfile.pack(dict(reversed(arrays.items()))) == path.read_bytes()
    with safe_open(path, "np") as file:
        assert file.metadata()["sha256"] == tensorfile.digest(again)


def test_saved_over_the_file_it_was_read_from(tmp_path):
    """Case 186."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensorfile.pack({"a": np.ones(1000), "b": np.ones(1000)}))
    arrays = tensorfile.read(path)
    arrays["a"] = arrays["a"] * 2
    path.write_bytes(tensorfile.pack(arrays))
    assert tensorfile.read(path)["a"].sum() == 2000 and tensorfile.read(path)["b"].sum() == 1000


BROKEN = {
    "nothing": b"",
    "a length only": struct.pack("<Q", 0),
    "shorter than its length": struct.pack("<Q", 1000) + b"{}",
    "a length of 100 million and one": struct.pack("<Q", 100_000_001) + b"{}",
    "the largest length": b"\xff" * 16,
    "not UTF-8": b"\xff\xfe{}",
    "not JSON": b"{,}",
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "nested deeply": b'{"a":' + b"[" * 100_000,
    "a name twice": b"{%s,%s}" % ((b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',) * 2),
    "the same bytes ten times": {f"t{i}": entry() for i in range(10)},
    "a hole": {"a": entry(), "b": entry(offsets=(16, 24))},
    "too many bytes": {"a": entry(shape=(1,), offsets=(0, 4))},
    "too few bytes": {"a": entry(shape=(20,), offsets=(0, 80))},
    "begin after end": {"a": entry(offsets=(8, 0))},
    "a negative offset": {"a": entry(offsets=(-8, 0))},
    "offsets of floats": {"a": entry(offsets=(0.0, 8.0))},
    "offsets of text": {"a": entry(offsets=("0", "8"))},
    "offsets of booleans": {"a": entry(offsets=(False, 8))},
    "an offset of 2**63": {"a": entry(offsets=(0, 2**63))},
    "three offsets": {"a": entry(offsets=(0, 4, 8))},
    "another size than its shape": {"a": entry(shape=(3,))},
    "a shape that wraps": {"a": entry(shape=(2, 2**64 - 2))},
    "a shape that wraps when signed": {"a": entry(shape=(2, 2**63 - 1))},
    "a shape that wraps in bytes": {"a": entry(shape=(2**42 + 1, 2**20))},
    "a negative shape": {"a": entry(shape=(-2,))},
    "an unknown type": {"a": entry(dtype="F7")},
    "metadata of numbers": {"a": entry(), "__metadata__": {"sha256": 3}},
    "metadata of text": {"a": entry(), "__metadata__": "x"},
    "a tensor of text": {"a": "x"},
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_not_exactly_right(tmp_path, content):
    """Cases 173, 174, 176, 177, 178, 179, 180, 181, 182, 184 and 188."""
    path = tmp_path / "a.safetensors"
    if isinstance(content, bytes) and not content.startswith((b"{", b"[", b"n", b"3", b"\xff\xfe")):
        path.write_bytes(content)
    else:
        file_of(path, content, bytes(8))
    tracemalloc.start()
    with pytest.raises(UserError, match="is not a safetensors file that can be read here") as caught:
        tensorfile.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and peak < 10e6


def test_types_are_listed(tmp_path):
    """Case 182."""
    with pytest.raises(UserError, match="'a' is of type 'F7', but only F64, F32, F16, "):
        tensorfile.read(file_of(tmp_path / "a", {"a": entry(dtype="F7")}, bytes(8)))


def test_bfloat16_is_read_as_float32(tmp_path):
    """Sign, 8 bits of exponent, 7 of fraction: 0x3FC0 is 1.5, 0xC049 -3.140625, 0x7F80 infinity, 0x0001 2^-133."""
    halves = np.array([0x3FC0, 0xC049, 0x7F80, 0x8000, 0x0001], "<u2")
    header = {"a": entry("BF16", (5,), (0, 10)), "b": entry("F16", (1,), (10, 12))}
    arrays = tensorfile.read(file_of(tmp_path / "a", header, halves.tobytes() + np.float16(0.25).tobytes()))
    assert arrays["a"].dtype == np.float32 and arrays["a"].tolist() == [1.5, -3.140625, np.inf, 0.0, 2.0**-133]
    assert np.signbit(arrays["a"][3]) and arrays["b"].tolist() == [0.25]


def test_a_hundred_thousand_names_of_one_region(tmp_path):
    """Case 177."""
    path = file_of(tmp_path / "a", {f"t{i}": entry() for i in range(100_000)}, bytes(8))
    with pytest.raises(UserError):
        tensorfile.read(path)


def test_empty_shapes_are_right(tmp_path):
    """Case 183."""
    header = {"a": entry(shape=(2, 0), offsets=(0, 0)), "b": entry(shape=(), offsets=(0, 4))}
    arrays = tensorfile.read(file_of(tmp_path / "a", header, struct.pack("<f", 2.5)))
    assert arrays["a"].shape == (2, 0) and arrays["b"].shape == () and arrays["b"] == 2.5


def test_every_flipped_byte_is_noticed(tmp_path):
    """Case 194."""
    content = tensorfile.pack({"a": np.arange(40, dtype=np.float32), "b": np.arange(4)})
    path = tmp_path / "a"
    start = 8 + int.from_bytes(content[:8], "little")
    for at in range(start, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(UserError, match="is damaged: its contents do not have the hash"):
            tensorfile.read(path)


def test_strange_names_are_only_names(tmp_path):
    """Case 189."""
    names = ["../../x", "a\0b", "n" * 10_000, "__class__", "/etc/passwd"]
    path = tmp_path / "a"
    path.write_bytes(tensorfile.pack({name: np.ones(1) for name in names}))
    assert sorted(tensorfile.read(path)) == sorted(names) and os.listdir(tmp_path) == ["a"]


def test_no_pickle_on_the_way(trained):
    """Whatever is loaded or resumed, nothing imports or calls pickle, or anything built on it. Case 191."""
    code = (
        "import sys; from pathlib import Path\n"
        "from minigpt import checkpoint, resume, snapshots, tensorfile\n"
        "import numpy, pickle, tokenizers\n"
        "def no(*a, **k): raise AssertionError('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = numpy.load = no\n"
        "for name in ('pickle', '_pickle', 'shelve'): sys.modules.pop(name, None)\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('pickle', '_pickle', 'dill', 'cloudpickle', 'joblib', 'shelve', 'torch'): no()\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.addaudithook(lambda event, _: no() if event == 'pickle.find_class' else None)\n"
        "out = Path(sys.argv[1])\n"
        "checkpoint.load(out); path, _ = resume.newest(out); checkpoint.load(path); checkpoint.read_train_config(path)\n"
        "tensorfile.read(path / resume.OPTIMIZER); checkpoint.read_json(path / resume.STATE)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(trained)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "last.ckpt", "arrays.npz"])
def test_pickles_are_refused_with_a_hint(tmp_path, name):
    """Cases 191 and 192."""
    from minigpt import checkpoint

    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(UserError, match=f"has {name} but no model.safetensors: files that could run code .* never opened here"):
        checkpoint.load(tmp_path)
