"""Assembles coded pictures from RTP packets: H.264 (RFC 6184) and H.265 (RFC 7798).

A picture is complete with the packet that has the marker, so it need not wait for the first packet of the
next one, which would cost a frame interval. If a server sets the marker elsewhere, the next one is
awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamseg.capture.rtsp.h264 import IDR, SEI, PictureTracker, SliceHeader, has_recovery_point, is_slice
from streamseg.capture.rtsp.rtp import Arrival

_START = b"\0\0\0\1"
_MAX_BYTES = 32 << 20
"""No compressed picture is larger; a stream without ends must not fill the memory."""
_MAX_UNITS = 4096
_MAX_PARTS = 256
"""Units in one aggregation packet; each is of some use, and a packet has 64 KiB at most."""
_RECENT = 32
_PROBATION = 64
_SUFFIX_SEI = 40
_PACI = 50


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
    """Assembles pictures from packets."""

    def push(self, arrival: Arrival) -> list[CodedPicture]: ...


class NalAssembler:
    """Assembles pictures of H.264, or of H.265 with ``hevc``."""

    def __init__(self, *, hevc: bool, parameter_sets: Sequence[bytes] = ()) -> None:
        self._hevc = hevc
        # The decoder itself notices if a picture is missing that an H.265 picture refers to.
        self._tracker = None if hevc else PictureTracker()
        if self._tracker is not None:
            self._tracker.learn(parameter_sets)
        self._header = 2 if hevc else 1
        self._open = False
        self._timestamp = 0
        self._arrived_ns = 0
        self._broken = False
        self._units: list[bytes] = []
        self._slices = 0
        self._size = 0
        self._fragment: bytearray | None = None
        self._marker = _Marker()
        self._last_slice: SliceHeader | None = None
        self._clean_starts = False

    def push(self, arrival: Arrival) -> list[CodedPicture]:
        """Take a packet in its place; returns what is complete, or known to be broken."""
        packet = arrival.packet
        pictures: list[CodedPicture] = []
        unit = self._slice_in(packet.payload)
        first = unit is not None and bool(unit[self._header] & 128)
        if self._open and packet.timestamp != self._timestamp:
            # Some servers set no marker. If packets are missing, those of the end may be among them.
            self._broken = self._broken or arrival.lost
            self._marker.picture_ended(self._slices, whole=self._is_whole())
            pictures += self._finish()
        elif self._open and first and not arrival.lost and self._is_another_picture(unit):
            # Seen with servers that give several pictures one time stamp, or all of them the same. Parameter
            # sets and messages after the last slice belong to the picture that begins.
            last = max(place for place, there in enumerate(self._units) if self._is_slice(there))
            self._units, ahead = self._units[: last + 1], self._units[last + 1 :]
            self._marker.picture_ended(self._slices, whole=self._is_whole())
            pictures += self._finish()
            self._units, self._size = ahead, sum(map(len, ahead))
        if not self._open:
            self._open, self._timestamp, self._arrived_ns = True, packet.timestamp, arrival.arrived_ns
        if first:
            self._marker.picture_begins()
        elif self._marker.was_wrong(packet.timestamp, unit is not None or self._is_inner(packet.payload)):
            # OBS with x264 zerolatency marks every slice: what passed for the picture was its first part.
            self._broken = True
        self._broken = self._broken or arrival.lost
        if not self._broken:
            self._size += len(packet.payload)
            taken = self._size <= _MAX_BYTES and self._take(packet.payload)
            self._broken = not taken or len(self._units) > _MAX_UNITS
        if packet.marker and self._marker.ends_picture(packet.timestamp, self._slices):
            pictures += self._finish()
        return pictures

    def _finish(self) -> list[CodedPicture]:
        self._broken = self._broken or self._fragment is not None
        self._open, self._fragment, self._last_slice = False, None, None
        if self._broken:
            self._broken = False
            self._units, self._slices, self._size = [], 0, 0
            if self._tracker is not None:
                self._tracker.forget_last()
            return [CodedPicture(b"", self._timestamp, self._arrived_ns, key=False, broken=True)]
        if not self._slices:
            return []  # parameter sets alone: they go with the next picture
        whole = self._is_whole()
        units, self._units, self._slices, self._size = self._units, [], 0, 0
        follows = self._tracker is None or self._tracker.follows(units)
        key = self._is_key(units)
        broken = CodedPicture(b"", self._timestamp, self._arrived_ns, key=False, broken=True)
        if not whole or not (follows or key):
            return [broken]
        data = b"".join(_START + unit for unit in units)
        picture = CodedPicture(data, self._timestamp, self._arrived_ns, key)
        # A recovery point still refers to what is missing: the decoder must begin anew with it.
        return [picture] if follows else [broken, picture]

    def _is_whole(self) -> bool:
        """Whether the picture is there from its first slice on.

        Whoever joins a stream may get the end of a picture first: only a first slice says that it is 0.
        """
        first = next((unit for unit in self._units if self._is_slice(unit)), None)
        return not self._broken and first is not None and bool(first[self._header] & 128)

    def _is_key(self, units: Sequence[bytes]) -> bool:
        """An IDR picture (H.265: any intra random access point), or a recovery point.

        Some encoders send neither, but I pictures or a gradual refresh. Their I pictures count only while
        nothing better was seen: in other streams the pictures after them may refer to some before them.

        A gradual refresh of H.265 without recovery points is not joined. Streams of x265 were still wrong by
        50 grey levels in the mean one refresh after that, and by 14 after four; no picture was marked so.
        """
        if self._hevc:
            # H.265: prefix SEI is type 39; a recovery point there marks a gradual refresh.
            kinds = [self._kind(unit) for unit in units]
            points = (has_recovery_point(unit[1:]) for unit in units if self._kind(unit) == 39)
            return any(16 <= kind < 22 for kind in kinds) or any(points)
        assert self._tracker is not None
        kinds = [self._kind(unit) for unit in units]
        clean = IDR in kinds or any(
            kind == SEI and has_recovery_point(unit) for kind, unit in zip(kinds, units, strict=True)
        )
        self._clean_starts = self._clean_starts or clean
        if clean or self._clean_starts:
            return clean
        headers = [self._tracker.slice_header(unit) for unit in units if is_slice(unit)]
        return all(header is not None and header.intra for header in headers)

    def _kind(self, unit: bytes) -> int:
        return unit[0] >> 1 & 63 if self._hevc else unit[0] & 31

    def _is_slice(self, unit: bytes) -> bool:
        return self._kind(unit) < 32 if self._hevc else is_slice(unit)

    def _slice_in(self, payload: bytes) -> bytes | None:
        """The beginning of the first slice in a packet; None if no slice begins in it."""
        aggregate, fragment, _ = self._forms()
        payload = self._unwrapped(payload)
        if len(payload) <= self._header:
            return None
        if self._kind(payload) == fragment:
            if len(payload) < self._header + 2 or not payload[self._header] & 128:
                return None
            unit = self._fragment_head(payload) + payload[self._header + 1 : self._header + 257]
            return unit if self._is_slice(unit) else None
        if self._kind(payload) == aggregate:
            parts = (part for part in _parts(payload[self._header :]) if part and len(part) > self._header)
            return next((part for part in parts if self._is_slice(part)), None)
        return payload if self._is_slice(payload) else None

    def _is_another_picture(self, unit: bytes | None) -> bool:
        """Whether a first slice belongs to another picture than the slices that are there already."""
        if unit is None or not self._slices:
            return False
        if self._tracker is None:
            return True
        last = self._last_header()  # first: it learns the parameter sets that are there
        header = self._tracker.slice_header(unit)
        if header is None or last is None:
            return False
        # The second field of a picture begins at its first macroblock as well.
        pair = header.field and last.field and header.field != last.field
        return not (pair and header.frame_number == last.frame_number)

    def _is_inner(self, payload: bytes) -> bool:
        """Whether a packet is a fragment of a slice, but not its first."""
        fragment = len(payload) > self._header + 1 and self._kind(payload) == self._forms()[1]
        return fragment and not payload[self._header] & 128 and self._is_slice(self._fragment_head(payload))

    def _last_header(self) -> SliceHeader | None:
        if self._last_slice is None and self._tracker is not None:
            self._tracker.learn(self._units)
            unit = next((unit for unit in self._units if is_slice(unit)), None)
            self._last_slice = None if unit is None else self._tracker.slice_header(unit)
        return self._last_slice

    def _forms(self) -> tuple[int, int, tuple[int, ...]]:
        """Types of packets: aggregation, fragment, and those of modes that a description must not offer."""
        return (48, 49, ()) if self._hevc else (24, 28, (25, 26, 27, 29))

    def _unwrapped(self, payload: bytes) -> bytes:
        """The packet inside an H.265 packet that carries more about its content (PACI, RFC 7798, 4.4.4)."""
        if not self._hevc or len(payload) < 5 or self._kind(payload) != _PACI:
            return payload
        fields = int.from_bytes(payload[2:4])
        head = bytes((fields >> 15 << 7 | (fields >> 9 & 63) << 1 | payload[0] & 1, payload[1]))
        return head + payload[4 + (fields >> 4 & 31) :]

    def _take(self, payload: bytes) -> bool:
        """Add a packet's content. False: it makes no sense."""
        aggregate, fragment, unreadable = self._forms()
        payload = self._unwrapped(payload)
        if not payload:
            return True  # padding alone: some servers probe the bandwidth with it
        if payload[0] & 128 or len(payload) < self._header:
            return False
        kind = self._kind(payload)
        if kind == fragment:
            return self._take_fragment(payload)
        alone = self._fragment is None
        if kind == aggregate:
            return alone and self._take_several(payload)
        if not self._is_needed(kind):
            return kind not in unreadable
        if alone:
            self._add(payload)
        return alone

    def _add(self, unit: bytes) -> None:
        """Store a unit if a decoder needs it; units of a header alone (end of sequence) are not needed."""
        kind = self._kind(unit)
        if len(unit) <= self._header or not self._is_needed(kind):
            return
        if self._hevc and kind == _SUFFIX_SEI and not self._slices:
            return  # of the picture before, whose marker came on its last slice; it may hold a check sum
        self._units.append(unit)
        self._slices += self._is_slice(unit)

    def _is_needed(self, kind: int) -> bool:
        """Whether a decoder needs units of this type: receivers pass over those that no standard defines."""
        return kind < 48 if self._hevc else 0 < kind < 24

    def _take_several(self, payload: bytes) -> bool:
        parts = list(_parts(payload[self._header :]))
        if any(part is None or len(part) < self._header or part[0] & 128 for part in parts):
            return False
        for part in filter(None, parts):
            self._add(part)
        return True

    def _fragment_head(self, payload: bytes) -> bytes:
        """The header of the unit that a fragment belongs to."""
        kind = payload[self._header] & (63 if self._hevc else 31)
        if self._hevc:
            return bytes((payload[0] & 0x81 | kind << 1, payload[1]))
        return bytes((payload[0] & 0xE0 | kind,))

    def _take_fragment(self, payload: bytes) -> bool:
        if len(payload) <= self._header + 1:
            return False
        flags, head = payload[self._header], self._fragment_head(payload)
        if flags & 128:
            if self._fragment is not None:
                return False
            self._fragment = bytearray(head)
        elif self._fragment is None or not self._fragment.startswith(head):
            return False
        self._fragment += payload[self._header + 1 :]
        if flags & 64:
            self._add(bytes(self._fragment))
            self._fragment = None
        return True


