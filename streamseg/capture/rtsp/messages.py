"""Parses the bytes of an RTSP connection: answers, and RTP packets interleaved with them (RFC 2326)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.core.errors import SourceError
from streamseg.core.numbers import read_integer

_MAX_HEAD = 65536
_MAX_BODY = 1 << 20
_MAX_LINE = 8192
_MAX_PACKETS, _MAX_TEXTS = 20_000, 500
"""Messages in what is read at once: more are so small that they mean nothing, and only keep us busy."""
_BETWEEN = re.compile(rb"[\r\n]+")
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
    """Collects bytes and yields complete messages; requests of the server go to :attr:`requests`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """Method and ``CSeq`` of each request of the server so far; to be cleared by whoever answers them."""
        self._buffer = bytearray()
        # About the message that is incomplete, so that no byte of it is read twice:
        self._searched = 0
        self._wanted = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def messages(self) -> Iterator[Answer | Interleaved]:
        """Messages that are complete so far. Raises SourceError if the bytes cannot be RTSP."""
        buffer, start, packets, texts = self._buffer, 0, 0, 0
        try:
            while start < len(buffer):
                if between := _BETWEEN.match(buffer, start):  # between messages they mean nothing
                    start = between.end()
                    del between  # it would keep the buffer from shrinking
                    continue
                if buffer[start] == 0x24:  # "$": channel, length, packet
                    if len(buffer) < start + 4:
                        return
                    end = start + 4 + int.from_bytes(buffer[start + 2 : start + 4])
                    if len(buffer) < end:
                        return
                    packets += 1
                    message: Answer | Interleaved | None = Interleaved(
                        buffer[start + 1], bytes(buffer[start + 4 : end])
                    )
                else:
                    found = self._text(start)
                    if found is None:
                        return
                    message, end = found
                    texts += 1
                    self._searched = self._wanted = 0
                start = end
                if packets > _MAX_PACKETS or texts > _MAX_TEXTS:
                    raise _garbage()
                if message is not None:
                    yield message
        finally:
            del buffer[:start]

    def _text(self, start: int) -> tuple[Answer | None, int] | None:
        """An answer (None for a request of the server) and where it ends; None while it is incomplete."""
        buffer, length = self._buffer, len(self._buffer) - start
        if length < self._wanted:
            return None
        line_end = buffer.find(b"\n", start, start + _MAX_LINE)
        first = bytes(buffer[start : line_end if line_end >= 0 else start + _MAX_LINE]).removesuffix(b"\r")
        end = buffer.find(b"\r\n\r\n", start + max(0, self._searched - 3), start + _MAX_HEAD)
        self._searched = length
        if not (first[:1].isalpha() and first[:1].isupper()):
            raise _garbage()
        if (line_end >= 0 or len(first) == _MAX_LINE) and not _is_first_line(first):
            raise _garbage()
        if end < 0:
            if length > _MAX_HEAD - 8:
                raise _garbage()
            return None
        lines = bytes(buffer[start:end]).split(b"\r\n")[1:]
        headers = _headers(lines)
        size = read_integer(headers.get("content-length", ["0"])[0], 0, _MAX_BODY)
        if size is None:
            raise _garbage()
        stop = end + 4 + size
        if len(buffer) < stop:
            self._searched, self._wanted = end - start, stop - start
            return None
        status = _STATUS.fullmatch(first)
        if status is None:
            method = first.split(b" ")[0].decode("ascii", "replace")
            self.requests.append((method, headers.get("cseq", [""])[0][:20]))
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
