"""Locates the frames of a DICOM file, so that each can be read and decoded alone.

Only the outermost structure is parsed: a long cine is never in memory as a whole, and damage in one frame
does not affect the next.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset
from pydicom.uid import UID

from streamseg.core.errors import SourceError

_ITEM, _END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_EMPTY_TABLE = _ITEM + bytes(4)
_STARTS_OF_IMAGES = (b"\xff\xd8", b"\xff\x4f")
_PIXEL_VRS = (b"OB", b"OW", b"UN", b"OF", b"OD")
_KEYWORDS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}

Span = tuple[int, int]
"""Offset and length in the file, bytes."""


@dataclass(frozen=True, slots=True)
class PixelData:
    """The frames of a file, each one or more spans of bytes."""

    file: BinaryIO
    keyword: str
    vr: str | None
    encapsulated: bool
    frames: list[list[Span]]
    """Complete frames only."""
    cut: bool
    """Whether the file holds fewer than its header promises."""

    def read(self, number: int) -> bytes:
        """One frame as complete pixel data: plain bytes, or items with an empty offset table."""
        parts = [_EMPTY_TABLE] if self.encapsulated else []
        for offset, length in self.frames[number]:
            self.file.seek(offset)
            data = self.file.read(length)
            parts += [_ITEM, length.to_bytes(4, "little"), data] if self.encapsulated else [data]
        return b"".join(parts)


def find_pixel_data(file: BinaryIO, header: Dataset, syntax: UID, promised: int) -> PixelData | None:
    """Locate the frames; the file is at the pixel data element. None if there is no such element.

    Raises SourceError for an unsupported layout.
    """
    if syntax.is_deflated:
        if "PixelData" not in header:
            return None
        inflated = io.BytesIO(header.PixelData)
        frames = _plain(header, 0, len(header.PixelData), promised)
        return PixelData(inflated, "PixelData", None, False, frames, len(frames) < promised)
    order = "little" if syntax.is_little_endian else "big"
    head = file.read(8)
    group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
    if len(head) < 8 or group != 0x7FE0 or element not in _KEYWORDS:
        return None
    vr, stated = None, head[4:8]
    if head[4:6] in _PIXEL_VRS:  # checked, since some files are not encoded as their syntax says
        vr, stated = head[4:6].decode(), file.read(4)
    start, size = file.tell(), _size(file)
    if syntax.is_encapsulated:
        frames, whole = _encapsulated(file, start, size, promised)
    else:
        length = int.from_bytes(stated, order)  # type: ignore[arg-type]
        frames, whole = _plain(header, start, min(length, size - start), promised), True
    return PixelData(
        file, _KEYWORDS[element], vr, syntax.is_encapsulated, frames, len(frames) < promised or not whole
    )


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _plain(header: Dataset, start: int, available: int, promised: int) -> list[list[Span]]:
    samples = 2 if header.PhotometricInterpretation == "YBR_FULL_422" else int(header.SamplesPerPixel)
    bits = int(header.Rows) * int(header.Columns) * samples * int(header.BitsAllocated)
    if bits % 8 and promised > 1:
        raise SourceError("frames packed bit by bit across bytes are not supported; export the file as 8-bit")
    length = -(-bits // 8)
    count = min(promised, available // length) if length else 0
    if promised == 1 and count == 1 and length < available:
        length += length % 2  # big-endian words are swapped in pairs, so the padding byte counts
    return [[(start + number * length, length)] for number in range(count)]


def _encapsulated(file: BinaryIO, start: int, size: int, promised: int) -> tuple[list[list[Span]], bool]:
    """Complete frames, and whether the last one is known to be complete."""
    items, ended = _items(file, start, size)
    if not items:
        return [], ended
    (table_at, table_length), fragments = items[0], items[1:]
    file.seek(table_at)
    table = file.read(table_length)
    offsets = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table) - 3, 4)]
    if len(fragments) <= promised and (promised > 1 or len(fragments) == 1):
        return [[fragment] for fragment in fragments], ended or len(fragments) == promised
    if len(offsets) == promised:
        first = fragments[0][0] - 8 if fragments else 0
        starts = {first + offset for offset in offsets}
        frames = _grouped(fragments, [offset - 8 in starts for offset, _ in fragments])
    else:
        frames = _grouped(
            fragments, [_starts_image(file, span) for span in fragments] if promised > 1 else []
        )
    # Without the end mark the last frame may have more fragments.
    return frames if ended else frames[:-1], ended


def _items(file: BinaryIO, start: int, size: int) -> tuple[list[Span], bool]:
    items: list[Span] = []
    position = start
    while True:
        file.seek(position)
        head = file.read(8)
        if head[:4] != _ITEM or len(head) < 8:
            return items, head[:4] == _END_OF_ITEMS
        length = int.from_bytes(head[4:], "little")
        position += 8 + length
        if position > size:
            return items, False
        items.append((position - length, length))


def _starts_image(file: BinaryIO, span: Span) -> bool:
    file.seek(span[0])
    return file.read(2) in _STARTS_OF_IMAGES


def _grouped(fragments: list[Span], begins: list[bool]) -> list[list[Span]]:
    frames: list[list[Span]] = []
    for number, fragment in enumerate(fragments):
        if not frames or (begins and begins[number]):
            frames.append([])
        frames[-1].append(fragment)
    return frames
