"""The README's Python, run as a reader would, and its promises of two commands."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "sigmoid.svg").read_text().count("<svg") == 1


def test_exactly_two_commands_for_a_fresh_machine():
    section = re.search(r"## Two commands\n(.*?)\n## ", README, re.DOTALL).group(1)
    assert re.findall(r"```sh\n(.*?)\n```", section) == ["pip install . && minigpt train", 'pip install ".[test]" && pytest']


def test_the_worked_ops_are_short():
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1:3]:
        assert len([line for line in block.splitlines() if line.strip()]) <= 20
