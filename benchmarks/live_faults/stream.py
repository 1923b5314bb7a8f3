"""A proxy that rewrites the RTP packets of a real server, and what it can make of them.

Cameras, encoders and relays stamp, mark and fill their packets in ways that a well-made server does not: each
function here turns packets into those of such a sender.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from streamseg.capture.rtsp.rtp import RtpPacket, parse_rtp
from tests.rtsp_server.proxy import Proxy

CLOCK = 90_000
"""Units of an RTP time stamp in a second."""
_VIDEO = 0
"""Interleaved channel of the video; its control messages have the next one."""
_POLL_S = 0.005
_FRAGMENT = 28
_SLICES = (1, 5)
_END_OF_SEQUENCE, _END_OF_STREAM = 10, 11

Rewrite = Callable[[RtpPacket], list[RtpPacket]]


def unchanged(packet: RtpPacket) -> list[RtpPacket]:
    """The packet as it came."""
    return [packet]


class Rewriter(Proxy):
    """Passes connections on, and the server's video through :attr:`rewrite`, which can be changed any time.

    For RTSP over TCP. Packets that are left out leave a gap in the numbering, those that are added do not.
    """

    def __init__(self, target: int) -> None:
        self.rewrite: Rewrite = unchanged
        self.deaf = False
        """The server gets no control messages, such as the request for a key frame."""
        super().__init__(target)

    def _pass_on(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        source.settimeout(_POLL_S)
        waiting, added = b"", 0
        try:
            while not self._closed.is_set():
                try:
                    data = source.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                messages, waiting = split(waiting + data)
                for message in messages:
                    if message[:1] != b"$":
                        target.sendall(message)
                    elif not from_server:
                        target.sendall(b"" if self.deaf else message)
                    elif message[1] != _VIDEO or (packet := parse_rtp(message[4:])) is None:
                        target.sendall(message)
                    else:
                        packets = self.rewrite(packet)
                        for place, one in enumerate(packets):
                            number = packet.sequence + added + place & 0xFFFF
                            target.sendall(interleaved(replace(one, sequence=number)))
                        added += max(0, len(packets) - 1)
        except OSError:
            pass  # one side is gone; the other is told below
        finally:
            self._end(source, target)


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole RTSP messages and interleaved packets at the beginning of a stream, and the rest of it."""
    found: list[bytes] = []
    while data:
        if data[:1] == b"$":
            length = 4 + int.from_bytes(data[2:4]) if len(data) >= 4 else len(data) + 1
        else:
            head, end, _ = data.partition(b"\r\n\r\n")
            length = len(head) + 4 + _body_length(head) if end else len(data) + 1
        if length > len(data):
            break
        found.append(data[:length])
        data = data[length:]
    return found, data


def _body_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            with suppress(ValueError):
                return int(value)
    return 0


def interleaved(packet: RtpPacket) -> bytes:
    """A packet as it is sent over TCP; one without a payload consists of padding."""
    padding = b"" if packet.payload else b"\0\0\0\4"
    body = (
        bytes((0x80 | (0x20 if padding else 0), packet.marker << 7 | packet.payload_type))
        + packet.sequence.to_bytes(2)
        + packet.timestamp.to_bytes(4)
        + packet.sender.to_bytes(4)
        + packet.payload
        + padding
    )
    return b"$" + bytes((_VIDEO,)) + len(body).to_bytes(2) + body


def _stamped(packet: RtpPacket, timestamp: int) -> list[RtpPacket]:
    return [replace(packet, timestamp=timestamp & 0xFFFFFFFF)]


def paced(factor: float) -> Rewrite:
    """Time stamps that run this many times as fast; 0: that stand still."""
    first: list[int] = []

    def rewrite(packet: RtpPacket) -> list[RtpPacket]:
        first[:] = first or [packet.timestamp]
        passed = packet.timestamp - first[0] & 0xFFFFFFFF
        return _stamped(packet, first[0] + round(passed * factor))

    return rewrite


def shifted(seconds: float, *, pictures: int | None = None) -> Rewrite:
    """Time stamps that leap by this time, of the next ``pictures`` only, or from the next picture on."""
    begun: list[int] = []
    """The stamp of the picture that was under way, then those of the others."""

    def rewrite(packet: RtpPacket) -> list[RtpPacket]:
        if not begun or begun[-1] != packet.timestamp:
            begun.append(packet.timestamp)
        count = len(begun) - 1
        leaps = count > 0 and (pictures is None or count <= pictures)
        return _stamped(packet, packet.timestamp + round(seconds * CLOCK) * leaps)

    return rewrite


def _ends_unit(packet: RtpPacket, kinds: Sequence[int]) -> bool:
    """Whether a NAL unit of one of these types ends in a packet."""
    payload, kind = packet.payload, packet.payload[0] & 31
    if kind == _FRAGMENT:
        return bool(payload[1] & 64) and payload[1] & 31 in kinds
    return kind in kinds


def marked(kinds: Sequence[int]) -> Rewrite:
    """The marker on every NAL unit of these types."""
    return lambda packet: [replace(packet, marker=packet.marker or _ends_unit(packet, kinds))]


EVERY_UNIT = marked(range(1, 24))
EVERY_SLICE = marked(_SLICES)


def with_more(payloads: Sequence[bytes]) -> Rewrite:
    """More packets ahead of every picture."""
    last: list[int] = []

    def rewrite(packet: RtpPacket) -> list[RtpPacket]:
        begins = last != [packet.timestamp]
        last[:] = [packet.timestamp]
        more = [replace(packet, marker=False, payload=payload) for payload in payloads]
        return [*more, packet] if begins else [packet]

    return rewrite


UNKNOWN = tuple(bytes((kind,)) + b"\x55\xaa\x01\x02" for kind in (0, 22, 23, 30, 31))
"""NAL units of types that no standard defines."""
PADDING = (b"", b"")


def ended(packet: RtpPacket) -> list[RtpPacket]:
    """An end of sequence and an end of stream after every picture; the marker is on the last."""
    if not packet.marker:
        return [packet]
    ends = [replace(packet, payload=bytes((kind,))) for kind in (_END_OF_SEQUENCE, _END_OF_STREAM)]
    return [replace(packet, marker=False), replace(ends[0], marker=False), ends[1]]


def without_one() -> Rewrite:
    """The next packet is lost."""
    lost: list[RtpPacket] = []

    def rewrite(packet: RtpPacket) -> list[RtpPacket]:
        if lost:
            return [packet]
        lost.append(packet)
        return []

    return rewrite
