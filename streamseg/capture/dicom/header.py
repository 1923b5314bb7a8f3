"""Reads frame times, the image region and the pixel spacing from a DICOM header.

Only the elements that are asked for are read, so a patient's name or number is in memory only where results
are written for the same study (:mod:`streamseg.capture.dicom.reference`).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from streamseg.capture.dicom.inflated import InflatedFile
from streamseg.core.errors import SourceError, StreamsegError, is_programming_error
from streamseg.core.numbers import read_decimal, read_fraction, read_integer
from streamseg.core.types import Roi

_WANTED = """
SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated
PixelSpacing PixelAspectRatio SeriesInstanceUID InstanceNumber
BitsStored HighBit PixelRepresentation FrameIncrementPointer FrameTime FrameTimeVector CineRate
RecommendedDisplayFrameRate SequenceOfUltrasoundRegions WindowCenter WindowWidth VOILUTFunction
VOILUTSequence RescaleSlope RescaleIntercept ModalityLUTSequence RedPaletteColorLookupTableDescriptor
GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
SegmentedBluePaletteColorLookupTableData
""".split()  # noqa: SIM905  # a name on a line of its own would say no more
_MICROSECOND = Fraction(1, 1_000_000)
_CENTIMETRES, _TWO_DIMENSIONAL, _TISSUE, _COLOUR_FLOW = 3, 1, 1, 2
_MIN_SPACING_MM, _MAX_SPACING_MM = 0.001, 10.0
MAX_FRAMES = 1_000_000
"""Frames of a cine (nine hours at 30 a second); a header that states more is damaged."""
_MAX_HEADER_BYTES, _MAX_HEADER_READS = 64 << 20, 200_000
_MAX_META_ELEMENTS = 64
_MAX_LOOKUP = 1 << 16
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MAX_NESTING, _MAX_ITEMS = 8, 64
"""Levels and items of a sequence that are read: of thousands of regions each took a millisecond."""
_INTEGERS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PlanarConfiguration"),
)
_NUMBER = rb" *(?:[+-]?(?:[0-9]{1,19}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?)?[ \0]*"
_PLAIN_NUMBERS = re.compile(_NUMBER + rb"(?:\\" + _NUMBER + rb")*")
_SLACK = 2
"""Pixels by which a region may exceed the image; a larger region describes another image."""


def read_header(file: BinaryIO, wanted: Sequence[str] = _WANTED) -> tuple[Dataset, UID, BinaryIO]:
    """Read the header: the data set, its transfer syntax, and the file at its pixel data element.

    The data set holds the elements with the keywords ``wanted``, by default those about the image.
    The file returned is another one, :class:`InflatedFile`, if the data set is deflated.
    Numbers written as text that are not plain numbers are removed, so that nothing converts them. Raises
    SourceError for a header that takes too much memory or time, and what pydicom raises if the file is not
    DICOM.
    """
    reader = _BoundedFile(file)
    if (inflated := _inflated(file)) is not None:
        reader, file = _BoundedFile(inflated), inflated
    header = dcmread(reader, force=True, stop_before_pixels=True, specific_tags=list(wanted))
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # files without a file header: pydicom detects their encoding
        implicit, little = header.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else f"1.2.840.10008.1.2.{1 if little else 2}"
    _remove_bad_numbers(header)
    _remove_bad_integers(header)
    _check_lookup_tables(header)
    return header, UID(syntax), file


class _BoundedFile:
    """A file for pydicom to read a header from; ends with SourceError where no header is that long.

    A file of zeros is an endless list of elements, and an element's length may be anything up to 4 GB.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = self._reads = 0
        self.name = ""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        left = _MAX_HEADER_BYTES - self._bytes
        if self._reads > _MAX_HEADER_READS or size > left:
            raise SourceError("the header of a DICOM file is too large; export the file again")
        data = self._file.read(size if size >= 0 else left + 1)
        self._bytes += len(data)
        if self._bytes > _MAX_HEADER_BYTES:
            raise SourceError("the header of a DICOM file is too large; export the file again")
        return data

    def close(self) -> None:
        """The file belongs to the source."""


