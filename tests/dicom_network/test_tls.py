"""TLS with DCMTK's programs on the other side; certificates that cannot be used are told in one line."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.optional import needs

needs("pynetdicom")

from streamseg.core.errors import SinkError, UsageError  # noqa: E402
from streamseg.dicom_network import listener as listener_module  # noqa: E402
from streamseg.dicom_network.peer import Peer  # noqa: E402
from streamseg.dicom_network.sender import Sent, send  # noqa: E402
from streamseg.dicom_network.tls import KEY_PASSWORD, TlsFiles, listener_context, sender_context  # noqa: E402
from tests.cli.test_replay_dicom import write_cine  # noqa: E402
from tests.dicom_network.certificates import Authority  # noqa: E402
from tests.dicom_network.counterparts import archive, scan  # noqa: E402
from tests.dicom_network.test_listener import UID, listening  # noqa: E402
from tests.dicom_network.test_sender import write_results  # noqa: E402
from tests.waiting import wait_for  # noqa: E402


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> TlsFiles:
    return authority.sign("ours")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> TlsFiles:
    return authority.sign("theirs")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return Authority.make(tmp_path_factory.mktemp("other"), "Other CA").sign("stranger")


def secured(files: TlsFiles, *more: str) -> list[str]:
    """Options of DCMTK's programs."""
    return ["+tls", str(files.key), str(files.cert), "+cf", str(files.authority), *more]


