"""Messages of OpenIGTLink: header, IMAGE, POLYDATA and STRING, as bytes.

Source: the protocol's specification, versions 1 to 3 (openigtlink.org). A header of 58 bytes, big endian,
precedes the body, whose CRC-64 (ECMA-182) it holds. Messages are written in version 1, which every receiver
reads, and read in all three: in version 3 (header version 2) the content stands between an extended header
and metadata.

An image's matrix holds the direction of its columns, rows and slices in mm per pixel, and the place of its
*centre*. Our images lie in the plane z = 0, with the centre of the top-left pixel at the origin, x to the
right and y down, so that a point of an outline is (x * column spacing, y * row spacing, 0).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
from fastcrc import crc64

from streamseg.core.types import Image

HEADER_BYTES = 58
MAX_NAME = 20
"""Bytes of a device's name."""
MAX_SIDE = 65_535
MAX_STRING = 65_535
UNKNOWN_SPACING = (1.0, 1.0)
"""What a matrix holds if the spacing is unknown: the protocol has no other way to say so."""
_HEADER = struct.Struct(">H12s20sQQQ")
_EXTENDED = struct.Struct(">HHII")
_IMAGE = struct.Struct(">HBBBB3H12f3H3H")
_BIG_ENDIAN, _RAS = 1, 1
_UINT8, _INT16, _UINT16 = 3, 4, 5
_OTHER_SCALARS = {2: "int8", 6: "int32", 7: "uint32", 10: "float32", 11: "float64"}
_ASCII = 3
"""IANA's number of US-ASCII."""
_SPACING_MM = (0.001, 10.0)
_FRACTION = 1 << 32


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a message."""

    version: int
    kind: str
    """``IMAGE``, ``STRING``, ..."""
    device: str
    sent_ns: int
    """Its time stamp: nanoseconds since 1970 in the sender's clock; 0 without one."""
    size: int
    """Bytes of the body."""
    crc: int

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Self:
        """Read 58 bytes. Raises ValueError if they are no header: then nothing after them can be read."""
        version, kind, device, stamp, size, crc = _HEADER.unpack(data)
        names = [name.partition(b"\0")[0] for name in (kind, device)]
        if not 1 <= version <= 3 or not names[0] or not (names[0] + names[1]).isascii():
            raise ValueError("this is not OpenIGTLink")
        return cls(version, names[0].decode(), names[1].decode(), _nanoseconds(stamp), size, crc)


@dataclass(frozen=True, slots=True, repr=False)
class Body:
    """A message without its time: the same bytes serve every viewer."""

    kind: str
    device: str
    data: bytes
    crc: int

    def message(self, stamp_ns: int) -> tuple[bytes, bytes]:
        """Header and body of the message with this time stamp, nanoseconds since 1970."""
        names = self.kind.encode(), self.device.encode("ascii", "replace")[:MAX_NAME]
        return _HEADER.pack(1, *names, _stamp(stamp_ns), len(self.data), self.crc), self.data


def image_body(device: str, image: Image, spacing_mm: tuple[float, float]) -> Body:
    """IMAGE of a grey or BGR image; ``spacing_mm`` (row, column). Label maps are grey images."""
    height, width = image.shape[:2]
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    row, column = spacing_mm
    matrix = (
        *(column, 0.0, 0.0),
        *(0.0, row, 0.0),
        *(0.0, 0.0, 1.0),
        *((width - 1) / 2 * column, (height - 1) / 2 * row, 0.0),
    )
    size = (width, height, 1)
    head = _IMAGE.pack(
        *(1, 1 if image.ndim == 2 else 3, _UINT8, _BIG_ENDIAN, _RAS), *size, *matrix, 0, 0, 0, *size
    )
    return _body("IMAGE", device, head + np.ascontiguousarray(pixels).tobytes())


def outline_body(
    device: str, contours: Sequence[npt.NDArray[np.int32]], spacing_mm: tuple[float, float]
) -> Body:
    """POLYDATA with one closed line for each contour, int32 (n, 2) of (x, y); none makes it empty."""
    row, column = spacing_mm
    points = np.concatenate([np.zeros((0, 2)), *contours])
    places = np.zeros((len(points), 3), ">f4")
    places[:, :2] = points * (column, row)
    lines, first = [], 0
    for contour in contours:
        indices = np.arange(first, first + len(contour))
        lines.append(np.concatenate([[len(contour) + 1], indices, [first]]).astype(">u4").tobytes())
        first += len(contour)
    cells = b"".join(lines)
    counts = struct.pack(">10I", len(points), 0, 0, len(lines), len(cells), 0, 0, 0, 0, 0)
    return _body("POLYDATA", device, counts + places.tobytes() + cells)


