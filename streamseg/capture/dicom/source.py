"""DICOM files, still or cine, through pydicom; frames are decoded one at a time.

Frame times come from the header, or are None. Pixel spacing and the image's region come from the ultrasound
regions, or are None. Only elements about the image are read: the patient is never known here, and messages
name only the file.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, JPEGExtended12Bit

from streamseg.capture.base import RecordedSource, check_start
from streamseg.capture.dicom.header import frame_times, image_region, read_header
from streamseg.capture.dicom.pixel_data import PixelData, find_pixel_data
from streamseg.capture.dicom.samples import SampleConverter
from streamseg.capture.files import check_readable
from streamseg.core.errors import MissingExtra, SourceCut, SourceError, StreamsegError, UsageError
from streamseg.core.types import Frame, Image, SourceInfo
from streamseg.reporting.formatting import counted

# pydicom logs header values, which may name a patient.
logging.getLogger("pydicom").propagate = False

_MAX_SAMPLES = 1 << 28
"""Samples in a frame above which a header is damaged."""
_FAILURES_IN_A_ROW = 64


class DicomSource(RecordedSource):
    """Frames of a DICOM file. ``damaged`` counts the undecodable frames so far."""

    def __init__(self, path: Path, *, start_seconds: float = 0.0) -> None:
        """Open a file at a time relative to its first frame, and decode the first frame.

        Raises SourceError (not DICOM, no pixels, unknown compression), MissingExtra (the compression needs
        the optional decoders), UsageError (the start is after the end, or frames have no times).
        """
        check_start(start_seconds)
        check_readable(path)
        self._path = path
        self.damaged = 0
        file = path.open("rb")
        try:
            with _translated(path, "is not a DICOM file that can be read; give DICOM, a video or images"):
                header, syntax = read_header(file)
            with _translated(path, "has a damaged or incomplete header; export it again"):
                promised = _check_size(path, header)
                found = find_pixel_data(file, header, syntax, promised)
                if found is None:
                    raise SourceError(f"{path.name} holds no pixel data; give an image or cine")
                self._data: PixelData = found
                self._times = frame_times(header)
                region, self._spacing = image_region(header)
                self._decoder = _decoder(path, syntax, header)
                self._options = _decoding_options(header, found, syntax)
                self._converter = SampleConverter(header)
                number = self._first_number(start_seconds)
                images = self._images(number)
            first = next(images, None)
            if first is None:
                raise SourceCut(f"{path.name} ends before its first complete frame; copy or export it again")
        except BaseException:
            file.close()
            raise
        height, width = first[1].shape[:2]
        times = self._times
        wanted = max(1, promised - number)
        info = SourceInfo(path.name, height, width, wanted, times.rate, times.base, region)
        super().__init__(info, self._deliver(chain((first,), images)), file.close)

    def _first_number(self, start_seconds: float) -> int:
        if start_seconds == 0:
            return 0
        if self._times.base is None:
            raise UsageError(f"{self._path.name} has no frame times to start at; omit the start")
        for number in range(len(self._data.frames)):
            pts = self._times.pts(number)
            if pts is not None and pts + self._times.base / 1000 >= start_seconds:
                return number
        raise UsageError(f"nothing in {self._path.name} at or after {start_seconds} s; give an earlier start")

    def _deliver(self, images: Iterator[tuple[int, Image]]) -> Iterator[Frame]:
        delivered = 0
        for number, image in images:
            pts = self._times.pts(number)
            yield Frame(
                image,
                index=delivered,
                captured_ns=time.monotonic_ns(),
                pts_seconds=None if pts is None else float(pts),
                spacing_mm=self._spacing,
            )
            delivered += 1
        read = counted(delivered, "frame")
        if self._data.cut:
            raise SourceCut(
                f"{self._path.name} ends in the middle; {read} before the cut were read of "
                f"{self.info.frame_count} promised; copy or export it again"
            )
        if self.damaged:
            raise SourceError(
                f"{self._path.name} has {counted(self.damaged, 'damaged frame')}, which "
                f"{'was' if self.damaged == 1 else 'were'} skipped; {read} were read; export it again"
            )

    def _images(self, first: int) -> Iterator[tuple[int, Image]]:
        """The decodable frames with their numbers in the file. Raises the error of a single frame."""
        failures = 0
        delivered = False
        for number in range(first, len(self._data.frames)):
            try:
                with _translated(self._path, self._hint(number)):
                    image = self._decode(number)
            except SourceError:
                failures += 1
                self.damaged += 1
                only = not delivered and number == len(self._data.frames) - 1
                if only or failures >= _FAILURES_IN_A_ROW:
                    raise
                continue
            failures = 0
            delivered = True
            yield number, image

    def _decode(self, number: int) -> Image:
        encoded = self._data.read(number)
        samples, properties = self._decoder.as_array(
            encoded, index=0, validate=False, raw=True, **self._options
        )
        return self._converter.convert(samples, str(properties["photometric_interpretation"]))

    def _hint(self, number: int) -> str:
        return f"has a frame ({number + 1}) that cannot be decoded; export the file again"


def _check_size(path: Path, header: Dataset) -> int:
    """The number of frames in the header. Raises SourceError for an impossible size."""
    if "Rows" not in header or "Columns" not in header:
        raise SourceError(f"{path.name} holds no image (a report or a directory?); give an image or cine")
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.SamplesPerPixel)
    if not 0 < rows * columns * samples <= _MAX_SAMPLES:
        raise SourceError(f"{path.name} has the impossible size {columns}x{rows}; export it again")
    return max(1, int(header.get("NumberOfFrames") or 1))


def _decoder(path: Path, syntax: UID, header: Dataset) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise SourceError(
            f"{path.name} is compressed as {syntax.name[:60]!r}, which cannot be decoded; export it as JPEG"
        ) from error
    # Pillow accepts extended JPEG, but fails on more than 8 bits.
    beyond_pillow = syntax == JPEGExtended12Bit and int(header.BitsAllocated) > 8
    if not decoder.is_available or (beyond_pillow and decoder.available_plugins == ("pillow",)):
        raise MissingExtra(f"{syntax.name} in {path.name}", "pylibjpeg-libjpeg", "gpl-codecs")
    return decoder


def _decoding_options(header: Dataset, data: PixelData, syntax: UID) -> dict[str, Any]:
    options = as_pixel_options(header)
    options |= {"number_of_frames": 1, "pixel_keyword": data.keyword, "transfer_syntax_uid": syntax}
    if data.vr is not None:
        options["pixel_vr"] = data.vr
    return options


@contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    """Turn pydicom's exceptions into SourceError, without their texts, which may quote the header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except StreamsegError:
        raise
    except Exception as error:  # pydicom raises almost anything on damaged files
        raise SourceError(f"{path.name} {what}") from error
