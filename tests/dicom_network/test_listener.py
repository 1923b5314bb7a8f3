"""A scanner's cines arrive whole or not at all, whatever it sends and however it ends."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UltrasoundMultiFrameImageStorage

from tests.optional import needs

needs("pynetdicom")

from pynetdicom import AE  # noqa: E402

from streamseg.core.errors import UsageError  # noqa: E402
from streamseg.dicom_network import listener  # noqa: E402
from streamseg.dicom_network.listener import Listener  # noqa: E402
from streamseg.dicom_network.peer import VERIFICATION, Peer  # noqa: E402
from streamseg.dicom_network.sender import send  # noqa: E402
from streamseg.dicom_network.spool import Spool  # noqa: E402
from tests.cli.test_replay_dicom import write_cine  # noqa: E402
from tests.dicom_network.counterparts import scan, scanner  # noqa: E402
from tests.full_disk import small_files  # noqa: E402
from tests.waiting import wait_for  # noqa: E402

UID = "1.2.3.12"


class Running:
    """A listener with its spool and what it said."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.spool = Spool(root)
        self.listener = Listener(
            self.spool, title="STREAMSEG", address="127.0.0.1", port=0, say=self.said.append, **options
        )
        self.port = self.listener.port
        self.peer = Peer("STREAMSEG", "127.0.0.1", self.port)

    def heard(self, words: str) -> str:
        """Wait for a message with these words."""
        return wait_for(lambda: next((line for line in self.said if words in line), ""), words)

    @property
    def parts(self) -> list[Path]:
        return list((self.spool.root / "incoming").iterdir())


@contextmanager
def listening(root: Path, **options: Any) -> Iterator[Running]:
    running = Running(root, **options)
    try:
        yield running
    finally:
        running.listener.close()
        running.spool.close()


def test_a_cine_of_a_scanner_arrives_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cine = write_cine(tmp_path / "cine.dcm", 5)
    with caplog.at_level(logging.DEBUG), listening(tmp_path / "spool") as running:
        assert scan(running.port, cine)[0] == 0
        assert running.listener.received.get(timeout=10) == UID
        assert running.spool.waiting() == [UID]
        wait_for(lambda: not running.parts, "the end of the association")
        stored = dcmread(running.spool.received(UID))
    assert stored.PixelData == dcmread(cine).PixelData
    assert str(stored.PatientName) == "Doe^Jane"
    said = "\n".join([*running.said, *caplog.messages])
    assert f"received {UID} from SCANNER@127.0.0.1" in said
    assert "Doe" not in said
    assert "SECRET" not in said


def test_sending_it_again_changes_nothing_and_another_file_of_its_uid_is_refused(tmp_path: Path) -> None:
    cine, other = write_cine(tmp_path / "a.dcm", 5), write_cine(tmp_path / "b.dcm", 4)
    with listening(tmp_path / "spool") as running:
        assert scan(running.port, cine)[0] == 0
        before = running.spool.received(UID).read_bytes()
        assert scan(running.port, cine)[0] == 0
        (sent,) = send([other], running.peer)
        assert "another object of this UID (0x0111)" in sent.reason
        assert running.spool.received(UID).read_bytes() == before
        assert running.listener.received.get(timeout=10) == UID
        assert running.listener.received.empty()


def test_two_senders_of_one_uid_at_the_same_time(tmp_path: Path) -> None:
    images = [np.random.default_rng(n).integers(0, 255, (300, 400, 3), np.uint8) for n in range(12)]
    cines = [write_cine(tmp_path / f"{n}.dcm", images=images[n:]) for n in range(2)]
    with listening(tmp_path / "spool") as running:
        sending = [subprocess.Popen(scanner(running.port, cine)) for cine in cines]
        for one in sending:
            one.wait(60)
        assert running.spool.waiting() == [UID]
        stored = dcmread(running.spool.received(UID)).PixelData
        assert stored in [dcmread(cine).PixelData for cine in cines]
        assert running.heard("another file of this UID")


def test_a_sender_that_dies_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8)
    cine = write_cine(tmp_path / "cine.dcm", images=[noise] * 12)
    with listening(tmp_path / "spool") as running:
        with subprocess.Popen([*scanner(running.port, cine), "--max-send-pdu", "4096"]) as sender:
            wait_for(lambda: any(part.stat().st_size > 100_000 for part in running.parts), "the first bytes")
            sender.send_signal(signal.SIGKILL)
        assert running.heard("ended its association in the middle")
        wait_for(lambda: not running.parts, "the removal of the part")
        assert running.spool.waiting() == []
        assert scan(running.port, write_cine(tmp_path / "b.dcm", 2))[0] == 0


def test_a_sender_that_falls_silent_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "IDLE_S", 0.5)
    with listening(tmp_path / "spool") as running:
        entity = AE("SCANNER")
        entity.add_requested_context(VERIFICATION)
        association = entity.associate("127.0.0.1", running.port, ae_title="STREAMSEG")
        assert association.is_established
        wait_for(lambda: not association.is_established, "the end of the association")


