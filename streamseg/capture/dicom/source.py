"""DICOM files, still or cine, through pydicom; frames are decoded one at a time.

Frame times come from the header, or are None. Pixel spacing and the image's region come from the ultrasound
regions, or are None. Only elements about the image are read, none about the patient, and messages name only
the file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from streamseg.capture.base import RecordedSource, check_start
from streamseg.capture.dicom.coded_frame import SYNTAX, decode_jpeg, inspect, rle_fits
from streamseg.capture.dicom.header import (
    frame_count,
    frame_times,
    image_region,
    pixel_aspect,
    read_header,
    translated_errors,
)
from streamseg.capture.dicom.pixel_data import PixelData, as_item, find_pixel_data
from streamseg.capture.dicom.samples import SampleConverter, Samples
from streamseg.capture.dicom.video import VIDEO_SYNTAXES, DicomVideoSource
from streamseg.capture.files import ChangeWatch, check_readable
from streamseg.capture.geometry import (
    MAX_FRAME_PIXELS,
    MAX_IMAGE_PIXELS,
    check_pixels,
    square_pixels,
    square_roi,
)
from streamseg.core.errors import (
    MissingExtra,
    SourceCut,
    SourceError,
    UsageError,
    one_line,
)
from streamseg.core.types import Frame, Image, SourceInfo
from streamseg.reporting.formatting import counted

# pydicom logs header values, which may name a patient.
logging.getLogger("pydicom").propagate = False

_MAX_FRAME_BYTES = 128 << 20
"""Decoded bytes of a frame: several copies of it exist while it is converted."""
_MAX_COSTLY_SAMPLES = 108_000_000
_WIDE_COST = 24
"""Bytes per sample of more than 16 bits: they are converted in floating point."""
_FAILURES_IN_A_ROW = 64


def readable_syntaxes() -> list[UID]:
    """The transfer syntaxes that can be decoded here, compressed ones first.

    A scanner that offers both for an object has it compressed, and would have to decode it otherwise.
    """
    optional = (JPEGExtended12Bit, JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEGLSNearLossless)
    return [
        JPEGBaseline8Bit,
        *(syntax for syntax in optional if get_decoder(syntax).is_available),
        *(JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, RLELossless),
        *map(UID, sorted(VIDEO_SYNTAXES)),
        *(
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            DeflatedExplicitVRLittleEndian,
            ExplicitVRBigEndian,
        ),
    ]


def open_dicom(path: Path, *, start_seconds: float = 0.0, sar: Fraction | None = None) -> RecordedSource:
    """Open a DICOM file: a :class:`DicomSource`, or the video stream inside it. Raises what they raise.

    ``sar`` replaces the aspect of the pixels that the file states.
    """
    check_start(start_seconds)
    opened = _Opened(path)
    try:
        if opened.syntax in VIDEO_SYNTAXES:
            return DicomVideoSource(
                path, opened.file, opened.header, opened.watch, start_seconds=start_seconds, sar=sar
            )
        return DicomSource(path, start_seconds=start_seconds, sar=sar, opened=opened)
    except BaseException:
        opened.close()
        raise


class _Opened:
    """A file whose header was read: the data set, its transfer syntax, and the file at its pixel data."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError if it is not DICOM, and what :func:`check_readable` raises."""
        check_readable(path)
        self.watch = ChangeWatch(path)
        try:
            file = path.open("rb")
        except OSError as error:  # it was there a moment ago
            raise SourceError(
                f"cannot read {path}: {one_line(error)}; check the path and the disk"
            ) from error
        self.close = file.close
        try:
            with translated_errors(
                path, "is not a DICOM file that can be read; give DICOM, a video or images", passing=EOFError
            ):
                self.header, self.syntax, self.file = read_header(file)
        except BaseException:
            file.close()
            raise


