"""Reads frame times, the image region and the pixel spacing from a DICOM header.

Only the elements that are needed are read, so a patient's name or number is never in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from streamseg.core.types import Roi

_WANTED = """
SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated
BitsStored HighBit PixelRepresentation FrameIncrementPointer FrameTime FrameTimeVector CineRate
RecommendedDisplayFrameRate SequenceOfUltrasoundRegions WindowCenter WindowWidth VOILUTFunction
VOILUTSequence RescaleSlope RescaleIntercept ModalityLUTSequence RedPaletteColorLookupTableDescriptor
GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
SegmentedBluePaletteColorLookupTableData
""".split()  # noqa: SIM905  # a name on a line of its own would say no more
_MICROSECOND = Fraction(1, 1_000_000)
_CENTIMETRES, _TWO_DIMENSIONAL, _TISSUE = 3, 1, 1
_SLACK = 2
"""Pixels by which a region may exceed the image; a larger region describes another image."""


def read_header(file: BinaryIO) -> tuple[Dataset, UID]:
    """Header and transfer syntax. Leaves the file at the pixel data element; deflated files are read whole.

    Raises whatever pydicom raises if the file is not DICOM.
    """
    header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_WANTED)
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # files without a file header: pydicom detects their encoding
        implicit, little = header.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else f"1.2.840.10008.1.2.{1 if little else 2}"
    if syntax == DeflatedExplicitVRLittleEndian:
        file.seek(0)
        header = dcmread(file, force=True, specific_tags=[*_WANTED, "PixelData"])
    return header, UID(syntax)


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
    increments = [_positive(step, zero=True) for step in _values(header, "FrameTimeVector")]
    if len(increments) > 1 and None not in increments and sum(filter(None, increments[1:])) > 0:
        # The first increment leads to the first frame; times count from there.
        times = accumulate((step or Fraction(0) for step in increments[1:]), initial=Fraction(0))
        steps = [round(milliseconds / 1000 / _MICROSECOND) for milliseconds in times]
        return FrameTimes(_MICROSECOND, _nominal((len(steps) - 1) / (steps[-1] * _MICROSECOND)), steps)
    for keyword in ("FrameTime", "CineRate", "RecommendedDisplayFrameRate"):
        value = _positive(next(iter(_values(header, keyword)), None))
        if value is not None:
            base = value / 1000 if keyword == "FrameTime" else 1 / value
            return FrameTimes(base.limit_denominator(1_000_000_000), _nominal(1 / base))
    return FrameTimes()


def image_region(header: Dataset) -> tuple[Roi | None, tuple[float, float] | None]:
    """The ultrasound image inside the frame, and its millimetres per pixel (row, column).

    Both come from the largest two-dimensional tissue region of the Sequence of Ultrasound Regions
    (0018,6011), preferably one in centimetres; each is None if unknown. A region that exceeds the frame is
    clipped, and its spacing is ignored: the frame was resized.
    """
    width, height = int(header.Columns), int(header.Rows)
    found: list[tuple[bool, int, Roi, tuple[float, float] | None]] = []
    for item in _values(header, "SequenceOfUltrasoundRegions"):
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) != (_TWO_DIMENSIONAL, _TISSUE):
            continue
        left, top, right, bottom = (int(item.get(f"RegionLocation{end}", -1)) for end in _ENDS)
        if not (0 <= left <= right and 0 <= top <= bottom and left < width and top < height):
            continue
        roi = Roi(left, top, min(right + 1, width) - left, min(bottom + 1, height) - top)
        spacing = _spacing(item) if right < width + _SLACK and bottom < height + _SLACK else None
        found.append((spacing is not None, roi.width * roi.height, roi, spacing))
    if not found:
        return None, None
    best = max(found, key=lambda entry: entry[:2])
    return best[2], best[3]


_ENDS = ("MinX0", "MinY0", "MaxX1", "MaxY1")


def _spacing(region: Dataset) -> tuple[float, float] | None:
    units = (region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection"))
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    # The sign only gives the direction of the axis.
    row, column = (abs(float(region.get(f"PhysicalDelta{axis}", 0))) * 10 for axis in "YX")
    return (row, column) if 0 < row < 1000 and 0 < column < 1000 else None


def _values(header: Dataset, keyword: str) -> list[Any]:
    """All values of an element; unreadable values count as absent."""
    try:
        value = header.get(keyword)
    except Exception:  # pydicom raises many kinds of exception on malformed values
        return []
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]


def _positive(value: object, *, zero: bool = False) -> Fraction | None:
    try:
        number = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return None
    return number if number > 0 or (zero and number == 0) else None


def _nominal(rate: Fraction) -> Fraction:
    """33.333 ms means 30 frames per second."""
    return rate.limit_denominator(1001)
