"""Writes the cine with its outlines drawn in, as an Ultrasound Multi-frame Image (PS3.3, A.7) in JPEG.

For viewers that show neither SEG nor SR. Below the image a strip tells the state of the frame, the area, and
that this is research software. Only the ultrasound image is kept, unless the whole screen is asked for.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import SinkError
from streamseg.core.types import Image, Result, Roi, SourceInfo
from streamseg.render.overlay import paint_overlay
from streamseg.render.text import Colour, fit_size, put_text, to_bgr
from streamseg.sinks.dicom.instance import (
    NOTICE,
    InstanceSink,
    item,
    new_instance,
    references,
    waiting_file,
    write_instance,
)
from streamseg.sinks.dicom.segmentation import SEGMENTATION, SOURCE_IMAGE
from streamseg.sinks.target import sink_errors

_QUALITY = 92
"""Of the JPEG: losses are below the speckle."""
_FALLBACK_RATE = 25
"""Frames per second of a cine without times, as in videos of it."""
_STRIP = 0.05
"""Height of the strip below the image, as a part of the image's."""
_MIN_STRIP = 16
_INK: Colour = (235, 235, 235)
_GROUND: Colour = (0, 0, 0)
_EQUAL_MS = 0.002
_MAX_VECTOR = 50_000
"""Characters of the times of the frames: an element holds 65,534, with the marks between them."""
_MAX_OFFSET = (1 << 32) - 1
_CENTIMETRES, _TWO_DIMENSIONAL, _TISSUE = 3, 1, 1