def _inflated(file: BinaryIO) -> BinaryIO | None:
    """The data set of a deflated file; None for any other file, which is rewound."""
    syntax, end = b"", 0
    if file.read(132)[128:] == b"DICM":
        for _ in range(_MAX_META_ELEMENTS):
            end = file.tell()
            head = file.read(8)
            if head[:2] != b"\x02\0":
                break
            long = head[4:6] in (b"OB", b"UN")
            length = int.from_bytes(file.read(4) if long else head[6:8], "little")
            if head[2:4] == b"\x10\0":
                syntax = file.read(min(length, 64)).rstrip(b"\0 ")
            file.seek(end + (12 if long else 8) + length)
    file.seek(0)
    if syntax != DeflatedExplicitVRLittleEndian.encode():
        return None
    return cast(BinaryIO, InflatedFile(file, end))


def _remove_bad_numbers(data: Dataset, depth: int = 0) -> None:
    """Remove numbers as text (DS, IS) that are not plain: pydicom would convert `1e99999999` for ever."""
    for tag in list(data.keys()):
        element = data.get_item(tag)
        vr = element.VR or _usual_vr(tag)
        if vr == "SQ" and depth < _MAX_NESTING:
            if isinstance(element, RawDataElement):
                data[tag] = element._replace(value=_first_items(element))
            items = data[tag].value or ()
            if len(items) > _MAX_ITEMS:
                data[tag].value = items = items[:_MAX_ITEMS]
            for item in items:
                _remove_bad_numbers(item, depth + 1)
        elif vr in ("DS", "IS") and isinstance(element, RawDataElement):
            value = element.value or b""
            if not _PLAIN_NUMBERS.fullmatch(value) or value.count(b"\\") > MAX_FRAMES:
                del data[tag]


def _first_items(element: RawDataElement) -> bytes:
    """The first items of a sequence, not yet parsed; all where an item states no length."""
    value, position = element.value or b"", 0
    order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
    for _ in range(_MAX_ITEMS):
        length = int.from_bytes(value[position + 4 : position + 8], order)
        if length == _UNDEFINED_LENGTH or position >= len(value):
            return value
        position += 8 + length
    return value[:position]


def _remove_bad_integers(header: Dataset) -> None:
    """Remove what should be one integer but is several, or something else: damage, or a writer's mistake."""
    for keyword in _INTEGERS:
        if keyword in header and not isinstance(header[keyword].value, int):
            del header[keyword]