def string_body(device: str, text: str) -> Body:
    """STRING of ASCII text of at most 65,535 characters."""
    data = text.encode("ascii")
    return _body("STRING", device, struct.pack(">HH", _ASCII, len(data)) + data)


def _body(kind: str, device: str, data: bytes) -> Body:
    return Body(kind, device, data, crc64.ecma_182(data))


def is_intact(header: Header, body: bytes | bytearray) -> bool:
    """Whether a body is the one whose CRC the header holds."""
    return crc64.ecma_182(body) == header.crc


def content(header: Header, body: bytes | bytearray) -> memoryview:
    """The content of a body, without extended header and metadata. Raises ValueError for a damaged one."""
    view = memoryview(body)
    if header.version == 1:
        return view
    if len(view) < _EXTENDED.size:
        raise ValueError("its extended header is cut")
    begin, metadata_head, metadata, _ = _EXTENDED.unpack_from(view)
    end = len(view) - metadata_head - metadata
    if not _EXTENDED.size <= begin <= end:
        raise ValueError("its extended header is damaged")
    return view[begin:end]


@dataclass(frozen=True, slots=True, repr=False)
class ImageContent:
    """The content of an IMAGE message."""

    samples: npt.NDArray[np.uint8] | npt.NDArray[np.int16] | npt.NDArray[np.uint16]
    """(height, width) grey or (height, width, 3) RGB, in this machine's byte order or the other."""
    spacing_mm: tuple[float, float] | None
    """(row, column), or None if the matrix holds none that can be true: also 1 mm in both directions, which
    senders without a calibration write."""

    @classmethod
    def parse(cls, data: memoryview, max_pixels: int) -> Self:
        """Read an image of one slice. Raises ValueError: what is wrong, and what to do where that helps."""
        if len(data) < _IMAGE.size:
            raise ValueError("its image header is cut")
        _, components, scalar, endian, _, width, height, slices, *rest = _IMAGE.unpack_from(data)
        matrix, offset, part = rest[:12], rest[12:15], rest[15:18]
        if not (width and height) or slices != 1:
            raise ValueError(f"an image of {width}x{height}x{slices} pixels; make it send single slices")
        if width * height > max_pixels:
            raise ValueError(
                f"an image of {width}x{height} pixels; the limit is {max_pixels // 1_000_000} megapixels"
            )
        if offset != [0, 0, 0] or part != [width, height, slices]:
            raise ValueError("a part of an image; make it send whole ones")
        if scalar not in (_UINT8, _INT16, _UINT16) or components not in (1, 3, 4):
            kind = _OTHER_SCALARS.get(scalar, f"type {scalar}")
            raise ValueError(
                f"{components} values of {kind} a pixel; make it send grey or RGB, with 8 or 16 bits"
            )
        order = ">" if endian == _BIG_ENDIAN else "<"
        dtype = np.dtype({_UINT8: "u1", _INT16: f"{order}i2", _UINT16: f"{order}u2"}[scalar])
        needed = width * height * components * dtype.itemsize
        if len(data) != _IMAGE.size + needed:
            raise ValueError(
                f"{len(data) - _IMAGE.size} bytes for {width}x{height} pixels, which need {needed}"
            )
        shape = (height, width) if components == 1 else (height, width, components)
        samples = np.frombuffer(data, dtype, offset=_IMAGE.size).reshape(shape)
        return cls(samples if components == 1 else samples[..., :3], _spacing(matrix))


def _spacing(matrix: Sequence[float]) -> tuple[float, float] | None:
    column, row = (math.sqrt(sum(value * value for value in matrix[at : at + 3])) for at in (0, 3))
    low, high = _SPACING_MM
    if not (low <= row <= high and low <= column <= high) or (row, column) == UNKNOWN_SPACING:
        return None
    return row, column


def to_8_bits(samples: npt.NDArray[np.integer[Any]], shift: int) -> npt.NDArray[np.uint8]:
    """Samples as 8 bits, with the lowest ``shift`` bits cut off; negative ones are 0."""
    return np.asarray(np.minimum(np.maximum(samples, 0) >> shift, 255), np.uint8)


def _stamp(unix_ns: int) -> int:
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return (seconds & 0xFFFFFFFF) * _FRACTION + rest * _FRACTION // 1_000_000_000


def _nanoseconds(stamp: int) -> int:
    seconds, fraction = divmod(stamp, _FRACTION)
    return seconds * 1_000_000_000 + -(-fraction * 1_000_000_000 // _FRACTION)
