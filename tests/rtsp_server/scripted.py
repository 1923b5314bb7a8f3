"""A server that answers each RTSP method with what it is told: for answers that a real one rarely gives."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

SDP = "v=0\r\ns=x\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n"


def answer(status: str = "200 OK", body: str = "", **headers: str) -> bytes:
    """An answer with the CSeq still to be filled in; ``_`` in a header's name stands for ``-``."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"RTSP/1.0 {status}\r\nCSeq: %d\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class Scripted:
    """Listens on :attr:`url`. Use as a context manager; :attr:`requests` is what was asked, in order."""

    CLOSE = b"close"
    """An answer that closes the connection."""

    def __init__(
        self, script: dict[str, bytes] | None = None, *, after_play: bytes = b"", host: str = "127.0.0.1"
    ) -> None:
        """``script``: by method what is sent back; ``b""`` is silence. What is left out is answered well."""
        self.requests: list[str] = []
        self.flood: tuple[bytes, threading.Event] | None = None
        """What is sent over and over after OPTIONS was answered, until the event is set."""
        self.close_after: float | None = None
        """Seconds after PLAY at which the connection is closed."""
        self.script = {
            "DESCRIBE": answer(body=SDP, Content_Type="application/sdp"),
            "SETUP": answer(Session="77;timeout=60", Transport="RTP/AVP/TCP;unicast;interleaved=0-1"),
        } | (script or {})
        self._after_play = after_play
        self._closed = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.settimeout(0.05)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"rtsp://{shown}:{self._listener.getsockname()[1]}/live"
        self._thread = threading.Thread(target=self._run, daemon=True, name="test-scripted")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(0.05)
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        buffer, ends = b"", None
        while not self._closed.is_set():
            if ends is not None and time.monotonic() > ends:
                return
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                text = head.decode()
                self.requests.append(text)
                method = text.split()[0]
                number = int(next(line for line in text.split("\r\n") if line.startswith("CSeq:"))[5:])
                reply = self.script.get(method, answer())
                if reply == self.CLOSE:
                    return
                connection.sendall(reply.replace(b"%d", str(number).encode()))
                if method == "PLAY":
                    connection.sendall(self._after_play)
                    ends = None if self.close_after is None else time.monotonic() + self.close_after
                if self.flood is not None and method in ("DESCRIBE", "PLAY"):
                    threading.Thread(target=self._send_on, args=(connection.dup(),), daemon=True).start()

    def _send_on(self, connection: socket.socket) -> None:
        assert self.flood is not None
        data, stop = self.flood
        with connection, suppress(OSError):
            connection.settimeout(0.5)
            while not stop.is_set():
                with suppress(TimeoutError):
                    connection.sendall(data)
