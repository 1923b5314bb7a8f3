"""Files arrive in a real archive as they are; what it refuses is told, file by file."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.optional import needs

needs("pynetdicom")

from streamseg.core.errors import SinkError, SourceError, UsageError  # noqa: E402
from streamseg.dicom_network import sender  # noqa: E402
from streamseg.dicom_network.peer import Peer  # noqa: E402
from streamseg.dicom_network.sender import Sent, send  # noqa: E402
from streamseg.sinks.dicom import ReportSink, SegmentationSink  # noqa: E402
from tests.cli.test_replay_dicom import write_cine  # noqa: E402
from tests.dicom_network.counterparts import archive, free_port  # noqa: E402
from tests.sinks.dicom.cases import CINE, ENGINE, disc, result  # noqa: E402


def write_results(folder: Path) -> list[Path]:
    paths = [folder / "a-seg.dcm", folder / "a-sr.dcm"]
    for path, kind in zip(paths, (SegmentationSink, ReportSink), strict=True):
        sink = kind(path, CINE, ENGINE)
        sink.write(result(0, disc((60, 90), (30, 30))))
        sink.close()
    return paths


def test_segmentation_report_and_cine_arrive_as_they_are(tmp_path: Path) -> None:
    paths = [*write_results(tmp_path), write_cine(tmp_path / "cine.dcm", 3)]
    with archive(tmp_path / "archive") as peer:
        assert list(send(paths, peer)) == [Sent(path) for path in paths]
    stored = {dcmread(path).SOPInstanceUID: dcmread(path) for path in (tmp_path / "archive").iterdir()}
    for path in paths:
        sent = dcmread(path)
        there = stored[sent.file_meta.MediaStorageSOPInstanceUID]
        assert there.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert there.get("PixelData") == sent.get("PixelData")
        assert str(there.PatientName) == str(sent.PatientName)


def test_a_syntax_that_the_archive_does_not_take_is_named_and_the_rest_arrives(tmp_path: Path) -> None:
    cine, *results = write_cine(tmp_path / "cine.dcm", 3), *write_results(tmp_path)
    with archive(tmp_path / "archive", "+x=") as peer:  # uncompressed only
        first, *others = send([cine, *results], peer)
    assert "does not accept Ultrasound Multi-frame" in first.reason
    assert "JPEG Baseline" in first.reason
    assert [sent.reason for sent in others] == ["", ""]


def test_more_kinds_than_an_association_has_contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MAX_CONTEXTS", 1)
    paths = [*write_results(tmp_path), write_cine(tmp_path / "cine.dcm", 3)]
    with archive(tmp_path / "archive") as peer:
        assert [sent.reason for sent in send(paths, peer)] == ["", "", ""]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves its socket
def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    paths = write_results(tmp_path)
    with pytest.raises(SinkError, match="cannot be reached"):
        list(send(paths, Peer("PACS", "127.0.0.1", free_port())))


def test_an_archive_that_accepts_the_connection_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("PACS", "127.0.0.1", silent.getsockname()[1])
        with pytest.raises(SinkError, match="took the connection and gave no answer"):
            list(send(write_results(tmp_path), peer))


def test_an_archive_that_refuses_or_aborts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ANSWER_S", 1.0)
    paths = write_results(tmp_path)
    # storescp closes as soon as it has refused, so its refusal may be lost.
    refused = "refuses the association|took the connection and gave no answer"
    with archive(tmp_path / "refuses", "--refuse") as peer, pytest.raises(SinkError, match=refused):
        list(send(paths, peer))
    with archive(tmp_path / "aborts", "--abort-during") as peer:
        reasons = [sent.reason for sent in send(paths, peer)]
    assert len(reasons) == 2
    assert all("or left" in reason or "ended the association" in reason for reason in reasons)


def test_what_is_not_dicom_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    wrong = tmp_path / "a.txt"
    wrong.write_text("no DICOM at all" * 20)
    with archive(tmp_path / "archive") as peer:
        with pytest.raises(SourceError, match=r"a\.txt"):
            list(send([*write_results(tmp_path), wrong], peer))
        with pytest.raises(UsageError, match="no such file"):
            list(send([tmp_path / "b.dcm"], peer))
    assert list((tmp_path / "archive").iterdir()) == []


def test_stopping_ends_after_the_file_in_progress(tmp_path: Path) -> None:
    paths, stop = write_results(tmp_path), threading.Event()
    with archive(tmp_path / "archive") as peer:
        sending = send(paths, peer, stop=stop)
        assert next(sending) == Sent(paths[0])
        stop.set()
        assert list(sending) == []
    assert len(list((tmp_path / "archive").iterdir())) == 1


def test_a_large_file_is_not_in_memory_as_a_whole(tmp_path: Path) -> None:
    images = [np.full((512, 512, 3), 9, np.uint8)] * 2
    assert sender._config.STORE_SEND_CHUNKED_DATASET
    cine = write_cine(tmp_path / "cine.dcm", images=images)
    with archive(tmp_path / "archive") as peer:
        assert [sent.reason for sent in send([cine], peer)] == [""]