class DicomSource(RecordedSource):
    """Frames of a DICOM file. ``damaged`` counts the undecodable frames so far."""

    def __init__(
        self,
        path: Path,
        *,
        start_seconds: float = 0.0,
        sar: Fraction | None = None,
        opened: _Opened | None = None,
    ) -> None:
        """Open a file at a time relative to its first frame, and decode the first frame.

        ``sar`` replaces the aspect of the pixels that the file states. ``opened`` is the file if its header
        was read already; it is then closed with this source.

        Raises SourceError (not DICOM, no pixels, unknown compression), MissingExtra (the compression needs
        the optional decoders), UsageError (the start is after the end, or frames have no times).
        """
        check_start(start_seconds)
        self._path = path
        self.damaged = 0
        opened = _Opened(path) if opened is None else opened
        header, syntax, file = opened.header, opened.syntax, opened.file
        self._watch = opened.watch
        try:
            with translated_errors(
                path, "has a damaged or incomplete header; export it again", passing=EOFError
            ):
                promised = frame_count(header)
                _check_size(path, header, promised)
                _complete(header)
                found = find_pixel_data(file, header, syntax, promised)
                if found is None:
                    raise SourceError(f"{path.name} holds no pixel data; give an image or cine")
                self._data: PixelData = found
                self._times = frame_times(header)
                region, spacing = image_region(header)
                self._aspect = pixel_aspect(header, spacing) if sar is None else sar
                self._header, self._syntax = header, syntax
                self._converter = SampleConverter(header)
                known = header.get("PlanarConfiguration") in (0, 1)
                self._planes = None if known or header.SamplesPerPixel != 3 else _PlaneOrder(header)
                number = self._first_number(start_seconds)
                images = self._images(number)
            first = next(images, None)
            if first is None:
                raise SourceCut(f"{path.name} ends before its first complete frame; copy or export it again")
        except BaseException:
            opened.close()
            raise
        height, width = first[1].shape[:2]
        columns, rows = int(header.Columns), int(header.Rows)
        if region is not None:
            region = square_roi(region, columns, rows, self._aspect)
        self._spacing = None
        if spacing is not None:
            self._spacing = (spacing[0] * rows / height, spacing[1] * columns / width)
        times = self._times
        wanted = max(1, max(promised, len(self._data.frames)) - number)
        info = SourceInfo(path.name, height, width, wanted, times.rate, times.base, region)
        super().__init__(info, self._deliver(chain((first,), images)), opened.close)

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
            self._watch.check()
            pts = self._times.pts(number)
            yield Frame(
                image,
                index=delivered,
                captured_ns=time.monotonic_ns(),
                pts_seconds=None if pts is None else float(pts),
                spacing_mm=self._spacing,
                file_index=number if self._data.certain else None,
            )
            del image
            delivered += 1
        read = counted(delivered, "frame")
        self._watch.conclude(read)
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
                with translated_errors(self._path, self._hint(number), passing=EOFError):
                    image = self._decode(number)
            except EOFError:
                return
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
            del image  # large, and not needed while the next one is decoded

    def _decode(self, number: int) -> Image:
        samples, photometric = self._samples(self._data.read(number))
        image = self._converter.convert(samples, photometric)
        return square_pixels(image, self._aspect, MAX_IMAGE_PIXELS)

    def _samples(self, data: bytes) -> tuple[Samples, str]:
        """Decoded samples of a frame and their photometric interpretation. Raises anything on damage."""
        header, label = self._header, str(self._header.PhotometricInterpretation)
        if not self._data.encapsulated:
            plain = self._syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian)
            return self._by_pydicom(data, self._syntax if plain else ExplicitVRLittleEndian)
        coded = inspect(data)
        if coded is None:
            if self._syntax == RLELossless and not rle_fits(data, _decoded_bytes(header)):
                raise ValueError("an RLE frame is larger than the header says")
            return self._by_pydicom(as_item(data), self._syntax)
        if (coded.width, coded.height) != (int(header.Columns), int(header.Rows)):
            raise ValueError("a frame has another size than the header says")
        if (
            coded.coding == "jpeg 2000"
            and coded.width * coded.height * coded.components > _MAX_COSTLY_SAMPLES
        ):
            raise ValueError("JPEG 2000 needs four bytes per sample: too much memory")
        if coded.coding != "jpeg":
            syntax = SYNTAX[coded.coding]
            return self._by_pydicom(as_item(data), self._syntax if _same(syntax, self._syntax) else syntax)
        samples = decode_jpeg(data, coded, label)
        if samples.ndim == 3:
            return samples, "RGB"
        return samples, label if label in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR") else "MONOCHROME2"

    def _by_pydicom(self, data: bytes, syntax: UID) -> tuple[Samples, str]:
        options = as_pixel_options(self._header)
        options |= {"number_of_frames": 1, "pixel_keyword": self._data.keyword, "transfer_syntax_uid": syntax}
        if self._data.vr is not None:
            options["pixel_vr"] = self._data.vr
        high = int(self._header.get("HighBit", 0)) + 1
        if options["bits_stored"] < high <= options["bits_allocated"]:
            options["bits_stored"] = high  # pydicom would cut off the highest bits, where the values are
        if self._planes is not None and not syntax.is_encapsulated:
            options["planar_configuration"] = self._planes.configuration(data)
        decoder = _decoder(self._path, syntax, self._header)
        samples, properties = decoder.as_array(data, index=0, validate=False, raw=True, **options)
        return samples, str(properties["photometric_interpretation"])

    def _hint(self, number: int) -> str:
        return f"has a frame ({number + 1}) that cannot be decoded; export the file again"


