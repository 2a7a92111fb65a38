"""A file or a folder is the old one or the new one, whatever happens in between."""

import io
import os
import threading
from pathlib import Path

import pytest

from minigpt import files
from minigpt.files import remove_temporaries, temporary_name, write_folder, write_whole


def test_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "é")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [(28, "No space left on device"), (5, "Input/output error")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    """Case 201."""
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def fail(*_):
        raise OSError(*error)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=error[1]):
        write_whole(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_error_on_closing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """Case 201: some file systems say only then that what was written did not arrive."""

    class Failing(io.FileIO):
        def close(self):
            if not self.closed:
                super().close()
                raise OSError(5, "Input/output error")

    path = tmp_path / "a.txt"
    write_whole(path, "old")
    monkeypatch.setattr(files, "open", lambda name, mode: Failing(name, mode), raising=False)
    for write in (lambda: write_whole(path, "new"), lambda: write_folder(tmp_path / "set", [("a", b"1")])):
        with pytest.raises(OSError, match="Input/output error"):
            write()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch, call):
    write_folder(tmp_path / "old", [("a", b"1"), ("b", b"2")])

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_folder(tmp_path / "new", [("a", b"3"), ("b", b"4")])
    assert os.listdir(tmp_path) == ["old"] and (tmp_path / "old" / "b").read_bytes() == b"2"


def test_the_order_of_calls(tmp_path, monkeypatch):
    """Every file, then its folder reach the disk before the one rename, and the folder above after it. Case 199."""
    calls = []

    def watch(name, describe):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a: (calls.append(f"{name} {describe(a)}"), real(*a))[1])

    def opened(a):
        path = Path(os.readlink(f"/proc/self/fd/{a[0]}"))
        return "above" if path == tmp_path else path.name.split(".")[0] or "temporary"

    watch("fsync", opened)
    watch("rename", lambda a: a[1].name)
    watch("replace", lambda a: a[1].name)
    write_folder(tmp_path / "set", [("a", b"1"), ("b", b"2")])
    assert calls == ["fsync a", "fsync b", "fsync temporary", "rename set", "fsync above"]
    calls.clear()
    write_whole(tmp_path / "c", "3")
    assert calls == ["fsync temporary", "replace c", "fsync above"]


def test_many_writers_of_one_name(tmp_path):
    """Each has a temporary name of its own: what is read is always the whole of one of them. Case 202."""
    path = tmp_path / "a"
    texts = [str(i) * 20_000 for i in range(4)]

    def write(text):
        for _ in range(25):
            write_whole(path, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    write(texts[0])
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_dead_process_left_is_removed(tmp_path):
    """Case 203."""
    (tmp_path / ".mine.tmp").write_text("the user's")
    temporary_name(tmp_path / "a").write_text("half")
    (folder := temporary_name(tmp_path / "step-00000001")).mkdir()
    (folder / "model.safetensors").write_text("half")
    remove_temporaries(tmp_path)
    assert os.listdir(tmp_path) == [".mine.tmp"]
    remove_temporaries(tmp_path / "none")
