"""Feeds a web display as the live loop does, and reads it as a page without a browser."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from streamseg.core.types import State
from streamseg.web import WebDisplay, WebWall
from tests.waiting import PATIENCE_S
from tests.web.views import view


class Feed:
    """Shows a view 30 times a second in a thread, until the end of the ``with`` block."""

    def __init__(self, display: WebDisplay, *, rate: float = 30.0, **options: Any) -> None:
        self.display, self.rate, self.options = display, rate, options
        self.state = State.NERVE
        self.reason = ""
        self.paused = False
        self.number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-feed", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(1 / self.rate):
            if not self.paused:
                self.number += 1
                self.display.show(view(self.number, self.state, reason=self.reason, **self.options))

    def __enter__(self) -> Self:
        view(1)  # The phantom takes a second the first time.
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)


@contextmanager
def serving(**options: Any) -> Iterator[WebDisplay]:
    display = WebDisplay(**{"port": 0, **options})
    try:
        yield display
    finally:
        display.close()


class Reader:
    """A page without a browser: reads messages, and answers views unless asked not to."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", path: str = "ws", **options: Any) -> None:
        options = {"origin": f"http://{host}:{port}", "proxy": None, **options}
        self._opening = connect(f"ws://{host}:{port}/{path}", **options)
        self.texts: list[dict[str, Any]] = []
        self.views: list[tuple[dict[str, Any], bytes]] = []

    def __enter__(self) -> Self:
        self.connection: ClientConnection = self._opening.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()

    def send(self, values: object) -> None:
        self.connection.send(json.dumps(values))

    def read(self, *, answer: bool = True, age: float | None = 12.5) -> None:
        """Take one message; raises ConnectionClosed where the server ended the connection."""
        message = self.connection.recv(timeout=PATIENCE_S)
        if isinstance(message, str):
            self.texts.append(json.loads(message))
            return
        values, jpeg = parse(message)
        self.views.append((values, jpeg))
        if answer:
            self.answer(age)

    def answer(self, age: float | None = 12.5) -> None:
        """Acknowledge the last view, drawn at this age."""
        self.send({"ack": self.views[-1][0]["view"], "age": age, "at": 1.0})

    def read_views(self, count: int, **how: Any) -> None:
        """Read until ``count`` more views have come."""
        wanted = len(self.views) + count
        while len(self.views) < wanted:
            self.read(**how)

    def read_for(self, seconds: float, **how: Any) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(**how)


def get(
    display: WebDisplay | WebWall, path: str, *, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of the answer to a plain request."""
    connection = http.client.HTTPConnection("127.0.0.1", display.port, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, headers=names)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def parse(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Metadata and JPEG of a message."""
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def open_and_never_read(port: int) -> socket.socket:
    """Open a socket with a tiny buffer that requests the stream and then reads nothing."""
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    silent.connect(("127.0.0.1", port))
    silent.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return silent