class BurnedInSink(InstanceSink):
    """Writes one Ultrasound Multi-frame Image of a cine."""

    name = "dicom image"

    def __init__(
        self,
        path: Path,
        cine: CineReference,
        info: SourceInfo,
        engine: EngineInfo,
        *,
        force: bool = False,
        full_frame: bool = False,
        vessels: bool = True,
    ) -> None:
        """``vessels``: draw them too.

        Raises UsageError for a file that exists without ``force``, SinkError if it cannot be written.
        """
        super().__init__(path, cine, engine, force=force)
        self._info, self._full_frame, self._vessels = info, full_frame, vessels
        self._shown: Roi | None = None
        self._spacing: tuple[float, float] | None = None
        self._times: list[float | None] = []
        self._offsets: list[int] = []
        self._size = self._raw = 0
        self._shape = (0, 0)
        self._file = waiting_file(self._target)

    def _add(self, result: Result) -> None:
        image = self._draw(result)
        with sink_errors(self.path, cv2.error):
            self._append(image)
        self._times.append(result.frame.pts_seconds)

    def _finish(self) -> int:
        with sink_errors(self.path), self._file as file:  # closing fails on a full disk, too
            if self._times:
                file.seek(self._size)
                file.truncate()  # what an error left of a frame
                write_instance(self._target, self._dataset(), (self._head(), file, _END))
        return len(self._times)

    def _draw(self, result: Result) -> Image:
        """The region of the first frame, because all frames of a cine have one size; BGR."""
        frame = result.frame
        if self._shown is None:
            self._shown = Roi.whole(frame) if self._full_frame else result.roi
            self._spacing = frame.spacing_mm
        shown = self._shown
        if not shown.fits_into(*frame.shape):
            raise SinkError(f"cannot write {self.path}: the frames change their size; export the cine again")
        strip = max(_MIN_STRIP, round(_STRIP * shown.height))
        canvas = np.zeros((shown.height + strip, shown.width, 3), np.uint8)
        view = canvas[: shown.height]
        np.copyto(view, to_bgr(shown.crop(frame.image)))
        paint_overlay(view, result.segmentation, origin=(shown.x, shown.y), vessels=self._vessels)
        text = f"{_state_text(result)}   {NOTICE}"
        size = fit_size(text, round(0.7 * strip), shown.width - 4)
        baseline = shown.height + round(0.7 * strip)
        put_text(canvas, text, 2, baseline, size, colour=_INK, background=_GROUND)
        return canvas

    def _append(self, image: Image) -> None:
        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, _QUALITY),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        ]
        coded = cv2.imencode(".jpg", image, options)[1].tobytes()
        coded += bytes(len(coded) % 2)
        piece = _ITEM + len(coded).to_bytes(4, "little") + coded
        self._file.write(piece)
        self._offsets.append(self._size)
        self._size += len(piece)
        self._raw += image.size
        self._shape = image.shape[:2]

    def _head(self) -> bytes:
        """The beginning of the pixel data element: with a table of offsets, unless they exceed 4 GB."""
        table = b"".join(offset.to_bytes(4, "little") for offset in self._offsets if offset <= _MAX_OFFSET)
        if len(table) < 4 * len(self._offsets):
            table = b""
        return b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + _ITEM + len(table).to_bytes(4, "little") + table

    def _dataset(self) -> Dataset:
        kind = UltrasoundMultiFrameImageStorage
        made = new_instance(
            self._cine, self._engine, kind, "US", number=3, description="streamseg outlines drawn in"
        )
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.DerivationDescription = f"Outlines drawn in by a program. {NOTICE}"
        made.DerivationCodeSequence = SEGMENTATION.sequence()
        sources = references(self._cine)
        for source in sources:
            source.PurposeOfReferenceCodeSequence = SOURCE_IMAGE.sequence()
        made.SourceImageSequence = sources
        made.PatientOrientation = None
        made.Laterality = self._cine.laterality if self._cine.laterality in ("L", "R") else None
        made.BurnedInAnnotation = "NO" if self._cine.burned_in == "NO" else "YES"
        made.SamplesPerPixel, made.PhotometricInterpretation = 3, "YBR_FULL_422"
        made.PlanarConfiguration = 0
        made.Rows, made.Columns = self._shape
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.NumberOfFrames = len(self._times)
        made.LossyImageCompression = "01"
        made.LossyImageCompressionRatio = f"{self._raw / max(1, self._size):.4g}"
        made.LossyImageCompressionMethod = "ISO_10918_1"
        self._add_times(made)
        if self._spacing is not None:
            made.SequenceOfUltrasoundRegions = [self._region(*self._spacing)]
        return made

    def _add_times(self, made: Dataset) -> None:
        """One time for all frames if they are equally spaced, to the microsecond, else one for each."""
        times = [time for time in self._times if time is not None]
        steps = [1000 * (later - time) for time, later in pairwise(times)]
        rate = float(self._info.rate or _FALLBACK_RATE)
        vector = ["0"] + [f"{step:.3f}" for step in steps]
        known = steps and len(times) == len(self._times) and min(steps) >= 0
        if known and max(steps) - min(steps) > _EQUAL_MS and sum(map(len, vector)) < _MAX_VECTOR:
            made.FrameTimeVector = vector
            made.FrameIncrementPointer = tag_for_keyword("FrameTimeVector")
        else:
            made.FrameTime = f"{sum(steps) / len(steps) if known else 1000 / rate:.6f}"[:16]
            made.FrameIncrementPointer = tag_for_keyword("FrameTime")

    def _region(self, row_mm: float, column_mm: float) -> Dataset:
        shown = cast(Roi, self._shown)
        return item(
            RegionSpatialFormat=_TWO_DIMENSIONAL,
            RegionDataType=_TISSUE,
            RegionFlags=0,
            RegionLocationMinX0=0,
            RegionLocationMinY0=0,
            RegionLocationMaxX1=shown.width - 1,
            RegionLocationMaxY1=shown.height - 1,
            PhysicalUnitsXDirection=_CENTIMETRES,
            PhysicalUnitsYDirection=_CENTIMETRES,
            PhysicalDeltaX=column_mm / 10,
            PhysicalDeltaY=row_mm / 10,
        )


_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0" + bytes(4)


def _state_text(result: Result) -> str:
    area = result.segmentation.area_mm2
    return str(result.state) if area is None else f"{result.state}  {area:.1f} mm2"
