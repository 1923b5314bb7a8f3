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
_P, _B, _SP = 0, 1, 3
"""Slice types, modulo 5."""
_MAX_SPS_ID, _MAX_PPS_ID = 31, 255
_MAX_REFERENCES = 32
_MAX_COMMANDS = 66
"""Reference list changes or memory commands of a slice; twice the references of two fields, and an end."""


@dataclass(frozen=True, slots=True)
class _Numbering:
    """How a sequence parameter set says that pictures are numbered."""

    bits: int
    gaps_allowed: bool
    separate_planes: bool
    fields: bool
    """Whether pictures may be fields."""
    order_bits: int
    """Of the picture's place in display order; 0: it is not sent so."""
    order_deltas: bool
    """It is sent as differences from what is expected."""
    colour: bool
    """Whether slices hold weights for chroma."""


@dataclass(frozen=True, slots=True)
class _PictureSet:
    """What a picture parameter set says of its slices' headers."""

    sequence: int
    order_of_fields: bool = False
    references: tuple[int, int] = (1, 1)
    """Usual numbers of references of the two lists."""
    weights: bool = False
    """Whether P slices hold weights."""
    weights_of_b: bool = False
    redundant: bool = False
    readable: bool = False
    """False: slice groups, or a set that is cut. Its slices are read up to the picture's number only."""


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
    resets: bool = False
    """Whether numbers begin anew at 0 after this picture (memory management command 5)."""


class PictureTracker:
    """Follows parameter sets and ``frame_num`` through a stream."""

    def __init__(self) -> None:
        self._numberings: dict[int, _Numbering] = {}
        self._sets: dict[int, _PictureSet] = {}
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
                    self._sets[picture_set] = _read_picture_set(bits)
            except ValueError:
                continue

    def slice_header(self, unit: bytes) -> SliceHeader | None:
        """The header of a slice unit; None if it cannot be read."""
        bits = _Bits(unit)
        try:
            first = bits.golomb() == 0
            kind = bits.golomb()
            intra = kind in _INTRA
            picture_set = self._sets.get(bits.golomb())
            numbering = None if picture_set is None else self._numberings.get(picture_set.sequence)
            if numbering is None or picture_set is None:
                return SliceHeader(first, intra, None)
            if numbering.separate_planes:
                bits.take(2)
            number, field = bits.take(numbering.bits), ""
            if numbering.fields and bits.take(1):
                field = "bottom" if bits.take(1) else "top"
        except ValueError:
            return None
        kept = unit[0] & 0x60 and unit[0] & 31 != IDR and picture_set.readable
        resets = bool(kept) and _resets_numbers(bits, kind % 5, numbering, picture_set, field)
        return SliceHeader(first, intra, numbering, number, field, resets)

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
        if header.resets:
            self._last = 0  # its own number is checked below
        elif reference or last is None:
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
    else:
        chroma = 1
    length = bits.golomb(12) + 4
    order, order_bits, order_deltas = bits.golomb(), 0, False
    if order == 0:
        order_bits = bits.golomb(12) + 4
    elif order == 1:
        order_deltas = not bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb(255)):
            bits.golomb()
    bits.golomb()  # reference frames
    gaps_allowed = bool(bits.take(1))
    bits.golomb()  # width
    bits.golomb()  # height
    fields = not bits.take(1)
    colour = chroma != 0 and not separate
    return number, _Numbering(length, gaps_allowed, separate, fields, order_bits, order_deltas, colour)


def _read_picture_set(bits: _Bits) -> _PictureSet:
    """The rest of a picture parameter set, after its own number (7.3.2.2)."""
    sequence = bits.golomb(_MAX_SPS_ID)
    try:
        bits.take(1)  # entropy coding
        order_of_fields = bool(bits.take(1))
        if bits.golomb():  # slice groups
            return _PictureSet(sequence)
        references = bits.golomb(_MAX_REFERENCES) + 1, bits.golomb(_MAX_REFERENCES) + 1
        weights, weights_of_b = bool(bits.take(1)), bits.take(2) == 1
        for _ in range(3):  # quantisers
            bits.signed()
        bits.take(2)  # deblocking, constrained intra prediction
        redundant = bool(bits.take(1))
    except ValueError:
        return _PictureSet(sequence)
    return _PictureSet(sequence, order_of_fields, references, weights, weights_of_b, redundant, readable=True)


def _resets_numbers(
    bits: _Bits, kind: int, numbering: _Numbering, picture_set: _PictureSet, field: str
) -> bool:
    """Whether a slice's header, read up to the field, holds memory management command 5 (7.3.3).

    Some encoders send it where the scene changes, instead of a key frame. False if it cannot be read.
    """
    try:
        _skip_order(bits, numbering, picture_set, field)
        lists = _read_list_sizes(bits, kind, picture_set)
        for _ in lists:
            if bits.take(1):
                _skip_commands(bits, end=3, pairs=())
        weighted = picture_set.weights if kind in (_P, _SP) else picture_set.weights_of_b and kind == _B
        if weighted:
            _skip_weights(bits, lists, colour=numbering.colour)
        return bool(bits.take(1)) and _skip_commands(bits, end=0, pairs=(3,), single=(1, 2, 4, 6))
    except ValueError:
        return False


def _skip_order(bits: _Bits, numbering: _Numbering, picture_set: _PictureSet, field: str) -> None:
    delta = picture_set.order_of_fields and not field
    if numbering.order_bits:
        bits.take(numbering.order_bits)
        if delta:
            bits.signed()
    elif numbering.order_deltas:
        bits.signed()
        if delta:
            bits.signed()
    if picture_set.redundant:
        bits.golomb()


def _read_list_sizes(bits: _Bits, kind: int, picture_set: _PictureSet) -> list[int]:
    """Numbers of references of a slice's lists: none, one or two."""
    if kind == _B:
        bits.take(1)  # direct prediction
    count = {_P: 1, _SP: 1, _B: 2}.get(kind, 0)
    sizes = list(picture_set.references[:count])
    if count and bits.take(1):
        sizes = [bits.golomb(_MAX_REFERENCES) + 1 for _ in sizes]
    return sizes


def _skip_commands(bits: _Bits, *, end: int, pairs: Sequence[int], single: Sequence[int] = (0, 1, 2)) -> bool:
    """Skip commands up to the one that ends them; whether number 5 was among them.

    Those in ``single`` have one value, those in ``pairs`` two.
    """
    found = False
    for _ in range(_MAX_COMMANDS):
        command = bits.golomb()
        if command == end:
            return found
        found = found or command == 5
        for _ in range(2 if command in pairs else 1 if command in single else 0):
            bits.golomb()
    raise ValueError("too many commands")


def _skip_weights(bits: _Bits, lists: Sequence[int], *, colour: bool) -> None:
    bits.golomb()
    if colour:
        bits.golomb()
    for size in lists:
        for _ in range(size):
            for values in (2, 4) if colour else (2,):
                if bits.take(1):
                    for _ in range(values):
                        bits.signed()


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        scale = 8
        for _ in range(16 if index < 6 else 64):
            scale = (scale + bits.signed()) % 256
            if scale == 0:
                break