def _check_size(path: Path, header: Dataset, promised: int) -> None:
    """Raise SourceError for an impossible size, or one that would take too much memory."""
    if "Rows" not in header or "Columns" not in header:
        raise SourceError(f"{path.name} holds no image (a report or a directory?); give an image or cine")
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel", 1))
    if rows * columns * samples <= 0:
        raise SourceError(f"{path.name} has the impossible size {columns}x{rows}; export it again")
    check_pixels(path.name, columns, rows, MAX_IMAGE_PIXELS if promised == 1 else MAX_FRAME_PIXELS)
    bits = int(header.get("BitsAllocated", 8))
    cost = rows * columns * samples * (_WIDE_COST if bits > 16 else -(-bits // 8))
    if cost > _MAX_FRAME_BYTES:
        raise SourceError(f"{path.name} has frames of {columns}x{rows} pixels that need too much memory")


def _complete(header: Dataset) -> None:
    """Fill in elements that files leave out though they must not."""
    bits = header.get("BitsAllocated", 8)
    usual = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "RGB" if header.get("SamplesPerPixel", 1) == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": 0,
    }
    for keyword, value in usual.items():
        if header.get(keyword) in (None, ""):
            setattr(header, keyword, value)
    header.PhotometricInterpretation = str(header.PhotometricInterpretation).strip(" \0").upper()
    # Values that would turn every frame black or into two levels: nobody means them.
    if not _first(header, "RescaleSlope", 1.0):
        del header.RescaleSlope
    if _first(header, "WindowWidth", 1.0) <= 0:
        del header.WindowWidth


def _first(header: Dataset, keyword: str, default: float) -> float:
    """The first value of a number, or ``default`` if there is none."""
    value = np.atleast_1d(header.get(keyword, default))
    return float(value[0]) if len(value) and value[0] not in (None, "") else default


def _decoded_bytes(header: Dataset) -> int:
    bits = int(header.BitsAllocated)
    return int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * -(-bits // 8)


class _PlaneOrder:
    """How RGB samples lie if the header does not say: pixel by pixel, or plane by plane.

    The sample below another one resembles it; three rows below, or at another place of the row, samples do so
    less. If that is undecided (an even image), red, green and blue decide: nearly equal in ultrasound.
    The first frame that decides counts, so that the image does not change from frame to frame.
    """

    def __init__(self, header: Dataset) -> None:
        self._width = int(header.Columns) * -(-int(header.BitsAllocated) // 8)
        self._known: int | None = None

    def configuration(self, data: bytes) -> int:
        """The Planar Configuration (0028,0006): 0 pixel by pixel, 1 plane by plane."""
        if self._known is not None:
            return self._known
        count = len(data) // 3
        flat = np.frombuffer(data, np.uint8, 3 * count).astype(np.int16)
        by_plane, by_pixel = (_difference(flat, self._width * rows) for rows in (1, 3))
        if abs(by_plane - by_pixel) > 0.05 * max(by_plane, by_pixel):
            self._known = int(by_plane < by_pixel)
            return self._known
        return int(_difference(flat, count) < _difference(flat, 1))


def _difference(flat: npt.NDArray[np.int16], distance: int) -> float:
    """Mean difference of samples at a distance."""
    return float(np.abs(flat[distance:] - flat[:-distance]).mean()) if 0 < distance < len(flat) else 0.0


def _same(first: UID, second: UID) -> bool:
    """Whether both syntaxes are read by the same decoder."""
    return first == second or {first, second} <= {JPEG2000, JPEG2000Lossless}


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
