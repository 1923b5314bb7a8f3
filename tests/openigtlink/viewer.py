"""A viewer of OpenIGTLink for tests: reads messages whole, and checks what must hold for every viewer."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from streamseg.openigtlink import OpenIGTLinkDisplay
from streamseg.openigtlink.message import HEADER_BYTES, Header, ImageContent, content, is_intact
from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Received:
    """A message as it came."""

    header: Header
    body: bytearray
    arrived_ns: int
    """In the clock of the time stamps: nanoseconds since 1970."""

    @property
    def device(self) -> str:
        return self.header.device

    @property
    def image(self) -> np.ndarray:
        return ImageContent.parse(content(self.header, self.body), 10**8).samples

    @property
    def state(self) -> dict[str, Any]:
        found = json.loads(self.body[4:])
        assert isinstance(found, dict)
        return found

    @property
    def counts(self) -> tuple[int, int]:
        """Points and lines of outlines."""
        numbers = struct.unpack_from(">10I", self.body)
        return numbers[0], numbers[3]

    @property
    def empty(self) -> bool:
        """Whether it shows nothing: no line, or a label map without labels."""
        return not self.image.any() if self.header.kind == "IMAGE" else self.counts == (0, 0)


class Viewer:
    """Connects and reads. Every message is intact, and no outline is on another image than its own."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        self.messages: list[Received] = []
        self.shown: dict[str, Received] = {}
        """The last message of each device."""

    def read(self) -> Received:
        """The next message. Raises EOFError at the end of the connection."""
        header = Header.parse(self._take(HEADER_BYTES))
        message = Received(header, self._take(header.size), time.time_ns())
        assert is_intact(header, message.body)
        self.messages.append(message)
        self.shown[message.device] = message
        self.check()
        return message

    def check(self) -> None:
        """What is on the viewer's screen now: outlines are empty, or those of the image."""
        image = self.shown.get("Ultrasound")
        for device, message in self.shown.items():
            if device not in ("Ultrasound", "State") and not message.empty:
                assert image is not None, device
                assert message.header.sent_ns == image.header.sent_ns, device

    def read_until(self, device: str, **wanted: Any) -> Received:
        """Read to the next message of a device; of a State, to one with these values."""
        while True:
            message = self.read()
            if message.device == device and all(message.state[key] == wanted[key] for key in wanted):
                return message

    def read_rest(self) -> list[Received]:
        """Read to the end of the connection."""
        before = len(self.messages)
        try:
            while True:
                self.read()
        except (EOFError, ConnectionError):
            return self.messages[before:]

    def _take(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


@contextmanager
def serving(**options: Any) -> Iterator[OpenIGTLinkDisplay]:
    display = OpenIGTLinkDisplay(**{"port": 0, **options})
    try:
        yield display
    finally:
        display.close()