class _Marker:
    """Knows whether a server's marker ends a picture, or something smaller.

    The first picture waits for the next one's time stamp. If its marker came once and last, later pictures
    end with their marker. If a packet with more of the same picture follows a marker, it is trusted
    again only after many pictures that did better.
    """

    def __init__(self) -> None:
        self._trusted = False
        self._needed = 1
        """Pictures in a row whose marker must come once and last before it is trusted."""
        self._good = 0
        self._ended = False
        self._marked: int | None = None
        """Time stamp of a marked packet after slices, until the time stamp changes."""
        self._slices: deque[int] = deque(maxlen=_RECENT)
        """Numbers of slices of the latest pictures."""

    def ends_picture(self, timestamp: int, slices: int) -> bool:
        """Take a marked packet after this number of slices; whether it ends its picture."""
        if not slices:
            return False
        self._marked = timestamp
        # Fewer slices than ever: it may be the first that a server marks. The next time stamp tells.
        self._ended = self._trusted and slices >= min(self._slices)
        if self._ended:
            self._slices.append(slices)
        return self._ended

    def was_wrong(self, timestamp: int, continues: bool) -> bool:
        """Take a packet; whether it continues a picture that was ended by its marker."""
        if self._marked != timestamp or not continues:
            return False
        if self._trusted or self._needed == 1:
            self._needed = max(_PROBATION, 4 * self._needed)
        ended, self._trusted, self._good, self._marked = self._ended, False, 0, None
        return ended

    def picture_begins(self) -> None:
        """A packet with the first slice of a picture has come."""
        if self._trusted:
            self._marked = None

    def picture_ended(self, slices: int, *, whole: bool) -> None:
        """Another picture has begun, or the time stamp has changed."""
        if whole:
            self._slices.append(slices)
        if self._marked is not None and whole:
            self._good += 1
            self._trusted = self._trusted or self._good >= self._needed
        self._marked = None


def _parts(data: bytes) -> Iterator[bytes | None]:
    """Units of an aggregation packet, each after its length; None if a length does not fit."""
    place = count = 0
    while place < len(data):
        count += 1
        if count > _MAX_PARTS:
            yield None
            return
        length = int.from_bytes(data[place : place + 2])
        part = data[place + 2 : place + 2 + length]
        yield part if length and len(part) == length else None
        place += 2 + length
