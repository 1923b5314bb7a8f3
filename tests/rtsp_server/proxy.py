"""A loopback TCP proxy that delays, cuts, corrupts and stalls what it passes on, while it runs."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

_TICK = 0.05


class Proxy:
    """Passes connections to ``127.0.0.1:target``; listens on :attr:`port`. Use as a context manager.

    Attributes can be changed at any time: ``delay_seconds`` holds back what the server sends,
    ``corrupt_rate`` is the chance per byte that the server sends to be replaced by another, ``stalled``
    passes nothing on, ``refusing`` closes new connections at once.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.delay_seconds = 0.0
        self.corrupt_rate = 0.0
        self.stalled = False
        self.refusing = False
        self.corrupted = 0
        """Bytes that were replaced so far."""
        self._target = target
        self._random = random.Random(seed)
        self._closed = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TICK)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def url(self, path: str = "/live", login: str = "") -> str:
        """Address of the server behind the proxy; ``login`` is ``user:password@`` or empty."""
        return f"rtsp://{login}127.0.0.1:{self.port}{path}"

    def cut(self) -> None:
        """Close all connections that are open."""
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            with suppress(OSError):  # the other side was faster
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed.set()
        self.cut()
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="test-proxy")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                if self.refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._pass_on, client, server, False)
            self._start(self._pass_on, server, client, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        source.settimeout(_TICK / 10)
        held: deque[tuple[float, bytes]] = deque()
        try:
            while not self._closed.is_set():
                if self.stalled:
                    self._closed.wait(_TICK / 10)
                    continue
                try:
                    data = source.recv(65536)
                    if not data:
                        break
                    due = time.monotonic() + (self.delay_seconds if from_server else 0.0)
                    held.append((due, self._damage(data) if from_server else data))
                except TimeoutError:
                    pass
                while held and held[0][0] <= time.monotonic():
                    target.sendall(held.popleft()[1])
        except OSError:
            pass  # one side is gone; the other is told below
        finally:
            self._end(source, target)

    def _damage(self, data: bytes) -> bytes:
        if not self.corrupt_rate:
            return data
        damaged = bytearray(data)
        for place in range(len(damaged)):
            if self._random.random() < self.corrupt_rate:
                damaged[place] ^= self._random.randrange(1, 256)
                self.corrupted += 1
        return bytes(damaged)

    def _end(self, source: socket.socket, target: socket.socket) -> None:
        for connection in (source, target):
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()
