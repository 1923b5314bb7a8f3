"""Files appear whole or not at all."""

import errno
from pathlib import Path

import pytest

from streamseg.core.errors import SinkError
from streamseg.core.files import write_whole


def test_a_file_and_its_folder_appear(tmp_path):
    write_whole(tmp_path / "new" / "a.bin", b"abc")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"abc"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_whole(path, b"before")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SinkError, match=r"cannot write .*a\.bin: No space left on device"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        write_whole(tmp_path / "file" / "a.bin", b"")
