"""Servers that answer what real ones rarely do: each gives one clear line."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from streamseg.capture.rtsp.address import RtspAddress
from streamseg.capture.rtsp.session import RtspSession
from streamseg.capture.rtsp.source import RtspSource
from streamseg.core.errors import SourceError
from tests.rtsp_server.scripted import SDP, Scripted, answer

GOODBYE = b"\x80\xc9\0\1" + bytes(4) + b"\x81\xcb\0\1" + bytes(4)
PATIENT = 60.0


def why(script: dict[str, bytes] | None = None, *, after_play: bytes = b"", seconds: float = PATIENT) -> str:
    """What is said about a server that behaves like this."""
    with Scripted(script, after_play=after_play) as server:
        with pytest.raises(SourceError) as caught:
            RtspSource(server.url + "?password=hush", open_seconds=seconds)
        text = str(caught.value)
    assert text.startswith(server.url + ": ")
    assert "\n" not in text
    assert "hush" not in text
    return text


@pytest.mark.parametrize(
    ("method", "reply", "said"),
    [
        ("OPTIONS", b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no RTSP"),
        ("OPTIONS", b"\x16\3\1\2\0\1", "is no RTSP"),
        ("DESCRIBE", answer("404 Not Found ?password=hush"), "no stream of this path (404)"),
        ("DESCRIBE", answer("302 Moved", Location="rtsp://u:hush@b/"), "another address (302)"),
        ("DESCRIBE", answer("401 No", WWW_Authenticate='Basic realm="x"'), "wants a user and password (401)"),
        ("DESCRIBE", answer("403 Forbidden"), "(403)"),
        ("DESCRIBE", answer(body=SDP.replace("video", "audio")), "no video stream (only audio)"),
        ("DESCRIBE", answer(body=SDP.replace("H264", "VP8")), "sends video as VP8"),
        ("DESCRIBE", answer(body="\0\1\2"), "no video stream (nothing at all)"),
        ("SETUP", answer("461 Unsupported transport"), "over this transport (461)"),
        ("PLAY", answer("500 hush"), "refused with status 500"),
    ],
)
def test_answers_that_end_it(method: str, reply: bytes, said: str) -> None:
    assert said in why({method: reply})


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
def test_silence_ends_in_time(method: str) -> None:
    assert "does not answer" in why({method: b""}, seconds=0.3)


def test_a_stream_that_never_shows_anything() -> None:
    assert "nothing arrived within 0.3 s" in why(seconds=0.3)
    noise = b"$\0\0\x20\x80\x60\0\1" + bytes(28)
    assert "no picture that can be decoded" in why(after_play=noise * 50, seconds=0.3)


def test_goodbye_of_the_server_is_heard() -> None:
    packet = b"$\1" + len(GOODBYE).to_bytes(2) + GOODBYE
    assert "the server ended the stream" in why(after_play=packet)


def test_damage_between_packets_ends_it() -> None:
    assert "no RTSP, or was damaged" in why(after_play=b"$\0\0\2ab\0\0\0")


def test_session_is_kept_alive_and_left() -> None:
    script = {
        "OPTIONS": answer(Public="DESCRIBE, SETUP, PLAY, GET_PARAMETER"),
        "SETUP": answer(Session="77;timeout=2", Transport="RTP/AVP/TCP;interleaved=4-5"),
    }
    with Scripted(script) as server:
        session = RtspSession(RtspAddress.parse(server.url), "tcp", time.monotonic() + PATIENT)
        deadline = time.monotonic() + PATIENT
        while not any("GET_PARAMETER" in text for text in server.requests) and time.monotonic() < deadline:
            session.receive(0.2)
        session.close()
        while not server.requests[-1].startswith("TEARDOWN") and time.monotonic() < deadline:
            time.sleep(0.01)
        methods = [text.split()[0] for text in server.requests]
    assert methods[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert methods[-2:] == ["GET_PARAMETER", "TEARDOWN"]
    assert all("Session: 77" in text for text in server.requests[3:])


def test_forgotten_session_ends_it() -> None:
    script = {
        "OPTIONS": answer("200 OK", Public="GET_PARAMETER"),
        "SETUP": answer(Session="77;timeout=1"),
        "GET_PARAMETER": answer("454 Session Not Found"),
    }
    assert "forgotten the session (454)" in why(script)


def test_encrypted_streams_need_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve_tls, args=(listener, context, said), daemon=True)
        thread.start()
        url = f"rtsps://localhost:{listener.getsockname()[1]}/live"
        with pytest.raises(SourceError, match=r"certificate of .* is not trusted"):
            RtspSource(url, open_seconds=PATIENT)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(SourceError, match="404"):
            RtspSource(url, open_seconds=PATIENT)
        thread.join(PATIENT)
    assert said[0].startswith(b"OPTIONS rtsps://localhost")


def test_plain_server_behind_an_encrypted_address_is_told() -> None:
    with Scripted() as server, pytest.raises(SourceError, match=r"does not speak TLS|does not answer"):
        RtspSource(server.url.replace("rtsp", "rtsps"), open_seconds=1)


def _serve_tls(listener: socket.socket, context: ssl.SSLContext, said: list[bytes]) -> None:
    for _ in range(2):
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                said.append(secured.recv(4096))
                secured.sendall(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")
        except OSError:
            connection.close()  # the client did not trust us
