"""Cines that are a video stream inside a DICOM file: MPEG-2, MPEG-4 AVC and HEVC, through FFmpeg."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from streamseg.capture.base import START_TOLERANCE, RecordedSource
from streamseg.capture.dicom.header import frame_count, frame_times, image_region, pixel_aspect
from streamseg.capture.dicom.pixel_data import Span, find_stream
from streamseg.capture.files import ChangeWatch
from streamseg.capture.geometry import square_roi
from streamseg.capture.video.pixels import FrameConverter
from streamseg.capture.video.reader import TimedFrame, VideoReader
from streamseg.core.errors import SourceCut, SourceError, StreamsegError, UsageError, is_programming_error
from streamseg.core.types import Frame, SourceInfo
from streamseg.reporting.formatting import counted

_PREFIX = "1.2.840.10008.1.2.4."
_FRAGMENTABLE = tuple(f"{_PREFIX}{number}" for number in range(100, 107))
_HEVC = (f"{_PREFIX}107", f"{_PREFIX}108")
VIDEO_SYNTAXES = frozenset((*_FRAGMENTABLE, *(f"{syntax}.1" for syntax in _FRAGMENTABLE), *_HEVC))
"""Transfer syntaxes whose pixel data is one video stream (PS3.5, annex A.4.5 to A.4.9).

Only those of MPEG-2 and MPEG-4 have a fragmentable form.
"""


class DicomVideoSource(RecordedSource):
    """Frames of a video stream in a DICOM file. ``damaged`` counts the damaged packets so far."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: Dataset,
        watch: ChangeWatch,
        *,
        start_seconds: float,
        sar: Fraction | None,
    ) -> None:
        """Take over a file that is at its pixel data element.

        Raises SourceError if the stream cannot be decoded, UsageError for a start that it does not have.
        """
        self._path, self._watch = path, watch
        spans, self._complete = find_stream(file)
        self._times = frame_times(header)
        if start_seconds > 0 and self._times.base is None:
            raise UsageError(f"{path.name} has no frame times to start at; omit the start")
        region, spacing = image_region(header)
        self._aspect = pixel_aspect(header, spacing) if sar is None else sar
        self._converter = FrameConverter()
        with _translated(path):
            self._reader = VideoReader(path, _SpanFile(file, spans))
        try:
            with _translated(path):
                frames = self._from(start_seconds)
                first = next(frames, None)
                if first is None:
                    raise self._nothing(start_seconds)
                pixels = self._converter.picture(first[1][0], self._pixel_aspect())
        except BaseException:
            self._reader.close()
            raise
        height, width = pixels.shape[:2]
        rows, columns = first[1][0].height, first[1][0].width
        self._spacing = None
        if spacing is not None:
            self._spacing = (spacing[0] * rows / height, spacing[1] * columns / width)
        if region is not None:
            region = square_roi(region, columns, rows, self._pixel_aspect())
        promised = max(1, frame_count(header) - first[0])
        rate = self._times.rate or self._reader.stream.average_rate
        base = self._times.base or self._reader.stream.time_base
        info = SourceInfo(path.name, height, width, promised, rate, base, region)

        def release() -> None:
            self._reader.close()
            file.close()

        super().__init__(info, self._deliver(chain((first,), frames)), release)

    @property
    def damaged(self) -> int:
        return self._reader.damaged

    def _pixel_aspect(self) -> Fraction | None:
        return self._reader.aspect if self._aspect is None else self._aspect

    def _from(self, start_seconds: float) -> Iterator[tuple[int, TimedFrame]]:
        """Frames from a time on, with their numbers in the file."""
        start = Fraction(start_seconds) - START_TOLERANCE
        for number, frame in enumerate(self._reader.frames()):
            moment = self._times.pts(number)
            if start_seconds == 0 or (moment is not None and moment >= start):
                yield number, frame

    def _deliver(self, frames: Iterator[tuple[int, TimedFrame]]) -> Iterator[Frame]:
        base = self._reader.stream.time_base
        delivered = 0
        while True:
            with _translated(self._path):
                found = next(frames, None)
                if found is None:
                    break
                number, (decoded, pts) = found
                pixels = self._converter.picture(decoded, self._pixel_aspect())
                self._watch.check()
            moment = self._times.pts(number)
            if moment is None and self._times.base is None and pts is not None and base is not None:
                moment = pts * base
            seconds = None if moment is None else float(moment)
            # A decoder drops damaged frames, and those before the first key frame: nothing counts them.
            uncertain = self._reader.damaged or self._reader.starts_late
            known = None if uncertain else number
            yield Frame(pixels, delivered, time.monotonic_ns(), seconds, self._spacing, known)
            delivered += 1
        read = counted(delivered, "frame")
        self._watch.conclude(read)
        if not self._complete or self._reader.cut:
            raise SourceCut(
                f"{self._path.name} ends in the middle; {read} were read; copy or export it again"
            )
        if self._reader.damaged:
            raise SourceError(
                f"{self._path.name} has {counted(self._reader.damaged, 'damaged packet')}; "
                f"{read} were decoded; export it again"
            )

    def _nothing(self, start_seconds: float) -> StreamsegError:
        if start_seconds > 0:
            return UsageError(
                f"nothing in {self._path.name} at or after {start_seconds} s; give an earlier start"
            )
        return SourceError(f"the video in {self._path.name} cannot be decoded; export it again")


def check_frame_count(path: Path, file: BinaryIO, stated: int) -> None:
    """Raise SourceError unless the stream has as many pictures as the header states.

    Damage may take pictures from a stream without a trace, and every later one then has a wrong number.
    The file is at its pixel data element; nothing is decoded.
    """
    with _translated(path):
        reader = VideoReader(path, _SpanFile(file, find_stream(file)[0]))
        try:
            found = reader.count_packets()
        finally:
            reader.close()
    if found != stated:
        raise SourceError(
            f"the video in {path.name} has {counted(found, 'picture')}, its header states {stated}: an "
            "outline could get to the wrong frame; export it again"
        )


class _SpanFile:
    """The spans of a file, one after another, as a file for FFmpeg."""

    def __init__(self, file: BinaryIO, spans: list[Span]) -> None:
        self._file, self._spans = file, spans
        self._starts = [0]
        for _, length in spans:
            self._starts.append(self._starts[-1] + length)
        self._position = self._number = 0

    def read(self, size: int) -> bytes:
        while self._number < len(self._spans) and self._position >= self._starts[self._number + 1]:
            self._number += 1
        if self._number >= len(self._spans):
            return b""
        offset, length = self._spans[self._number]
        inside = self._position - self._starts[self._number]
        self._file.seek(offset + inside)
        data = self._file.read(min(size, length - inside))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        origin = {0: 0, 1: self._position, 2: self._starts[-1]}[whence]
        self._position, self._number = max(0, origin + offset), 0
        return self._position

    def tell(self) -> int:
        return self._position


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn PyAV's exceptions into SourceError."""
    try:
        yield
    except StreamsegError:
        raise
    except Exception as error:  # PyAV raises almost anything on damaged input
        if is_programming_error(error, "pydicom"):
            raise
        raise SourceError(f"the video in {path.name} cannot be decoded; export it again") from error
