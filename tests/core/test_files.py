"""Files appear whole or not at all, and JSON is strict."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from streamseg.core.errors import DataError, SinkError, UsageError
from streamseg.core.files import (
    can_write,
    finite,
    parse_json,
    private_folder,
    read_file,
    read_json,
    user_folder,
    write_json,
    write_text,
    write_whole,
)
from streamseg.engines.store import default_root
from streamseg.live.config import profile_path


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


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        write_whole(tmp_path / "file" / "a.bin", b"")
    with pytest.raises(SinkError, match="cannot write"):
        write_text(tmp_path / "file" / "report.md", "text")


def test_json_comes_back_and_has_a_key_per_line(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, 2.5], "b": {"c": None}})
    assert read_json(path) == {"a": [1, 2.5], "b": {"c": None}}
    assert len(path.read_text().splitlines()) == 4
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


def test_a_missing_json_file_reads_as_none(tmp_path):
    assert read_json(tmp_path / "nothing.json") is None


@pytest.mark.parametrize("text", ['{"a": ', json.dumps([1]), ""])
def test_a_damaged_json_file_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json.*remove it"):
        read_json(path)


def test_numbers_that_are_not_finite_become_null_at_any_depth():
    value = {"a": (1.5, float("nan")), 2: {"b": [float("inf"), "x", None, True]}}
    assert finite(value) == {"a": [1.5, None], "2": {"b": [None, "x", None, True]}}
    json.dumps(finite(value), allow_nan=False)


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999", "[" * 10**5, "9" * 5000, "{", '"\\ud800'])
def test_only_strict_json_is_parsed(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its words differ
        parse_json(text)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert read_file(path, 3) == b"abc"
    with pytest.raises(OSError, match="larger than"):
        read_file(path, 2)
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            read_file(other)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_a_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "open", b"1")
        write_whole(tmp_path / "secret", b"1", private=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    path.chmod(0o640)
    write_whole(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    write_whole(path, b"3", private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """A container that runs as a number: no HOME, and no entry in the table of users."""
    for name in [*os.environ]:
        if name == "HOME" or name.startswith("XDG_"):
            monkeypatch.delenv(name)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_user_without_a_home_has_a_private_folder(no_home, tmp_path, monkeypatch):
    monkeypatch.delenv("STREAMSEG_ENGINES", raising=False)
    assert user_folder("cache") is None
    assert user_folder("config") is None
    folder = private_folder()
    assert folder == private_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("streamseg.engines.store.__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert default_root() == folder / "engines"
    monkeypatch.setenv("STREAMSEG_ENGINES", "~/engines")
    assert default_root() == Path("~/engines")
    with pytest.raises(UsageError, match="no home for profiles"):
        profile_path("a")
    assert not (tmp_path / "~").exists()


def test_a_folder_that_somebody_else_prepared_is_not_used(no_home, tmp_path):
    mine = private_folder()
    mine.chmod(0o777)
    assert private_folder() != mine
    mine.rmdir()
    (tmp_path / "elsewhere").mkdir()
    mine.symlink_to(tmp_path / "elsewhere")
    assert private_folder() != mine


def test_whether_a_folder_can_be_written(tmp_path):
    assert can_write(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert not can_write(tmp_path / "file")
    assert not can_write(tmp_path / "file" / "below")
    assert not can_write(Path("/proc/streamseg"))
