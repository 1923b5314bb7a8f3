"""Parses the bytes of an RTSP connection: answers, and RTP packets interleaved with them (RFC 2326)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.core.errors import SourceError
from streamseg.core.numbers import read_integer

_MAX_HEAD = 65536
_MAX_BODY = 1 << 20
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3}) ?(.*)")
_REQUEST = re.compile(rb"[A-Z_]+ \S+ RTSP/\d\.\d")


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to a request."""

    status: int
    reason: str
    headers: dict[str, list[str]] = field(repr=False)
    """By lower-case name; a header may come more than once."""
    body: bytes = field(repr=False)

    def header(self, name: str) -> str:
        """The first header of this lower-case name; empty if there is none."""
        return self.headers.get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A packet on one of the connection's channels."""

    channel: int
    payload: bytes


class MessageParser:
    """Collects bytes and yields complete messages. Requests of the server are read and left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def messages(self) -> Iterator[Answer | Interleaved]:
        """Messages that are complete so far. Raises SourceError if the bytes cannot be RTSP."""
        buffer, start = self._buffer, 0
        try:
            while start < len(buffer):
                if buffer[start] in b"\r\n":  # between messages they mean nothing
                    start += 1
                    continue
                if buffer[start] == 0x24:  # "$": channel, length, packet
                    if len(buffer) < start + 4:
                        return
                    end = start + 4 + int.from_bytes(buffer[start + 2 : start + 4])
                    if len(buffer) < end:
                        return
                    message: Answer | Interleaved | None = Interleaved(
                        buffer[start + 1], bytes(buffer[start + 4 : end])
                    )
                else:
                    found = self._text(start)
                    if found is None:
                        return
                    message, end = found
                start = end
                if message is not None:
                    yield message
        finally:
            del buffer[:start]

    def _text(self, start: int) -> tuple[Answer | None, int] | None:
        """An answer (None for a request of the server) and where it ends; None while it is incomplete."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", start, start + _MAX_HEAD)
        head = bytes(buffer[start : end if end >= 0 else start + _MAX_HEAD])
        if not (head[:1].isalpha() and head[:1].isupper()):
            raise _garbage()
        if end < 0:
            if len(head) > _MAX_HEAD - 8 or (b"\n" in head and not _is_first_line(head.split(b"\r\n")[0])):
                raise _garbage()
            return None
        first, *lines = head.split(b"\r\n")
        if not _is_first_line(first):
            raise _garbage()
        headers = _headers(lines)
        length = read_integer(headers.get("content-length", ["0"])[0], 0, _MAX_BODY)
        if length is None:
            raise _garbage()
        stop = end + 4 + length
        if len(buffer) < stop:
            return None
        status = _STATUS.fullmatch(first)
        if status is None:
            return None, stop
        reason = " ".join(status[2].decode("utf-8", "replace").split())
        return Answer(int(status[1]), reason[:80], headers, bytes(buffer[end + 4 : stop])), stop


def _is_first_line(line: bytes) -> bool:
    return bool(_STATUS.fullmatch(line) or _REQUEST.fullmatch(line))


def _headers(lines: list[bytes]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), []).append(value.strip())
    return headers


def _garbage() -> SourceError:
    return SourceError("what arrives is not RTSP, or was damaged on its way; check host and port")
