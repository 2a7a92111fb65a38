"""Mutated files of every kind that is read: success, or our own error in one sentence; nothing else, in little memory."""

import json
import random
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_runs import trainer_for

from minigpt import checkpoint, snapshots, tensorfile
from minigpt.config import TrainConfig, read_config_file
from minigpt.errors import UserError
from minigpt.exchange import pretrained
from minigpt.exchange.families import gpt2
from minigpt.exchange.weights import model_of
from minigpt.lossless import char_tokenizer
from minigpt.tokenizer_file import load_tokenizer

TOKENS = (
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"18446744073709551616",
    b"9" * 400,
    b"\xff",
    b"[" * 2000,
)


def mutated(content, chance):
    """One to four changes: bits, bytes, tokens of JSON, pieces cut out, doubled or exchanged, ends cut off."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(content) + 1), k=2))
        match chance.randrange(7):
            case 0 if content:
                content[at % len(content)] ^= 1 << chance.randrange(8)
            case 1 if content:
                content[at % len(content)] = chance.randrange(256)
            case 2:
                content[at : at + chance.randrange(6)] = chance.choice(TOKENS)
            case 3:
                del content[at : min(to, at + 40)]
            case 4:
                content[at:at] = content[at : min(to, at + 200)]
            case 5:
                del content[at:]
            case _:
                content[at : at + 8] = chance.choice((0, 1, 2**31, 2**63, 2**64 - 1, chance.randrange(2**16))).to_bytes(
                    8, "little"
                )
    return bytes(content)


def readers():
    """Name -> (a right file, its name, what reads it)."""
    trainer = trainer_for(n_layer=1)
    trainer.update()
    arrays, state = trainer.state()
    weights = trainer.model.state_dict()
    files = dict(checkpoint.contents(trainer.model, char_tokenizer("abcdefghijk"), trainer.config))
    whole = [*files.items(), ("state.json", json.dumps(state).encode())]
    manifest = dict(snapshots._with_manifest(whole))["manifest.json"]  # type: ignore[call-overload]
    toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in vars(TrainConfig()).items() if value is not None).encode()

    def restore(path):
        trainer_for(n_layer=1).restore(weights, arrays, checkpoint.read_json(path))

    def config(path):
        pretrained.read_config(path)
        checkpoint.read_train_config(path.parent)

    def settings(path):
        TrainConfig(**read_config_file(path))

    def load(path):
        model_of(
            trainer.model.config, tensorfile.read(path), gpt2.FAMILY, gpt2.FAMILY.classes["GPT2LMHeadModel"], "float32", path
        )

    def optimizer(path):
        trainer_for(n_layer=1).restore(weights, tensorfile.read(path), state)

    return {
        "weights": (files["model.safetensors"], "model.safetensors", load),
        "weights without a hash": (unhashed(files["model.safetensors"]), "model.safetensors", load),
        "moments": (unhashed(tensorfile.pack(arrays)), "optimizer.safetensors", optimizer),
        "state": (json.dumps(state).encode(), "state.json", restore),
        "config.json": (files["config.json"], "config.json", config),
        "manifest": (manifest, "manifest.json", lambda path: snapshots.verify(path.parent)),
        "settings in TOML": (toml, "settings.toml", settings),
        "settings in JSON": (json.dumps(vars(TrainConfig())).encode(), "settings.json", settings),
        "tokenizer": (files["tokenizer.json"], "tokenizer.json", load_tokenizer),
    }


def unhashed(content):
    """The same file with no hash to save the reader: every check of its own has to hold."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__")
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.fixture
def memory_folder(tmp_path):
    shared = Path("/dev/shm")
    folder = shared / f"minigpt-fuzz-{tmp_path.name}-{id(tmp_path)}" if shared.is_dir() else tmp_path / "fuzz"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("count", [100, pytest.param(12_000, marks=pytest.mark.slow)])
def test_mutated_files(memory_folder, count):
    """`count` mutations of each of nine files: 900 in the ordinary run, 108,000 in the long one. Case 193."""
    chance = random.Random(11)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = accepted = 0
    with np.errstate(all="ignore"):
        for name, (right, filename, read) in readers().items():
            path = memory_folder / filename
            for other, content in (("config.json", b"{}"), ("tokenizer.json", b"{}")):
                (memory_folder / other).write_bytes(content)
            for _ in range(count):
                content = mutated(right, chance)
                path.write_bytes(content)
                try:
                    read(path)
                    accepted += 1
                except UserError as error:
                    assert len(str(error)) < 20_000, name
                    refused += 1
                except BaseException as error:
                    raise AssertionError(f"{name}: {type(error).__name__} {error}: {content!r}") from error
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{refused + accepted} files: {refused} refused, {accepted} accepted, peak memory grew by {grown / 1024:.0f} MB")
    assert refused > accepted and grown < 200 * 1024