def _usual_vr(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _check_lookup_tables(header: Dataset) -> None:
    """Raise SourceError for a segmented palette that expands to more entries than a palette has."""
    order = "<" if header.original_encoding[1] else ">"
    for colour in ("Red", "Green", "Blue"):
        tag = tag_for_keyword(f"Segmented{colour}PaletteColorLookupTableData")
        value = None if tag is None or tag not in header else header[tag].value
        data = value if isinstance(value, bytes) else b""
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
        total = at = 0
        while at + 1 < len(words) and total <= _MAX_LOOKUP:
            kind, count = int(words[at]), int(words[at + 1])
            if kind > 1:  # repeats earlier segments: nobody writes that, and it multiplies
                total = _MAX_LOOKUP + 1
            total += count
            at += 2 + (count if kind == 0 else 1)
        if total > _MAX_LOOKUP:
            raise SourceError("the palette is damaged; export the file again")


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Times of the frames of a cine, from the first. ``base`` is None if the header gives none."""

    base: Fraction | None = None
    rate: Fraction | None = None
    steps: Sequence[int] | None = None
    """Time of each frame in units of ``base``, or None if that is the frame's number."""

    def pts(self, number: int) -> Fraction | None:
        """Time of a frame in seconds, exact, or None if unknown."""
        if self.base is None:
            return None
        if self.steps is None:
            return number * self.base
        return self.steps[number] * self.base if number < len(self.steps) else None


def frame_times(header: Dataset) -> FrameTimes:
    """Times from FrameTimeVector, FrameTime, CineRate or RecommendedDisplayFrameRate, the first present."""
    increments = _numbers(header, "FrameTimeVector")
    if len(increments) > 1 and all(step is not None and step >= 0 for step in increments):
        # The first increment leads to the first frame; times count from there.
        milliseconds = accumulate((step or 0.0 for step in increments[1:]), initial=0.0)
        steps = [round(1000 * time) for time in milliseconds]
        if steps[-1] > 0:
            return FrameTimes(_MICROSECOND, _nominal((len(steps) - 1) / (steps[-1] * _MICROSECOND)), steps)
    for keyword in ("FrameTime", "CineRate", "RecommendedDisplayFrameRate"):
        value = next(iter(_texts(header, keyword)), "")
        exact = read_fraction(value[:20], 1e-6, 1e9)
        if exact is not None:
            base = exact / 1000 if keyword == "FrameTime" else 1 / exact
            return FrameTimes(base.limit_denominator(1_000_000_000), _nominal(1 / base))
    return FrameTimes()


def image_region(header: Dataset) -> tuple[Roi | None, tuple[float, float] | None]:
    """The ultrasound image inside the frame, and its millimetres per pixel (row, column).

    The image is the largest two-dimensional tissue region of the Sequence of Ultrasound Regions (0018,6011),
    preferably one in centimetres, else the largest colour flow region. If it states no scale, that of a
    colour flow region inside it counts, and without any regions that of PixelSpacing (0028,0030). Each is
    None if unknown. A region that exceeds the frame is clipped, and its spacing is ignored: the frame was
    resized.
    """
    width, height = int(header.Columns), int(header.Rows)
    found = [_region(item, width, height) for item in _values(header, "SequenceOfUltrasoundRegions")]
    regions = [region for region in found if region is not None]
    if not regions:
        return None, _plain_spacing(header)
    best = max(regions, key=lambda region: (region.tissue, region.spacing is not None, region.area))
    if best.spacing is not None:
        return best.roi, best.spacing
    inside = [other for other in regions if other.spacing is not None and _holds(best.roi, other.roi)]
    return best.roi, max(inside, key=lambda region: region.area).spacing if inside else None


@dataclass(frozen=True, slots=True)
class _Region:
    tissue: bool
    roi: Roi
    spacing: tuple[float, float] | None

    @property
    def area(self) -> int:
        return self.roi.width * self.roi.height


_ENDS = ("MinX0", "MinY0", "MaxX1", "MaxY1")


def _region(item: Dataset, width: int, height: int) -> _Region | None:
    """A two-dimensional region of tissue or colour flow inside the frame, or None."""
    kind = item.get("RegionDataType")
    if item.get("RegionSpatialFormat") != _TWO_DIMENSIONAL or kind not in (_TISSUE, _COLOUR_FLOW):
        return None
    ends = [_whole(item.get(f"RegionLocation{end}")) for end in _ENDS]
    left, top, right, bottom = (-1 if end is None else end for end in ends)
    if not (0 <= left <= right and 0 <= top <= bottom and left < width and top < height):
        return None
    roi = Roi(left, top, min(right + 1, width) - left, min(bottom + 1, height) - top)
    fits = right < width + _SLACK and bottom < height + _SLACK
    return _Region(kind == _TISSUE, roi, _spacing(item) if fits else None)


def _holds(outer: Roi, inner: Roi) -> bool:
    """Whether the centre of a rectangle lies inside another one."""
    x, y = inner.x + inner.width / 2, inner.y + inner.height / 2
    return outer.x <= x < outer.x + outer.width and outer.y <= y < outer.y + outer.height


def _spacing(region: Dataset) -> tuple[float, float] | None:
    units = (region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection"))
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    deltas = [region.get(f"PhysicalDelta{axis}") for axis in "YX"]
    # The sign only gives the direction of the axis.
    return _believable(*(abs(delta) * 10 if isinstance(delta, float | int) else 0.0 for delta in deltas))


def _plain_spacing(header: Dataset) -> tuple[float, float] | None:
    values = _numbers(header, "PixelSpacing")
    return _believable(*(value or 0.0 for value in values)) if len(values) == 2 else None


def _believable(row: float, column: float) -> tuple[float, float] | None:
    """Millimetres per pixel that an ultrasound image can have: scanners write 1e-5 cm for "unknown", too."""
    inside = all(_MIN_SPACING_MM <= value <= _MAX_SPACING_MM for value in (row, column))
    return (row, column) if inside else None


def pixel_aspect(header: Dataset, spacing: tuple[float, float] | None) -> Fraction | None:
    """Width of a pixel divided by its height, by its spacing or PixelAspectRatio (0028,0034)."""
    if spacing is not None:
        return Fraction(spacing[1] / spacing[0]).limit_denominator(10_000)
    ratio = _texts(header, "PixelAspectRatio")
    if len(ratio) != 2:
        return None
    vertical, horizontal = (read_integer(text, 1, 1_000_000) for text in ratio)
    return None if vertical is None or horizontal is None else Fraction(horizontal, vertical)


def frame_count(header: Dataset) -> int:
    """The number of frames in the header, 1 if it gives none. Raises SourceError if too many."""
    count = _number(next(iter(_texts(header, "NumberOfFrames")), "")) or 1.0
    if count > MAX_FRAMES:
        raise SourceError(f"the header states {count:g} frames; the limit is {MAX_FRAMES}")
    return max(1, int(count))


def instance_number(header: Dataset) -> float:
    """The number of a file within its series; infinite if the header gives none."""
    number = _number(next(iter(_texts(header, "InstanceNumber")), ""))
    return math.inf if number is None else number


def _values(header: Dataset, keyword: str) -> list[Any]:
    """All values of an element; unreadable values count as absent."""
    try:
        value = header.get(keyword)
    except Exception:  # pydicom raises many kinds of exception on malformed values
        return []
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]


def _texts(header: Dataset, keyword: str) -> list[str]:
    """All values of an element as text, as written in the file."""
    tag = tag_for_keyword(keyword)
    element = None if tag is None or tag not in header else header.get_item(tag)
    if isinstance(element, RawDataElement) and (element.VR or _usual_vr(element.tag)) in ("DS", "IS"):
        return [part.decode("ascii", "replace").strip(" \0") for part in (element.value or b"").split(b"\\")]
    return [str(value) for value in _values(header, keyword)]


def _numbers(header: Dataset, keyword: str) -> list[float | None]:
    return [_number(text) for text in _texts(header, keyword)]


def _number(text: str) -> float | None:
    whole, point, decimals = text.partition(".")
    if decimals.isdecimal():  # more digits than a float holds
        decimals = decimals[:19]
    return read_decimal(whole + point + decimals, -1e30, 1e30)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**31 else None


def _nominal(rate: Fraction) -> Fraction:
    """33.333 ms means 30 frames per second."""
    return rate.limit_denominator(1001)


@contextmanager
def translated_errors(
    path: Path, what: str, *, passing: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn pydicom's exceptions into SourceError, without their texts, which may quote the header.

    Our own errors and those of ``passing`` stay as they are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except StreamsegError:
        raise
    except passing:
        raise
    except Exception as error:  # pydicom raises almost anything on damaged files
        if is_programming_error(error, "pydicom", "pylibjpeg", "openjpeg", "libjpeg", "PIL"):
            raise
        raise SourceError(f"{path.name} {what}") from error