def test_results_arrive_in_an_archive_with_tls(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_results(tmp_path)
    with caplog.at_level(logging.DEBUG), archive(tmp_path / "archive", *secured(theirs)) as peer:
        assert list(send(paths, peer, tls=ours)) == [Sent(path) for path in paths]
    assert len(list((tmp_path / "archive").iterdir())) == 2
    assert "PRIVATE KEY" not in caplog.text


def test_an_archive_that_asks_for_no_certificate_needs_none(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles
) -> None:
    paths = write_results(tmp_path)
    with archive(tmp_path / "archive", *secured(theirs, "-ic")) as peer:
        assert list(send(paths, peer, tls=TlsFiles(authority=ours.authority))) == [Sent(p) for p in paths]


def test_the_name_in_the_certificate_counts_unless_another_is_given(
    tmp_path: Path, authority: Authority, ours: TlsFiles
) -> None:
    paths = write_results(tmp_path)
    named = authority.sign("named", names="DNS:pacs.hospital")
    with archive(tmp_path / "archive", *secured(named)) as peer:
        with pytest.raises(SinkError, match=r"not valid for '127\.0\.0\.1'.*--tls-name"):
            list(send(paths, peer, tls=ours))
        for name in ("pacs.hospital", "any"):
            assert list(send(paths, peer, tls=replace(ours, name=name))) == [Sent(path) for path in paths]


def test_an_archive_of_another_authority_or_that_has_expired_is_not_trusted(
    tmp_path: Path, authority: Authority, ours: TlsFiles, stranger: TlsFiles
) -> None:
    paths = write_results(tmp_path)
    with (
        archive(tmp_path / "a", *secured(stranger)) as peer,
        pytest.raises(SinkError, match=r"PACS@.* is not accepted \(self-signed certificate.*--tls-ca"),
    ):
        list(send(paths, peer, tls=ours))
    expired = secured(authority.sign("expired", days=-1), "-ic")
    with archive(tmp_path / "b", *expired) as peer, pytest.raises(SinkError, match=r"expired.*renew"):
        list(send(paths, peer, tls=ours))
    assert list((tmp_path / "a").iterdir()) == []


def test_an_archive_that_does_not_trust_us_says_so(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles, stranger: TlsFiles
) -> None:
    paths = write_results(tmp_path)
    with archive(tmp_path / "archive", *secured(theirs)) as peer:
        for files in (replace(stranger, authority=ours.authority), TlsFiles(authority=ours.authority)):
            with pytest.raises(SinkError, match=r"refuses the TLS connection.*--tls-cert"):
                list(send(paths, peer, tls=files))


def test_an_archive_without_tls_is_told_from_one_that_is_away(tmp_path: Path, ours: TlsFiles) -> None:
    paths = write_results(tmp_path)
    with (
        archive(tmp_path / "archive") as peer,
        pytest.raises(SinkError, match=r"PACS@.* does not answer in TLS"),
    ):
        list(send(paths, peer, tls=ours))


def test_a_scanner_with_a_trusted_certificate_may_send_and_no_other(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles, stranger: TlsFiles
) -> None:
    cine = write_cine(tmp_path / "cine.dcm", 3)
    with listening(tmp_path / "spool", tls=ours) as running:
        for options in ([], secured(replace(stranger, authority=ours.authority))):
            assert scan(running.port, *options, cine)[0] != 0
            assert "TLS: " in running.heard("refused a connection of 127.0.0.1")
            running.said.clear()
        assert running.spool.waiting() == []
        code, said = scan(running.port, *secured(theirs), cine)
        assert code == 0, said
        assert running.spool.waiting() == [UID]


def test_a_caller_that_never_begins_tls_keeps_nobody_waiting(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    cine = write_cine(tmp_path / "cine.dcm", 2)
    with listening(tmp_path / "spool", tls=ours) as running:
        with socket.create_connection(("127.0.0.1", running.port)):
            assert scan(running.port, *secured(theirs), cine)[0] == 0
        monkeypatch.setattr(listener_module, "ANSWER_S", 0.2)
        with socket.create_connection(("127.0.0.1", running.port)) as silent:
            assert running.heard("refused a connection")
            wait_for(lambda: silent.recv(1) == b"", "the end of the connection")


def test_closing_does_not_wait_for_a_caller_that_never_begins_tls(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "ANSWER_S", 1000.0)  # longer than a test may take
    cine = write_cine(tmp_path / "cine.dcm", 2)
    with contextlib.ExitStack() as silent, listening(tmp_path / "spool", tls=ours) as running:
        silent.enter_context(socket.create_connection(("127.0.0.1", running.port)))
        assert scan(running.port, *secured(theirs), cine)[0] == 0  # after it, so it was accepted


def test_both_of_our_ends_speak_tls(tmp_path: Path, ours: TlsFiles, theirs: TlsFiles) -> None:
    cine = write_cine(tmp_path / "cine.dcm", 3)
    with listening(tmp_path / "spool", tls=ours) as running:
        assert list(send([cine], running.peer, tls=theirs)) == [Sent(cine)]
        with pytest.raises(SinkError, match="gave no answer"):
            list(send([cine], running.peer))
    with pytest.raises(SinkError, match="cannot be reached"):
        list(send([cine], Peer("STREAMSEG", "127.0.0.1", running.port), tls=theirs))


def test_files_that_cannot_be_used_are_one_line(
    tmp_path: Path, authority: Authority, ours: TlsFiles, theirs: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, open_key = tmp_path / "text.pem", tmp_path / "open.pem"
    text.write_text("no certificate")
    shutil.copy(str(ours.key), open_key)
    open_key.chmod(0o644)
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n")
    locked = authority.sign("locked", password="Pass-4711")
    expired = authority.sign("expired-own", days=-1)
    for files, says in (
        (replace(ours, cert=tmp_path / "none.pem"), "no such file: --tls-cert"),
        (replace(ours, key=tmp_path / "none.pem"), "no such file: --tls-key"),
        (replace(ours, authority=tmp_path / "none.pem"), "no such file: --tls-ca"),
        (replace(ours, cert=text), "holds no certificate in PEM"),
        (replace(ours, key=text), "holds no private key in PEM"),
        (replace(ours, authority=broken), "--tls-ca .* cannot be read"),
        (replace(ours, key=theirs.key), "does not belong to"),
        (replace(ours, key=open_key), "everybody here may read"),
        (replace(ours, key=None), "belong together"),
        (expired, "has expired; renew it"),
        (locked, f"put its password into {KEY_PASSWORD}"),
    ):
        for make in (sender_context, listener_context):
            with pytest.raises(UsageError, match=says) as refused:
                make(files)
            assert "\n" not in str(refused.value)
    monkeypatch.setenv(KEY_PASSWORD, "Pass-4711")
    assert sender_context(locked)
    monkeypatch.setenv(KEY_PASSWORD, "wrong-0815")
    with pytest.raises(UsageError, match="cannot be read") as refused:
        sender_context(locked)
    assert "0815" not in str(refused.value)
    for files in (replace(ours, cert=None, key=None), replace(ours, authority=None)):
        with pytest.raises(UsageError, match="--tls needs"):
            listener_context(files)
