"""Reads what the receiver needs from H.264 NAL units (ITU-T H.264, 7.3): where pictures begin, and gaps.

A server that drops a picture before it numbers its packets leaves no gap in the packets. FFmpeg's decoder
then silently repeats the picture before, and all that follow are wrong. The pictures' own numbers tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HEAD_BYTES = 256
_WITH_CHROMA = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
IDR, SEI, SPS, PPS = 5, 6, 7, 8
_RECOVERY_POINT = 6
_INTRA = (2, 4, 7, 9)  # slice types I and SI; 5 more says that all slices of the picture are of it
_MAX_SPS_ID, _MAX_PPS_ID = 31, 255


@dataclass(frozen=True, slots=True)
class _Numbering:
    """How a sequence parameter set says that pictures are numbered."""

    bits: int
    gaps_allowed: bool
    separate_planes: bool
    fields: bool
    """Whether pictures may be fields."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The beginning of a slice."""

    first: bool
    """Whether it is the first of its picture, or of one of its two fields."""
    intra: bool
    """Whether it refers to no other picture."""
    numbering: _Numbering | None
    """None while its parameter sets are unknown; what follows then means nothing."""
    frame_number: int = 0
    field: str = ""
    """``top`` or ``bottom`` for a field, empty for a frame."""


class PictureTracker:
    """Follows parameter sets and ``frame_num`` through a stream."""

    def __init__(self) -> None:
        self._numberings: dict[int, _Numbering] = {}
        self._sequence_of: dict[int, int] = {}
        self._last: int | None = None
        self._repeats = 0

    def forget_last(self) -> None:
        """Begin anew with the next picture: the last one was not read."""
        self._last = None

    def learn(self, units: Sequence[bytes]) -> None:
        """Take parameter sets among NAL units (without start codes); what cannot be read is passed over."""
        for unit in units:
            kind = unit[0] & 31
            try:
                if kind == SPS:
                    number, numbering = _read_sequence(_Bits(unit))
                    self._numberings[number] = numbering
                elif kind == PPS:
                    bits = _Bits(unit)
                    picture_set = bits.golomb(_MAX_PPS_ID)
                    self._sequence_of[picture_set] = bits.golomb(_MAX_SPS_ID)
            except ValueError:
                continue

    def slice_header(self, unit: bytes) -> SliceHeader | None:
        """The header of a slice unit; None if it cannot be read."""
        bits = _Bits(unit)
        try:
            first = bits.golomb() == 0
            intra = bits.golomb() in _INTRA
            numbering = self._numberings.get(self._sequence_of.get(bits.golomb(), -1))
            if numbering is None:
                return SliceHeader(first, intra, None)
            if numbering.separate_planes:
                bits.take(2)
            number, field = bits.take(numbering.bits), ""
            if numbering.fields and bits.take(1):
                field = "bottom" if bits.take(1) else "top"
        except ValueError:
            return None
        return SliceHeader(first, intra, numbering, number, field)

    def follows(self, units: Sequence[bytes]) -> bool:
        """Whether a picture follows the last one. True where that cannot be told."""
        self.learn(units)
        first = next((unit for unit in units if is_slice(unit)), None)
        if first is None:
            return True
        header = self.slice_header(first)
        if header is None or header.numbering is None:
            self._last = None
            return True
        numbering, number = header.numbering, header.frame_number
        last, reference = self._last, bool(first[0] & 0x60)
        if reference or last is None:
            self._last = number
        if first[0] & 31 == IDR or last is None or numbering.gaps_allowed:
            return True
        if number == last and not header.field:
            # All but one of the numbers were lost, or an encoder does not count; the next picture tells.
            self._repeats += 1
            return self._repeats > 1
        if self._repeats == 1:
            self._repeats = 0
        return number in {last, (last + 1) % (1 << numbering.bits)}


def is_slice(unit: bytes) -> bool:
    return 1 <= unit[0] & 31 <= IDR


def has_recovery_point(unit: bytes) -> bool:
    """Whether an SEI unit says that decoding may begin here (Annex D: payload type 6).

    Some encoders put it after other messages in the same unit.
    """
    return any(kind == _RECOVERY_POINT for kind in _sei_messages(unit[1 : 1 + _HEAD_BYTES]))


def _sei_messages(payload: bytes) -> Iterator[int]:
    """Types of the messages in an SEI unit, each written as FF bytes and a rest, like the size after it."""
    payload, place = payload.replace(b"\0\0\3", b"\0\0"), 0
    while place + 1 < len(payload) and payload[place:] != b"\x80":
        values = []
        for _ in ("type", "size"):
            value = 0
            while payload[place : place + 1] == b"\xff":
                value, place = value + 255, place + 1
            if place >= len(payload):
                return
            values.append(value + payload[place])
            place += 1
        yield values[0]
        place += values[1]


class _Bits:
    """Bits of a NAL unit after its header. Raises ValueError at the end."""

    def __init__(self, unit: bytes) -> None:
        payload = unit[1 : 1 + _HEAD_BYTES].replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(payload)
        self._left = 8 * len(payload)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the unit ends")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def golomb(self, maximum: int = (1 << 32) - 2) -> int:
        """An unsigned number in exponential Golomb code. Raises ValueError above the maximum."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no such number")
        value = (1 << zeros) - 1 + self.take(zeros)
        if value > maximum:
            raise ValueError("out of range")
        return value

    def signed(self) -> int:
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _read_sequence(bits: _Bits) -> tuple[int, _Numbering]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.golomb(_MAX_SPS_ID)
    separate = False
    if profile in _WITH_CHROMA:
        chroma = bits.golomb()
        separate = chroma == 3 and bool(bits.take(1))
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 8 if chroma != 3 else 12)
    length = bits.golomb(12) + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb(255)):
            bits.golomb()
    bits.golomb()  # reference frames
    gaps_allowed = bool(bits.take(1))
    bits.golomb()  # width
    bits.golomb()  # height
    return number, _Numbering(length, gaps_allowed, separate, fields=not bits.take(1))


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        scale = 8
        for _ in range(16 if index < 6 else 64):
            scale = (scale + bits.signed()) % 256
            if scale == 0:
                break
