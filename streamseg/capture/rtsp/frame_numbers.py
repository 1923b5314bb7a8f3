"""Notices whole H.264 pictures that are missing, by their numbers (ITU-T H.264, 7.3.2.1, 7.3.3, 7.4.3).

A server that drops a picture before it numbers its packets leaves no gap in the packets. FFmpeg's decoder
then silently repeats the picture before, and all that follow are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HEAD_BYTES = 64
_WITH_CHROMA = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_IDR, _SPS, _PPS = 5, 7, 8


@dataclass(frozen=True, slots=True)
class _Numbering:
    """How a sequence parameter set says that pictures are numbered."""

    bits: int
    gaps_allowed: bool
    separate_planes: bool


class FrameNumberTracker:
    """Follows ``frame_num`` through a stream."""

    def __init__(self) -> None:
        self._numberings: dict[int, _Numbering] = {}
        self._sequence_of: dict[int, int] = {}
        self._last: int | None = None

    def learn(self, units: Sequence[bytes]) -> None:
        """Take parameter sets among NAL units (without start codes); what cannot be read is passed over."""
        for unit in units:
            kind = unit[0] & 31
            try:
                if kind == _SPS:
                    number, numbering = _read_sequence(_Bits(unit))
                    self._numberings[number] = numbering
                elif kind == _PPS:
                    bits = _Bits(unit)
                    self._sequence_of[bits.golomb()] = bits.golomb()
            except ValueError:
                continue

    def follows(self, units: Sequence[bytes]) -> bool:
        """Whether a picture follows the last one. True where that cannot be told."""
        self.learn(units)
        first = next((unit for unit in units if 1 <= unit[0] & 31 <= _IDR), None)
        if first is None:
            return True
        try:
            numbering, number = self._number_of(_Bits(first))
        except (ValueError, KeyError):
            self._last = None
            return True
        last, reference = self._last, bool(first[0] & 0x60)
        if reference or last is None:
            self._last = number
        if first[0] & 31 == _IDR or last is None or numbering.gaps_allowed:
            return True
        return number in {last, (last + 1) % (1 << numbering.bits)}

    def _number_of(self, bits: _Bits) -> tuple[_Numbering, int]:
        bits.golomb()  # first macroblock
        bits.golomb()  # slice type
        numbering = self._numberings[self._sequence_of[bits.golomb()]]
        if numbering.separate_planes:
            bits.take(2)
        return numbering, bits.take(numbering.bits)


class _Bits:
    """Bits of a NAL unit behind its header. Raises ValueError at the end."""

    def __init__(self, unit: bytes) -> None:
        payload = unit[1 : 1 + _HEAD_BYTES * 4].replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(payload)
        self._left = 8 * len(payload)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the unit ends")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """An unsigned number in exponential Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no such number")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _read_sequence(bits: _Bits) -> tuple[int, _Numbering]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.golomb()
    separate = False
    if profile in _WITH_CHROMA:
        chroma = bits.golomb()
        separate = chroma == 3 and bool(bits.take(1))
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 8 if chroma != 3 else 12)
    length = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(min(bits.golomb(), 255)):
            bits.golomb()
    bits.golomb()  # reference frames
    if length > 16:
        raise ValueError("no such length")
    return number, _Numbering(length, bool(bits.take(1)), separate)


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        scale = 8
        for _ in range(16 if index < 6 else 64):
            scale = (scale + bits.signed()) % 256
            if scale == 0:
                break
