"""Damaged tokenizer files: UserError or a tokenizer that works, in bounded memory; nothing else, whatever the damage."""

import json
import resource
from collections import Counter
from copy import deepcopy

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.lossless import bpe_tokenizer, byte_tokenizer, char_tokenizer
from minigpt.tokenizer_file import load_tokenizer
from minigpt.vocabularies import LOSSY, Vocabulary, learn

TEXT = "the end of the story é 😀 "
ODD = [None, True, -1, 0, 1, 2**31, 2**32, 2**63, 2**64, 10**40, 1e308, "", "a", "Ġ", "é", "<0x-1>", "\ud800", "x" * 10_000]
ODD += [[], {}, [[]], {"type": "BPE"}, {"type": "Sequence", "normalizers": []}, {"Fixed": 10**12}, ["a", "b"], [1, 2], [None]]
FAR = {"strategy": {"Fixed": 10**12}, "direction": "Left", "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
DIALS = {
    "padding": FAR | {"pad_to_multiple_of": None},
    "truncation": {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "normalizer": {"type": "Lowercase"},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
}


def originals():
    made = [
        char_tokenizer("abc\n"),
        char_tokenizer(TEXT, ["<|endoftext|>"]),
        byte_tokenizer(),
        bpe_tokenizer([TEXT * 9], 270, ["<|endoftext|>"]),
        *(learn(Vocabulary(kind, 60, "bert"), [TEXT * 9], set(TEXT)) for kind in LOSSY),
        learn(Vocabulary("unigram", 140, "t5"), [TEXT * 9], set(TEXT)),
    ]
    return [tokenizer.backend.to_str() for tokenizer in made]


def nodes(value, found=None):
    """Every container inside a description."""
    found = [] if found is None else found
    if isinstance(value, (dict, list)) and value:
        found.append(value)
        for item in value.values() if isinstance(value, dict) else value:
            nodes(item, found)
    return found


def damaged_value(text, rng):
    """A description with one to three of its values replaced, removed or doubled."""
    description = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        inside = nodes(description)
        place = inside[min(int(rng.exponential(4)), len(inside) - 1)]
        key = list(place)[rng.integers(len(place))] if isinstance(place, dict) else int(rng.integers(len(place)))
        action = rng.integers(8)
        if action == 0:
            del place[key]
        elif action == 1 and isinstance(place, list):
            place.append(deepcopy(place[key]))
        elif action == 2 and isinstance(place, dict):
            place[str(ODD[rng.integers(len(ODD))])] = deepcopy(place[key])
        elif action == 3 and place is description:
            name = list(DIALS)[rng.integers(len(DIALS))]
            place[name] = deepcopy(DIALS[name])
        else:
            place[key] = deepcopy(ODD[rng.integers(len(ODD))])
        if not description:
            break
    return json.dumps(description, ensure_ascii=bool(rng.integers(2))).encode("utf-8", "surrogatepass")


def damaged_bytes(text, rng):
    """The file with bytes changed, cut out, doubled or cut off."""
    raw = bytearray(text.encode())
    for _ in range(rng.integers(1, 6)):
        place, length = int(rng.integers(len(raw) + 1)), int(rng.integers(1, 9))
        action = rng.integers(5)
        if action == 0:
            raw[place : place + length] = rng.bytes(length)
        elif action == 1:
            del raw[place : place + length]
        elif action == 2:
            raw[place:place] = raw[place : place + length]
        elif action == 3:
            raw[place:place] = rng.choice([b"[" * 200, b"9" * 40, b'"', b"{", b"}", b",", b"\x00", b"\xff", b"\\u", b"null"])
        elif rng.random() < 0.1:
            del raw[place:]
    return bytes(raw)


def outcome(path, content):
    """How reading the file ends; whatever is read must write and read texts."""
    path.write_bytes(content)
    try:
        tokenizer = load_tokenizer(path)
    except UserError as error:
        assert len(str(error)) < 2000 and "\n" not in str(error)
        return "refused"
    assert tokenizer.vocab_size == len(tokenizer.pieces) > 0
    try:
        tokenizer.decode(range(tokenizer.vocab_size))
        ids, pair = tokenizer.encode(TEXT), tokenizer.encode_pair(TEXT, "a", length=30)
    except UserError:
        return "read"
    assert ids.ndim == 1 and len(ids) <= 3 * len(TEXT.encode())
    assert len(pair) <= 30 and len(pair.segments) == len(pair.texts) == len(pair.offsets) == len(pair)
    assert not len(ids) or 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
    return "read"


def attack(path, count, seed):
    rng, files = np.random.default_rng(seed), originals()
    outcomes = Counter()
    for i in range(count):
        damage = damaged_value if i % 2 else damaged_bytes
        outcomes[outcome(path, damage(files[rng.choice(len(files), p=[0.25, 0.2, 0.05, 0.05, 0.15, 0.1, 0.1, 0.1])], rng))] += 1
    return outcomes


def test_damaged_files(tmp_path):
    """Case 197."""
    outcomes = attack(tmp_path / "tokenizer.json", 1500, 0)
    assert min(outcomes["refused"], outcomes["read"]) > 50


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files(tmp_path):
    """Cases 193 and 197."""
    attack(tmp_path / "tokenizer.json", 2000, 1)  # whatever is allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = attack(tmp_path / "tokenizer.json", 100_000, 2)
    assert outcomes.total() == 100_000 and min(outcomes.values()) > 5000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_files_that_ask_for_too_much(tmp_path):
    path = tmp_path / "tokenizer.json"
    for name, value in DIALS.items():
        content = json.dumps(json.loads(originals()[0]) | {name: value})
        path.write_text(content)
        try:
            assert len(load_tokenizer(path).encode("abc")) == 3
        except UserError:
            pass
    path.write_bytes(b"[" * 1_000_000)
    with pytest.raises(UserError):
        load_tokenizer(path)
    path.write_bytes(b" " * (65 << 20))
    with pytest.raises(UserError, match="MiB"):
        load_tokenizer(path)