def test_a_message_of_gigabytes_is_not_awaited(tmp_path: Path) -> None:
    with listening(tmp_path / "spool") as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"\x01\0\xff\xff\xff\xff" + bytes(1000))
            connection.settimeout(20)
            with suppress(ConnectionError):
                assert connection.recv(1) == b""
        assert running.heard("4294967295 bytes at once")
        assert scan(running.port, write_cine(tmp_path / "a.dcm", 2))[0] == 0


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\x04abcd", b"\x04\0\0\0\0\x02ab", b"x"]
)
def test_what_is_no_dicom_is_left(tmp_path: Path, data: bytes) -> None:
    with listening(tmp_path / "spool") as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(data)
        assert scan(running.port, write_cine(tmp_path / "a.dcm", 2))[0] == 0
        assert running.spool.waiting() == [UID]


def test_an_address_of_ipv6(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    running = Listener(spool, title="A", address="::1", port=0, say=print)
    try:
        entity = AE("SCANNER")
        entity.add_requested_context(VERIFICATION)
        association = entity.associate("::1", running.port, ae_title="A")
        assert association.is_established
        association.release()
    finally:
        running.close()
        spool.close()


def test_a_full_disk_ends_the_association_and_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    large, small = write_cine(tmp_path / "a.dcm", images=[noise] * 4), write_cine(tmp_path / "b.dcm", 2)
    with listening(tmp_path / "spool") as running:
        with small_files(60_000):
            code, said = scan(running.port, large)
            assert code != 0, said
            assert running.heard("File too large")
            wait_for(lambda: not running.parts, "the removal of the part")
        assert running.spool.waiting() == []
        assert scan(running.port, small)[0] == 0


def test_only_titles_that_are_allowed_may_send(tmp_path: Path) -> None:
    cine = write_cine(tmp_path / "cine.dcm", 2)
    with listening(tmp_path / "spool", allowed=["SCANNER"]) as running:
        code, said = scan(running.port, cine, calling="STRANGER")
        assert code != 0
        assert "Calling AE Title Not Recognized" in said
        code, said = scan(running.port, cine, called="SOMEBODY")
        assert code != 0
        assert "Called AE Title Not Recognized" in said
        assert running.spool.waiting() == []
        assert "STRANGER@127.0.0.1" in running.heard("refused an association")
        assert scan(running.port, cine)[0] == 0


def test_there_is_a_limit_of_associations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_ASSOCIATIONS", 2)
    with listening(tmp_path / "spool") as running:
        entity = AE("SCANNER")
        entity.add_requested_context(VERIFICATION)
        opened = [entity.associate("127.0.0.1", running.port, ae_title="STREAMSEG") for _ in range(3)]
        assert [one.is_established for one in opened] == [True, True, False]
        for one in opened[:2]:
            one.release()
        wait_for(
            lambda: entity.associate("127.0.0.1", running.port, ae_title="STREAMSEG").is_established, "room"
        )
        entity.shutdown()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["1.2.3.99", "../../../tmp/x"])
def test_a_file_with_another_or_an_impossible_uid_is_refused(tmp_path: Path, uid: str) -> None:
    """The command says one thing, and the data set another."""
    cine = write_cine(tmp_path / "cine.dcm", 2)
    data = dcmread(cine)
    data.file_meta.MediaStorageSOPInstanceUID = uid
    data.save_as(cine)
    with listening(tmp_path / "spool") as running:
        entity = AE("SCANNER")
        entity.add_requested_context(UltrasoundMultiFrameImageStorage, data.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", running.port, ae_title="STREAMSEG")
        status = association.send_c_store(cine).get("Status")
        association.release()
        assert status in (0xA900, 0xC000)
        assert running.spool.waiting() == []
        assert running.heard("refused")
    assert not (tmp_path.parent / "tmp").exists()


def test_a_kind_that_is_no_cine_is_not_accepted(tmp_path: Path) -> None:
    from tests.dicom_network.test_sender import write_results

    with listening(tmp_path / "spool") as running:
        reasons = [sent.reason for sent in send(write_results(tmp_path), running.peer)]
    assert all("does not accept" in reason for reason in reasons)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with listening(tmp_path / "spool") as running, pytest.raises(UsageError, match=f"port {running.port}"):
        Listener(running.spool, title="A", address="127.0.0.1", port=running.port, say=print)


def test_closing_is_quick_while_a_sender_is_connected(tmp_path: Path) -> None:
    running = Running(tmp_path / "spool")
    entity = AE("SCANNER")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", running.port, ae_title="STREAMSEG")
    began = time.monotonic()
    running.listener.close()
    running.spool.close()
    assert time.monotonic() - began < 20
    wait_for(lambda: not association.is_established, "the abort")
