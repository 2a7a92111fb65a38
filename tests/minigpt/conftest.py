"""One small trained model for all tests that need one."""

from pathlib import Path

import pytest

TEXT = "".join(f"{i} bottles of beer on the wall,\n{i} bottles of beer.\n" for i in range(400, 0, -1))
TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "eval_batches": 2}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Token files of the tests stay among the tests' files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "bottles.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, text_file) -> Path:
    """The folder of a tiny character model after 30 steps; not to be changed."""
    from minigpt.config import TrainConfig
    from minigpt.train import train

    folder = tmp_path_factory.mktemp("model") / "tiny"
    train(TrainConfig(data=str(text_file), out=str(folder), max_steps=30, eval_interval=15, **TINY))
    return folder


@pytest.fixture
def command(capsys):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    from minigpt.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
