"""Servers that answer what real ones rarely do: each gives one clear line."""

from __future__ import annotations

import gc
import re
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
from streamseg.core.errors import SourceError, UsageError
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
        ("OPTIONS", b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not RTSP"),
        ("OPTIONS", b"\x16\3\1\2\0\1", "is not RTSP"),
        ("DESCRIBE", answer("404 Not Found ?password=hush"), "no stream of this path (404)"),
        ("DESCRIBE", answer("302 Moved"), "another address (302), but gives none"),
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
    assert "no frame that can be decoded" in why(after_play=noise * 50, seconds=0.3)


def test_goodbye_of_the_server_is_heard() -> None:
    packet = b"$\1" + len(GOODBYE).to_bytes(2) + GOODBYE
    assert "the server ended the stream" in why(after_play=packet)


def test_damage_between_packets_ends_it() -> None:
    assert "not RTSP, or was damaged" in why(after_play=b"$\0\0\2ab\0\0\0")


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
        thread = threading.Thread(target=_serve_tls, args=(listener, context, said, 3), daemon=True)
        thread.start()
        url = f"rtsps://localhost:{listener.getsockname()[1]}/live"
        with pytest.raises(SourceError, match=r"certificate of .* is not trusted"):
            RtspSource(url, open_seconds=PATIENT)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(SourceError, match="404"):
            RtspSource(url, open_seconds=PATIENT)
        thread.join(PATIENT)
    assert said[-1].startswith(b"OPTIONS rtsps://localhost")


@pytest.mark.parametrize("name", ["DNS:other", "IP:127.0.0.2"])
def test_a_certificate_for_another_name_can_be_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -addext subjectAltName={name}"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve_tls, args=(listener, context, [], 4), daemon=True)
        serving.start()
        url = f"rtsps://127.0.0.1:{listener.getsockname()[1]}/live"
        with pytest.raises(
            SourceError, match=r"is for another name; .* fingerprint [0-9a-f]{64} is"
        ) as caught:
            RtspSource(url, open_seconds=PATIENT)
        shown = re.findall(r"[0-9a-f]{64}", str(caught.value))[0]
        for pin, said in ((shown.upper(), "404"), ("ab" * 32, "is not the pinned one")):
            monkeypatch.setenv("STREAMSEG_RTSP_FINGERPRINT", f"SHA256:{pin}")
            with pytest.raises(SourceError, match=said):
                RtspSource(url, open_seconds=PATIENT)


def test_encrypted_addresses_take_no_udp() -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        RtspSource("rtsps://127.0.0.1:1/live", transport="udp")


def redirect(location: str) -> dict[str, bytes]:
    return {"DESCRIBE": answer("302 Moved", Location=location)}


@pytest.mark.parametrize("relative", [False, True])
def test_redirects_are_followed(relative: bool) -> None:
    """A server on another port is not the same host's service for certain, but it is the same host."""
    with Scripted({"DESCRIBE": answer("404 Not here")}) as target:
        location = "/other?x=1" if relative else target.url.replace("/live", "/other")
        with Scripted(redirect(location)) as server:
            address = server.url.replace("rtsp://", "rtsp://me:hush@")
            with pytest.raises(
                SourceError, match="sent us on more than 5 times" if relative else "404"
            ) as caught:
                RtspSource(address, open_seconds=PATIENT)
            asked = server.requests if relative else target.requests
    assert "hush" not in str(caught.value)
    assert any("/other" in text.splitlines()[0] for text in asked)


def test_credentials_stay_with_their_host() -> None:
    address = RtspAddress.parse("rtsp://me:hush@host:8554/a/b?x=1")
    assert address.redirected("rtsp://host/c").user == "me"
    assert address.redirected("c").url == "rtsp://host:8554/a/c"
    assert address.redirected("?y=2").url == "rtsp://host:8554/a/b?y=2"
    assert address.redirected("//other/c").url == "rtsp://other:554/c"
    assert address.redirected("rtsp://other/c").user is None
    assert address.redirected("rtsp://you:there@other/c").user == "you"
    assert RtspAddress.parse("rtsps://me:hush@host/a").redirected("rtsp://host/a").user is None


@pytest.mark.parametrize("location", ["http://host/", "rtsp://", "rtsp://[x", "rtsp://h:99999/", "\x7f"])
def test_redirects_to_nowhere_are_named(location: str) -> None:
    assert "which is not RTSP" in why(redirect(location))


@pytest.mark.parametrize(
    "header",
    ["server_port=70000-70001", "server_port=0x12-5", f"server_port={'9' * 5000}", "server_port=1-99999"],
)
def test_ports_that_make_no_sense_are_named(header: str) -> None:
    script = {"SETUP": answer(Session="77", Transport=f"RTP/AVP;unicast;{header}")}
    with Scripted(script) as server, pytest.raises(SourceError, match=r"makes no sense|nothing arrived"):
        RtspSource(server.url, transport="udp", open_seconds=1)


def datagrams(transport: str, send_from: str = "127.0.0.1") -> tuple[list[bytes], str]:
    """What a session over UDP takes of one datagram that is sent to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, Scripted({}) as server:
        sender.bind((send_from, 0))
        port = sender.getsockname()[1]
        server.script["SETUP"] = answer(Session="77", Transport=transport.replace("PORT", str(port)))
        session = RtspSession(RtspAddress.parse(server.url), "udp", time.monotonic() + PATIENT)
        asked = next(text for text in server.requests if text.startswith("SETUP"))
        target = int(re.findall(r"client_port=(\d+)", asked)[0])
        sender.sendto(b"\x80\x60\0\1" + bytes(12), ("127.0.0.1", target))
        found = [data for _ in range(3) for data, _ in session.receive(0.1)]
        strangers = session.strangers
        session.close()
    return found, strangers


@pytest.mark.parametrize(
    ("transport", "send_from", "taken"),
    [
        ("RTP/AVP;unicast;server_port=PORT-1", "127.0.0.1", True),
        ("RTP/AVP;unicast;server_port=PORT", "127.0.0.1", True),
        ("RTP/AVP;unicast", "127.0.0.1", True),
        ("RTP/AVP;unicast;server_port=9-10", "127.0.0.1", False),
        ("RTP/AVP;unicast;server_port=PORT-1", "127.0.1.1", False),
        ("RTP/AVP;unicast;source=127.0.1.1;server_port=PORT-1", "127.0.1.1", True),
        ("RTP/AVP;unicast;source=127.0.1.1;server_port=PORT-1", "127.0.0.1", False),
    ],
)
def test_only_the_server_s_own_datagrams_count(transport: str, send_from: str, taken: bool) -> None:
    found, strangers = datagrams(transport, send_from)
    assert bool(found) == taken
    assert strangers.startswith(send_from) != taken


def test_media_from_another_address_is_named() -> None:
    """Some servers answer on 127.0.0.1 and send from 127.0.1.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, Scripted({}) as server:
        sender.bind(("127.0.1.1", 0))
        port = sender.getsockname()[1]
        server.script["SETUP"] = answer(
            Session="77", Transport=f"RTP/AVP;unicast;server_port={port}-{port + 1}"
        )
        done = threading.Event()

        def send() -> None:
            while not done.wait(0.02):
                asked = [text for text in server.requests if text.startswith("SETUP")]
                if asked:
                    target = int(re.findall(r"client_port=(\d+)", asked[0])[0])
                    sender.sendto(b"\x80\x60\0\1" + bytes(12), ("127.0.0.1", target))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            with pytest.raises(SourceError, match=r"UDP packets come from 127\.0\.1\.1:\d+"):
                RtspSource(server.url, transport="udp", open_seconds=1)
        finally:
            done.set()
            thread.join()


def test_another_sender_than_the_announced_one_is_left_out() -> None:
    script = {"SETUP": answer(Session="77", Transport="RTP/AVP;unicast;ssrc=0000ABCD")}
    with Scripted(script) as server:
        session = RtspSession(RtspAddress.parse(server.url), "udp", time.monotonic() + PATIENT)
        assert session.sender == 0xABCD
        session.close()


def flood(server: Scripted, chunk: bytes) -> threading.Event:
    """Have the server send this for ever, after OPTIONS, until the event is set."""
    stop = threading.Event()
    server.flood = chunk, stop
    return stop


@pytest.mark.parametrize("before_answer", [True, False])
def test_a_server_that_sends_without_end_holds_nobody_up(before_answer: bool) -> None:
    packet = b"$\0" + (1400).to_bytes(2) + b"\x80\x60\0\1" + bytes(1396)
    before = threading.active_count()
    with Scripted({"DESCRIBE": b""} if before_answer else {}) as server:
        stop = flood(server, packet * 200)
        try:
            began = time.monotonic()
            with pytest.raises(SourceError):
                RtspSource(server.url, open_seconds=0.5, read_seconds=0.5)
            assert time.monotonic() - began < PATIENT / 4
        finally:
            stop.set()
    deadline = time.monotonic() + PATIENT
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def kept_alive_by(server: Scripted, seconds: float) -> str:
    """The request with which a session is kept alive; the session is read until it ends or for so long."""
    session = RtspSession(RtspAddress.parse(server.url), "tcp", time.monotonic() + PATIENT)
    deadline, first = time.monotonic() + seconds, session._sign
    try:
        while time.monotonic() < deadline and session._sign == first:
            session.receive(0.1)
    except SourceError:
        pass
    session.close()
    return session._sign


def test_a_request_that_ends_the_session_is_not_sent_again() -> None:
    """Some cameras list GET_PARAMETER, and close the connection when they get it."""
    script = {
        "OPTIONS": answer(Public="DESCRIBE, GET_PARAMETER"),
        "SETUP": answer(Session="77;timeout=1", Transport="RTP/AVP/TCP;interleaved=0-1"),
        "GET_PARAMETER": Scripted.CLOSE,
    }
    with Scripted(script) as server:
        kept_alive_by(server, 3)
        assert kept_alive_by(server, 0.1) == "OPTIONS"


def test_a_request_that_does_not_keep_the_session_alive_is_replaced() -> None:
    """Others answer OPTIONS, and end the session after its time all the same."""
    script = {"SETUP": answer(Session="77;timeout=1", Transport="RTP/AVP/TCP;interleaved=0-1")}
    with Scripted(script) as server:
        server.close_after = 1.1
        kept_alive_by(server, 3)
        server.close_after = None
        assert kept_alive_by(server, 0.1) == "GET_PARAMETER"


@pytest.mark.parametrize(
    "status", ["501 Not Implemented", "405 Method Not Allowed", "551 Option not supported"]
)
def test_a_request_that_the_server_does_not_know_is_replaced(status: str) -> None:
    script = {
        "OPTIONS": answer(Public="GET_PARAMETER"),
        "SETUP": answer(Session="77;timeout=1", Transport="RTP/AVP/TCP;interleaved=0-1"),
        "GET_PARAMETER": answer(status),
    }
    with Scripted(script) as server:
        assert kept_alive_by(server, 2.5) == "OPTIONS"


def test_plain_server_behind_an_encrypted_address_is_told() -> None:
    with Scripted() as server, pytest.raises(SourceError, match=r"does not speak TLS|does not answer"):
        RtspSource(server.url.replace("rtsp", "rtsps"), open_seconds=1)


def _serve_tls(listener: socket.socket, context: ssl.SSLContext, said: list[bytes], times: int) -> None:
    for _ in range(times):
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                said.append(secured.recv(4096))
                secured.sendall(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")
        except OSError:
            connection.close()  # the client did not trust us


@pytest.mark.parametrize("status", ["501 Not Implemented", "405 Method Not Allowed", "454 Session Not Found"])
def test_a_server_without_options_is_described_all_the_same(status: str) -> None:
    assert "nothing arrived" in why({"OPTIONS": answer(status)}, seconds=0.5)


@pytest.mark.parametrize(
    ("base", "asked"),
    [
        ("/live/", "rtsp://127.0.0.1:{port}/live/stream=0"),
        ("other/", "rtsp://127.0.0.1:{port}/other/stream=0"),
        ("rtsp://10.0.0.1/live/", "rtsp://10.0.0.1/live/stream=0"),
        ("http://[x", "rtsp://127.0.0.1:{port}/live/stream=0"),
        ("", "rtsp://127.0.0.1:{port}/live/stream=0"),
    ],
)
def test_what_a_description_is_relative_to(base: str, asked: str) -> None:
    script = {"DESCRIBE": answer(body=SDP, Content_Base=base)}
    with Scripted(script) as server:
        session = RtspSession(RtspAddress.parse(server.url), "tcp", time.monotonic() + PATIENT)
        session.close()
        port = RtspAddress.parse(server.url).port
        setup = next(text for text in server.requests if text.startswith("SETUP"))
    assert setup.split()[1] == asked.format(port=port)


@pytest.mark.parametrize(
    ("transport", "asked", "said"),
    [
        ("RTP/AVP;multicast;destination=239.1.1.1;port=5000-5001;ttl=16", "tcp", "multicast only"),
        ("RTP/AVP;multicast;destination=239.1.1.1;port=5000-5001;ttl=16", "udp", "multicast only"),
        ("RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001", "tcp", "try --transport udp"),
        ("RTP/AVP/TCP;unicast;interleaved=0-1", "udp", "try --transport tcp"),
    ],
)
def test_another_transport_than_the_one_that_was_asked_for_is_named(
    transport: str, asked: str, said: str
) -> None:
    script = {"SETUP": answer(Session="77", Transport=transport)}
    with Scripted(script) as server, pytest.raises(SourceError, match=said):
        RtspSession(RtspAddress.parse(server.url), asked, time.monotonic() + PATIENT)


def test_requests_of_the_server_are_answered() -> None:
    """Some servers ask whether a client is still there, and end the session if nothing comes."""
    asks = b"OPTIONS * RTSP/1.0\r\nCSeq: 41\r\n\r\nPING * RTSP/1.0\r\nCSeq: 42\r\n\r\n"
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while not received or b"CSeq: 42" not in received[-1]:
                    data = connection.recv(65536)
                    received.append(data)
                    if data.startswith(b"OPTIONS rtsp"):
                        connection.sendall(asks)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(SourceError, match="closed the connection"):
            RtspSource(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live", open_seconds=PATIENT)
        thread.join(PATIENT)
    said = b"".join(received)
    assert b"RTSP/1.0 200 OK\r\nCSeq: 41\r\n" in said
    assert b"RTSP/1.0 501 Not Implemented\r\nCSeq: 42\r\n" in said


def test_a_redirect_in_mid_session_ends_it_with_its_reason() -> None:
    ask = b"REDIRECT rtsp://127.0.0.1/live RTSP/1.0\r\nCSeq: 7\r\nLocation: rtsp://127.0.0.1:1/other\r\n\r\n"
    assert "sends us to another address" in why(after_play=ask)


def test_a_redirect_over_udp_leaves_no_socket_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Scripted() as server:
        server.script["SETUP"] = answer("302 Moved", Location=server.url)
        with pytest.raises(SourceError, match="more than 5 times"):
            RtspSession(RtspAddress.parse(server.url), "udp", time.monotonic() + PATIENT)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_short_sessions_are_kept_alive() -> None:
    script = {
        "OPTIONS": answer(Public="GET_PARAMETER"),
        "SETUP": answer(Session="77;Timeout=1", Transport="RTP/AVP/TCP;interleaved=0-1"),
    }
    with Scripted(script) as server:
        kept_alive_by(server, 1.0)
        assert sum(text.startswith("GET_PARAMETER") for text in server.requests) >= 2


def ipv6(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 1, type=socket.SOCK_STREAM)
        with socket.create_server((host.partition("%")[0], 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6("::1"), reason="no IPv6 here")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_ipv6_addresses(transport: str) -> None:
    given = "RTP/AVP/TCP;interleaved=0-1" if transport == "tcp" else "RTP/AVP;unicast;server_port=9-10"
    with Scripted({"SETUP": answer(Session="77", Transport=given)}, host="::1") as server:
        assert "[::1]" in server.url
        session = RtspSession(RtspAddress.parse(server.url), transport, time.monotonic() + PATIENT)
        session.close()
        asked = server.requests[0].split()[1]
        with pytest.raises(SourceError, match=r"\[::1\]:\d+/live: the server plays, but nothing arrived"):
            RtspSource(server.url, transport=transport, open_seconds=0.3)
    assert asked == server.url


def test_a_lookup_that_hangs_takes_one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait(PATIENT)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        for _ in range(5):
            with pytest.raises(SourceError, match="not resolved in time"):
                RtspSource("rtsp://slow.example/live", open_seconds=0.05)
        assert sum(thread.name == "streamseg-rtsp-resolve" for thread in threading.enumerate()) == 1
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "streamseg-rtsp-resolve":
                thread.join(PATIENT)


def test_an_address_that_drops_everything_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with an IPv6 address on a network that drops IPv6, or a machine without IPv6."""
    with Scripted({"DESCRIBE": answer("404 Not Found")}) as server:
        port = RtspAddress.parse(server.url).port
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = []
            for _ in range(4):  # until its queue is full: further connections hang
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(full.getsockname())
            tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            unknown = (socket.AF_APPLETALK, socket.SOCK_STREAM, 6, "", ("x", 1))
            found = [unknown, (*tcp, full.getsockname()), (*tcp, ("127.0.0.1", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            with pytest.raises(SourceError, match="404"):
                RtspSource("rtsp://two.example/live", open_seconds=2)
            for opened in waiting:
                opened.close()


@pytest.mark.parametrize("host", [".host", "a" * 300, "a..b", "xn--"])
def test_odd_names_of_hosts_are_refused_in_one_line(host: str) -> None:
    for scheme in ("rtsp", "rtsps"):
        with pytest.raises(SourceError):
            RtspSource(f"{scheme}://{host}/live", open_seconds=PATIENT)


def test_a_handshake_that_stalls_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsps://127.0.0.1:{silent.getsockname()[1]}/live"
        began = time.monotonic()
        with pytest.raises(SourceError, match="does not answer"):
            RtspSource(url, open_seconds=0.4)
        assert time.monotonic() - began < PATIENT / 10


@pytest.mark.parametrize("status", ["457 Invalid Range", "459 Aggregate Operation Not Allowed"])
def test_play_is_asked_again_as_the_server_wants_it(status: str) -> None:
    """Some live streams take no range, and some servers play single tracks only."""
    with Scripted({"PLAY": answer(status)}) as server:
        with pytest.raises(SourceError, match=status[:3]):
            RtspSource(server.url, open_seconds=PATIENT)
        first, second = (text for text in server.requests if text.startswith("PLAY"))
    assert "Range:" in first
    assert ("Range:" in second) == (status[:3] == "459")
    assert ("stream=0" in second.splitlines()[0]) == (status[:3] == "459")
