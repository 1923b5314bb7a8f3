"""The spool is private, used by one process, and whole after a crash at any moment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.core.errors import SinkError, UsageError
from streamseg.dicom_network.spool import Spool

UID = "1.2.3.4"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


def receive(spool: Spool, content: bytes = b"cine", uid: str = UID) -> str:
    part = spool.root / "incoming" / f"part-{os.urandom(4).hex()}"
    part.write_bytes(content)
    return spool.publish(part, uid)


def test_it_is_private(spool: Spool) -> None:
    folders = [spool.root, *(path for path in spool.root.iterdir() if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert Path(tempfile.gettempdir()) == spool.root / "incoming"


def test_the_temporary_folder_is_given_back(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    Spool(tmp_path / "spool").close()
    assert tempfile.gettempdir() == before


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_a_folder_that_others_may_read_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UsageError, match="chmod 700"):
        Spool(folder)
    assert folder.stat().st_mode & 0o777 == mode
    assert list(folder.iterdir()) == []


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError):
        Spool(tmp_path / "link")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError):
        Spool(tmp_path / "file")


def test_two_processes_do_not_share_it(spool: Spool) -> None:
    with pytest.raises(UsageError, match="another process"):
        Spool(spool.root)


def test_a_file_waits_once_however_often_it_comes(spool: Spool) -> None:
    assert receive(spool) == "new"
    assert receive(spool) == "same"
    assert receive(spool, b"something else") == "other"
    assert spool.waiting() == [UID]
    assert spool.received(UID).read_bytes() == b"cine"


@pytest.mark.parametrize("uid", ["../../x", "1.2/../../x", "", "a", "1.2\0"])
def test_only_a_uid_becomes_a_name(spool: Spool, uid: str) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        receive(spool, uid=uid)
    assert list((spool.root / "received").iterdir()) == []


def test_what_a_crash_left_in_the_middle_is_removed_and_the_rest_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    receive(spool)
    (spool.root / "incoming" / "part").write_bytes(b"half")
    (spool.working(UID) / "a-seg.dcm").write_bytes(b"half")
    spool.close()
    again = Spool(tmp_path / "spool")
    assert again.waiting() == [UID]
    assert list((again.root / "incoming").iterdir()) == []
    assert list((again.root / "working").iterdir()) == []
    again.close()


def test_results_replace_the_cine(spool: Spool) -> None:
    receive(spool)
    (spool.working(UID) / "a-seg.dcm").write_bytes(b"result")
    (path,) = spool.finish(UID)
    assert path.read_bytes() == b"result"
    assert (spool.waiting(), spool.finished()) == ([], [UID])
    spool.remove_results(UID)
    assert spool.finished() == []


def test_a_crash_between_results_and_removal_makes_no_second_result(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    receive(spool)
    (spool.working(UID) / "a-seg.dcm").write_bytes(b"result")
    kept = spool.received(UID).read_bytes()
    spool.finish(UID)
    spool.received(UID).write_bytes(kept)  # as if the removal had not happened
    spool.close()
    again = Spool(tmp_path / "spool")
    assert (again.waiting(), again.finished()) == ([], [UID])
    again.close()


def test_a_cine_that_fails_is_set_aside(spool: Spool) -> None:
    receive(spool)
    spool.working(UID)
    assert spool.fail(UID).read_bytes() == b"cine"
    assert spool.waiting() == []
    assert list((spool.root / "working").iterdir()) == []
