"""Puts pictures together from RTP packets: H.264 (RFC 6184) and H.265 (RFC 7798).

A picture is complete with the packet that has the marker, so it need not wait for the next one's first
packet: that would cost a whole frame interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamseg.capture.rtsp.frame_numbers import FrameNumberTracker
from streamseg.capture.rtsp.rtp import Arrival

_START = b"\0\0\0\1"
_MAX_BYTES = 32 << 20
"""No compressed picture is larger; a stream without ends must not fill the memory."""


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """What the decoder needs for one picture."""

    data: bytes = field(repr=False)
    timestamp: int
    """RTP time stamp, modulo 2**32."""
    arrived_ns: int
    """Monotonic nanoseconds at which its first packet arrived."""
    key: bool
    """Whether decoding can begin here."""
    broken: bool = False
    """Parts are missing or contradict themselves: not to be decoded; ``data`` is empty."""


class Assembler(Protocol):
    """Makes pictures of packets."""

    def push(self, arrival: Arrival) -> list[CodedPicture]: ...


class NalAssembler:
    """Pictures of H.264, or H.265 with ``hevc``."""

    def __init__(self, *, hevc: bool, parameter_sets: Sequence[bytes] = ()) -> None:
        self._hevc = hevc
        # The decoder itself notices where a picture is missing that an H.265 picture refers to.
        self._numbers = None if hevc else FrameNumberTracker()
        if self._numbers is not None:
            self._numbers.learn(parameter_sets)
        self._header = 2 if hevc else 1
        self._open = False
        self._timestamp = 0
        self._arrived_ns = 0
        self._broken = False
        self._units: list[bytes] = []
        self._size = 0
        self._fragment: bytearray | None = None

    def push(self, arrival: Arrival) -> list[CodedPicture]:
        """Take a packet in its place; returns what is complete, or known to be broken."""
        packet = arrival.packet
        pictures: list[CodedPicture] = []
        if self._open and packet.timestamp != self._timestamp:
            # Some servers set no marker. Where packets are missing, those of the end may be among them.
            self._broken = self._broken or arrival.lost
            pictures += self._finish()
        if not self._open:
            self._open, self._timestamp, self._arrived_ns = True, packet.timestamp, arrival.arrived_ns
        self._broken = self._broken or arrival.lost
        if not self._broken:
            self._size += len(packet.payload)
            self._broken = self._size > _MAX_BYTES or not self._take(packet.payload)
        if packet.marker:
            pictures += self._finish()
        return pictures

    def _finish(self) -> list[CodedPicture]:
        self._broken = self._broken or self._fragment is not None
        self._open, self._fragment = False, None
        if self._broken:
            self._broken = False
            self._units, self._size = [], 0
            return [CodedPicture(b"", self._timestamp, self._arrived_ns, key=False, broken=True)]
        kinds = [self._kind(unit[0]) for unit in self._units]
        if not any(map(self._is_slice, kinds)):
            return []  # parameter sets alone: they go with the next picture
        key = any(kind in range(16, 22) for kind in kinds) if self._hevc else self._is_h264_key(kinds)
        units, self._units, self._size = self._units, [], 0
        first = next(unit for unit, kind in zip(units, kinds, strict=True) if self._is_slice(kind))
        # Whoever joins a stream may get the end of a picture first: only a first slice says that it is 0.
        whole = bool(first[self._header] & 128)
        if self._numbers is not None and not self._numbers.follows(units) and not key:
            whole = False
        if not whole:
            return [CodedPicture(b"", self._timestamp, self._arrived_ns, key=False, broken=True)]
        data = b"".join(_START + unit for unit in units)
        return [CodedPicture(data, self._timestamp, self._arrived_ns, key)]

    def _is_h264_key(self, kinds: list[int]) -> bool:
        """An IDR picture; or a recovery point, which streams without IDR pictures have."""
        recovery = (unit[1:2] == b"\6" for kind, unit in zip(kinds, self._units, strict=True) if kind == 6)
        return 5 in kinds or any(recovery)

    def _kind(self, first: int) -> int:
        return first >> 1 & 63 if self._hevc else first & 31

    def _is_slice(self, kind: int) -> bool:
        return kind < 32 if self._hevc else 1 <= kind <= 5

    def _take(self, payload: bytes) -> bool:
        """Add a packet's content. False: it makes no sense."""
        if len(payload) <= self._header or payload[0] & 128:
            return False
        kind = self._kind(payload[0])
        aggregate, fragment, largest = (48, 49, 47) if self._hevc else (24, 28, 23)
        if kind == fragment:
            return self._take_fragment(payload)
        if self._fragment is not None:
            return False
        if kind == aggregate:
            return self._take_several(payload)
        if kind > largest:
            return False
        self._units.append(payload)
        return True

    def _take_several(self, payload: bytes) -> bool:
        parts = list(_parts(payload[self._header :]))
        if any(part is None or len(part) <= self._header or part[0] & 128 for part in parts):
            return False
        self._units += [part for part in parts if part is not None]
        return True

    def _take_fragment(self, payload: bytes) -> bool:
        if len(payload) <= self._header + 1:
            return False
        flags = payload[self._header]
        starts, ends, kind = flags & 128, flags & 64, flags & (63 if self._hevc else 31)
        if self._hevc:
            head = bytes((payload[0] & 0x81 | kind << 1, payload[1]))
        else:
            head = bytes((payload[0] & 0xE0 | kind,))
        if starts:
            if self._fragment is not None:
                return False
            self._fragment = bytearray(head)
        elif self._fragment is None or not self._fragment.startswith(head):
            return False
        self._fragment += payload[self._header + 1 :]
        if ends:
            self._units.append(bytes(self._fragment))
            self._fragment = None
        return True


def _parts(data: bytes) -> Iterator[bytes | None]:
    """Units of an aggregation packet, each behind its length; None where a length does not fit."""
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 2])
        part = data[place + 2 : place + 2 + length]
        yield part if length and len(part) == length else None
        place += 2 + length
