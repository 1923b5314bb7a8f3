"""Locates the frames of a DICOM file, so that each can be read and decoded alone.

Only the outermost structure is parsed: a long cine is never in memory as a whole, and damage in one frame
does not affect the next.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian

from streamseg.capture.dicom.header import MAX_FRAMES
from streamseg.core.errors import SourceError

_ITEM, _END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_EMPTY_TABLE = _ITEM + bytes(4)
_UNDEFINED = b"\xff\xff\xff\xff"
_STARTS_OF_IMAGES = (b"\xff\xd8\xff", b"\xff\x4f\xff", b"\0\0\0\x0cjP  ")
_LONGEST_START = 8
_MAX_RLE_SEGMENTS = 15
_PIXEL_VRS = (b"OB", b"OW", b"UN", b"OF", b"OD")
_KEYWORDS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}

Span = tuple[int, int]
"""Offset and length in the file, bytes."""


@dataclass(slots=True)
class PixelData:
    """The frames of a file, each one or more spans of bytes."""

    file: BinaryIO
    keyword: str
    vr: str | None
    encapsulated: bool
    frames: Sequence[Sequence[Span]]
    """Complete frames only."""
    cut: bool
    """Whether the file holds fewer than its header promises."""
    certain: bool = True
    """Whether each frame is certain to be at its own position: not if some may be missing in between."""

    def read(self, number: int) -> bytes:
        """The data of one frame, without items. Raises EOFError if it is cut, and notes that."""
        parts = []
        for offset, length in self.frames[number]:
            self.file.seek(offset)
            parts.append(self.file.read(length))
            if len(parts[-1]) < length:
                self.cut = True
                raise EOFError
        return b"".join(parts)


def as_item(data: bytes) -> bytes:
    """The data of a frame as one item after an empty offset table, as encapsulated pixel data has it."""
    padded = data + bytes(len(data) % 2)
    return b"".join((_EMPTY_TABLE, _ITEM, len(padded).to_bytes(4, "little"), padded))


def find_pixel_data(file: BinaryIO, header: Dataset, syntax: UID, promised: int) -> PixelData | None:
    """Locate the frames; the file is at the pixel data element. None if there is no such element.

    A file may hold more frames than ``promised``, as headers without NumberOfFrames promise one: all are
    found. Whether the data is encapsulated is read from the element itself, because labels are sometimes
    wrong. Raises SourceError for an unsupported layout.
    """
    order = "big" if syntax == ExplicitVRBigEndian else "little"  # a private syntax does not say
    head = file.read(8)
    group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
    if len(head) < 8 or group != 0x7FE0 or element not in _KEYWORDS:
        return None
    vr, stated = None, head[4:8]
    if head[4:6] in _PIXEL_VRS:  # checked, since some files are not encoded as their syntax says
        vr, stated = head[4:6].decode(), file.read(4)
    start, encapsulated = file.tell(), stated == _UNDEFINED
    frames: Sequence[Sequence[Span]]
    certain = True
    if encapsulated:
        frames, whole, certain = _encapsulated(file, start, promised)
    else:
        available = int.from_bytes(stated, order)  # type: ignore[arg-type]
        size = _size(file)
        frames, whole = _plain(header, start, min(available, size - start), promised), True
    cut = len(frames) < promised or not whole
    return PixelData(file, _KEYWORDS[element], vr, encapsulated, frames, cut, certain)


def find_stream(file: BinaryIO) -> tuple[list[Span], bool]:
    """The parts of the one stream that is the pixel data, and whether it is complete.

    The file is at the pixel data element. Raises SourceError if there is none.
    """
    head = file.read(8)
    if head[:4] != b"\xe0\x7f\x10\0":
        raise SourceError("the file holds no pixel data; give an image or cine")
    if head[4:6] in _PIXEL_VRS:
        file.read(4)
    items, ended = _items(file, file.tell(), _size(file))
    if not ended:  # the last part may be there in part
        end = items[-1][0] + items[-1][1] if items else file.tell()
        items.append((end + 8, 1 << 40))
    return items[1:], ended


def _size(file: BinaryIO) -> int:
    """Size of a file; for an inflated one the maximum, since only inflating it all reveals its size."""
    if isinstance(file, io.IOBase):
        here = file.tell()
        size = file.seek(0, 2)
        file.seek(here)
        return size
    return 1 << 62


class _EqualFrames(Sequence[Sequence[Span]]):
    """Frames of equal length one after another, which no list has to hold."""

    def __init__(self, start: int, length: int, count: int, last_length: int) -> None:
        self._start, self._length, self._count, self._last = start, length, count, last_length

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Sequence[Span]:  # type: ignore[override]
        if not 0 <= number < self._count:
            raise IndexError(number)
        length = self._last if number == self._count - 1 else self._length
        return ((self._start + number * self._length, length),)


def _plain(header: Dataset, start: int, available: int, promised: int) -> _EqualFrames:
    samples, pixels = int(header.SamplesPerPixel), int(header.Rows) * int(header.Columns)
    if header.PhotometricInterpretation == "YBR_FULL_422":
        # Some files say so of complete samples, which have two or three bytes for each pixel.
        if available - 3 * pixels * promised in (0, 1):
            header.PhotometricInterpretation = "YBR_FULL"
        else:
            samples = 2
    bits = pixels * samples * int(header.BitsAllocated)
    if bits % 8 and promised > 1:
        raise SourceError("frames packed bit by bit across bytes are not supported; export the file as 8-bit")
    length = -(-bits // 8)
    count = available // length if length else 0
    if bits % 8:
        count = min(count, 1)
    if count > MAX_FRAMES:
        raise SourceError(f"the file holds {count} frames; the limit is {MAX_FRAMES}")
    last = length
    if count == 1 and length < available:
        last += length % 2  # big-endian words are swapped in pairs, so the padding byte counts
    return _EqualFrames(start, length, count, last)


def _encapsulated(file: BinaryIO, start: int, promised: int) -> tuple[list[list[Span]], bool, bool]:
    """Complete frames, whether the last one is known to be complete, and whether none is missing before."""
    items, ended = _items(file, start, _size(file))
    if not items:
        return [], ended, True
    (table_at, table_length), fragments = items[0], items[1:]
    file.seek(table_at)
    table = file.read(min(table_length, 4 * MAX_FRAMES))
    offsets = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table) - 3, 4)]
    if len(fragments) == promised or (len(fragments) < promised and promised > 1):
        every = len(fragments) == promised
        return [[fragment] for fragment in fragments], ended or every, every or not ended
    begins = [_starts_image(file, span) for span in fragments]
    by_table = False
    if len(offsets) == promised > 1 or (len(offsets) > promised and sum(begins) in (0, len(offsets))):
        first = fragments[0][0] - 8 if fragments else 0
        starts = {first + offset for offset in offsets}
        listed = [offset - 8 in starts for offset, _ in fragments]
        if sum(listed) == len(offsets):  # else the table is wrong
            begins, by_table = listed, True
    frames = _grouped(fragments, begins)
    # A start that is damaged joins two frames, and every later one moves up.
    certain = by_table or len(frames) == promised
    # Without the end mark the last frame may have more fragments.
    return frames if ended else frames[:-1], ended, certain


def _items(file: BinaryIO, start: int, size: int) -> tuple[list[Span], bool]:
    items: list[Span] = []
    position = start
    while len(items) <= MAX_FRAMES + 1:
        file.seek(position)
        head = file.read(8)
        if head[:4] != _ITEM or len(head) < 8:
            return items, head[:4] == _END_OF_ITEMS
        length = int.from_bytes(head[4:], "little")
        position += 8 + length
        if position > size:
            return items, False
        items.append((position - length, length))
    raise SourceError(f"the file holds more than {MAX_FRAMES} frames")


def _starts_image(file: BinaryIO, span: Span) -> bool:
    file.seek(span[0])
    head = file.read(min(span[1], _LONGEST_START))
    is_rle = head[1:] == b"\0\0\0\x40\0\0\0" and 1 <= head[0] <= _MAX_RLE_SEGMENTS
    return is_rle or head.startswith(_STARTS_OF_IMAGES)


def _grouped(fragments: list[Span], begins: list[bool]) -> list[list[Span]]:
    frames: list[list[Span]] = []
    for number, fragment in enumerate(fragments):
        if not frames or begins[number]:
            frames.append([])
        frames[-1].append(fragment)
    return frames
