"""The server's own limits, and how it begins and ends."""

import logging
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from streamseg.core.errors import SinkError, UsageError
from streamseg.core.view import Display
from streamseg.web import WebDisplay, client, server
from tests.waiting import wait_for
from tests.web.feeding import Feed, Reader, get, open_and_never_read, serving
from tests.web.views import view


def test_it_is_a_display():
    with serving() as display:
        assert isinstance(display, Display)
        assert display.name == "web"
        assert display.url == f"http://127.0.0.1:{display.port}/"
        assert display.poll() == []


def test_address_in_use():
    with serving() as display, pytest.raises(UsageError, match=rf"port {display.port}: another program"):
        WebDisplay(port=display.port)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 70_000}, "give 1 to 65535, or 0"),
        ({"port": -1}, "give 1 to 65535, or 0"),
        ({"host": "no.such.host.invalid"}, "no such address"),
        ({"host": "a" * 300}, "no such address"),
        ({"host": "203.0.113.9"}, "this machine has no such address"),
        ({"rate": 0}, "rate is 0; give 1 to 240"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"quality": 101}, "quality is 101; give 1 to 100"),
        ({"clients": 0}, "clients is 0; give 1 to 256"),
    ],
)
def test_invalid_options_are_refused(options, text):
    with pytest.raises(UsageError, match=text) as raised:
        WebDisplay(**{"port": 0, **options})
    assert "\n" not in str(raised.value)


def test_closing_with_pages_and_one_that_never_reads(monkeypatch):
    monkeypatch.setattr(client, "ACK_S", 60.0)
    monkeypatch.setattr(client, "SEND_S", 60.0)
    monkeypatch.setattr(server, "_CLOSE_S", 60.0)
    before = set(threading.enumerate())
    display = WebDisplay(port=0)
    with Feed(display), Reader(display.port) as reader, open_and_never_read(display.port):
        reader.read_views(3)
        wait_for(lambda: display.clients == 2, "both pages")
        began = time.monotonic()
        display.close()
        took = time.monotonic() - began
        display.close()
    assert took < 30, "it waited for the page that never reads"
    display.show(view(1))  # says nothing any more, and does not fail
    wait_for(
        lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("streamseg")],
        "threads",
    )
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", display.port), timeout=5)


def test_port_can_be_used_again_at_once():
    with serving() as display, Reader(display.port) as reader:
        reader.read()
        display.close()
        WebDisplay(port=display.port).close()


def test_server_that_died_ends_the_run():
    with serving() as display:
        display._server._loop.call_soon_threadsafe(display._server._loop.stop)
        wait_for(lambda: not display._server.alive, "its end")
        with pytest.raises(SinkError, match="the web server has ended: RuntimeError"):
            display.show(view(1))


def test_a_request_that_trickles_in_is_cut_off(monkeypatch):
    monkeypatch.setattr(server, "HTTP_S", 0.5)
    with serving() as display, socket.create_connection(("127.0.0.1", display.port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        slow.settimeout(0.1)

        def ended():
            try:
                slow.sendall(b"X")
                return slow.recv(10) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(ended, "the cut")


def test_a_websocket_outlives_the_limit_of_requests(monkeypatch):
    monkeypatch.setattr(server, "HTTP_S", 0.2)
    with serving() as display, Feed(display), Reader(display.port) as reader:
        reader.read_for(0.6)
        assert len(reader.views) > 2


def test_a_connection_that_asks_for_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.2)
    with serving() as display, socket.create_connection(("127.0.0.1", display.port), timeout=10) as idle:
        began = time.monotonic()
        assert idle.recv(1) == b""
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
    ids=["nothing", "half a request", "a request", "no body", "a page"],
)
def test_idle_connections_lock_nobody_out(monkeypatch, address, sent):
    for limit in ("FIRST_REQUEST_S", "HTTP_S"):
        monkeypatch.setattr(server, limit, 120.0)  # so that no place becomes free in time by itself
    with serving(clients=4) as display, ExitStack() as idle, Reader(display.port) as page:
        page.read()
        for _ in range(120):
            connection = socket.socket()
            idle.callback(connection.close)
            connection.bind((address, 0))
            connection.settimeout(10)
            connection.connect(("127.0.0.1", display.port))
            connection.sendall(sent)
        began = time.monotonic()
        for _ in range(5):
            assert get(display, "/")[0] == 200
        assert time.monotonic() - began < 60
        page.read_for(0.2)  # who had a page keeps it


def test_connections_are_limited():
    with serving(clients=1) as display:
        opened = []
        try:
            for _ in range(60):
                opened.append(socket.create_connection(("127.0.0.1", display.port), timeout=10))

            def refused():
                ends = 0
                for connection in opened:
                    connection.settimeout(0.001)
                    try:
                        ends += connection.recv(1, socket.MSG_PEEK) == b""
                    except TimeoutError:
                        pass
                    except OSError:
                        ends += 1
                return ends >= 20

            wait_for(refused, "the limit")
        finally:
            for connection in opened:
                connection.close()
        with Reader(display.port) as reader:
            reader.read()


def test_garbage_is_answered_with_an_error(capfd):
    with serving() as display:
        begin = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        for garbage in (
            *(b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"A" * 40_000 + b"\r\n\r\n"),
            *(begin + b"Content-Length: " + length + b"\r\n\r\n" for length in (b"9" * 5000, b"\xb2", b"-1")),
            begin + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        ):
            with socket.create_connection(("127.0.0.1", display.port), timeout=10) as connection:
                connection.sendall(garbage)
                assert connection.recv(1000)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
        with Reader(display.port) as reader:
            reader.read()
    assert "".join(capfd.readouterr()) == ""


def test_nothing_is_printed_or_logged(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    with serving() as display, Feed(display), Reader(display.port) as reader:
        reader.read_views(2)
    out, err = capfd.readouterr()
    assert out + err == ""
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_pages_that_break_off_leave_no_trace(capfd):
    rng = random.Random(1)
    with serving() as display, Feed(display), Reader(display.port) as reader:
        for turn in range(24):
            with open_and_never_read(display.port) as rude:
                time.sleep(rng.random() * 0.03)
                if turn % 2:
                    rude.sendall(rng.randbytes(rng.randrange(1, 300)))
                if turn % 3:  # an end without a word
                    rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.read()
        wait_for(lambda: display.clients == 1, "their end")
        reader.read_views(2)
    assert "".join(capfd.readouterr()) == ""


def test_the_web_page_imports_nothing_heavy():
    code = (
        "import sys, streamseg.web\n"
        "assert not {'torch', 'streamseg.training', 'streamseg.datasets', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
