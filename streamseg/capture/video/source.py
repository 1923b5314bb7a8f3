"""Recorded video of any format that FFmpeg reads, through PyAV.

Every decodable frame is delivered once, in presentation order. Times are the file's own, even if they do
not begin at zero; frames without a time have None. Frames may change size in the middle. Interlaced frames
stay as they are. Of several video streams the first that is not cover art is read.

Damage in the middle is skipped and counted; a file that ends in the middle is detected, though FFmpeg
usually reads it as a shorter file (see :mod:`streamseg.capture.video.truncation`). If the times of joined
recordings begin again in the middle, the second part continues after the first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

# OpenCV comes first: the other order hangs its window.
import cv2  # noqa: F401

# isort: split
import av

from streamseg.capture.base import START_TOLERANCE, RecordedSource, check_start
from streamseg.capture.files import ChangeWatch
from streamseg.capture.video.pixels import FrameConverter
from streamseg.capture.video.reader import TimedFrame, VideoReader
from streamseg.capture.video.truncation import container_of, is_cut
from streamseg.core.errors import (
    SourceCut,
    SourceError,
    StreamsegError,
    UsageError,
    is_programming_error,
    one_line,
)
from streamseg.core.types import Frame, SourceInfo
from streamseg.reporting.formatting import counted


class VideoSource(RecordedSource):
    """Frames of a video file. ``damaged`` counts the damaged packets so far."""

    def __init__(self, path: Path, *, start_seconds: float = 0.0, sar: Fraction | None = None) -> None:
        """Open a file at a time relative to its first frame.

        ``sar`` is the width of a pixel divided by its height; None: as the file says.

        Raises SourceError if nothing can be decoded, UsageError if the start is after the end.
        """
        check_start(start_seconds)
        self._path, self._sar = path, sar
        self._watch = ChangeWatch(path)
        with _translated(path):
            self._reader, frames = _open_at(path, start_seconds)
        try:
            with _translated(path):
                self._converter = FrameConverter(self._reader.max_pixels)
                first = next(frames, None)
                if first is None:
                    raise _nothing_in(path, start_seconds, self._reader.cut is True)
                info = self._describe(first[0], start_seconds)
        except BaseException:
            self._reader.close()
            raise
        super().__init__(info, self._deliver(chain((first,), frames)), self._reader.close)

    @property
    def damaged(self) -> int:
        return self._reader.damaged

    @property
    def note(self) -> str:
        """What of the file was not read, for the user; empty if all was."""
        count = self._reader.stream_count
        return f"{self._path.name} holds {count} video streams; the first was read" if count > 1 else ""

    @property
    def _aspect(self) -> Fraction | None:
        return self._reader.aspect if self._sar is None else self._sar

    def _describe(self, frame: av.VideoFrame, start_seconds: float) -> SourceInfo:
        stream = self._reader.stream
        # The display matrix may swap width and height, so the size is that of a converted frame.
        height, width = self._converter.picture(frame, self._aspect).shape[:2]
        rate = stream.average_rate or stream.guessed_rate or None
        return SourceInfo(
            name=self._path.name,
            height=height,
            width=width,
            frame_count=self._reader.estimate_frames(rate, start_seconds),
            rate=rate,
            time_base=stream.time_base,
        )

    def _deliver(self, frames: Iterator[TimedFrame]) -> Iterator[Frame]:
        base = self.info.time_base
        delivered = 0
        while True:
            with _translated(self._path):
                found = next(frames, None)
                if found is None:
                    break
                decoded, pts = found
                pixels = self._converter.picture(decoded, self._aspect)
                del found, decoded  # large, and not needed while the frame is used
                self._watch.check()
            # One true division of whole numbers: the float nearest to pts * base.
            seconds = None if pts is None or base is None else pts * base.numerator / base.denominator
            frame = Frame(pixels, index=delivered, captured_ns=time.monotonic_ns(), pts_seconds=seconds)
            del pixels
            yield frame
            del frame
            delivered += 1
        self._report(delivered)

    def _report(self, delivered: int) -> None:
        """Raise what is wrong with the file, after all frames were delivered."""
        self._watch.conclude(counted(delivered, "frame"))
        read = f"{counted(delivered, 'frame')} before the cut {'was' if delivered == 1 else 'were'} read"
        if self._reader.has_second:
            raise SourceError(
                f"{self._path.name} is several recordings in one, of which only the first "
                f"{counted(delivered, 'frame')} can be read; join them with a program that knows the format"
            )
        if self._reader.cut:
            raise SourceCut(f"{self._path.name} ends in the middle; {read}; copy or record it again")
        if self._reader.damaged:
            raise SourceError(
                f"{self._path.name} has {counted(self._reader.damaged, 'damaged packet')}; "
                f"{counted(delivered, 'frame')} were decoded, those near the damage may be wrong or missing"
            )


def _open_at(path: Path, start_seconds: float) -> tuple[VideoReader, Iterator[TimedFrame]]:
    """A reader and its frames from a time on, relative to the first frame's time."""
    reader = VideoReader(path)
    frames = reader.frames()
    if start_seconds == 0:
        return reader, frames
    try:
        first = next(frames, None)
        base = reader.stream.time_base
        if first is None or first[1] is None or base is None:
            raise UsageError(
                f"{path.name} has no time stamps, so it cannot start in the middle; omit the start"
            )
        target = first[1] + math.ceil((Fraction(start_seconds) - START_TOLERANCE) / base)
        reader.close()
        reader = VideoReader(path)
        try:
            reader.seek(target)
            frames = reader.frames()
            landed = next(frames, None)
        except av.FFmpegError:
            landed = None
        if landed is None or landed[1] is None or landed[1] > target:
            # Not every format can seek; reading from the beginning always works.
            reader.close()
            reader = VideoReader(path)
            return reader, _from(target, reader.frames())
        return reader, _from(target, chain((landed,), frames))
    except BaseException:
        reader.close()
        raise


def _from(target: int, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    return (found for found in frames if found[1] is not None and found[1] >= target)


def _nothing_in(path: Path, start_seconds: float, cut: bool) -> StreamsegError:
    if start_seconds > 0:
        return UsageError(f"nothing in {path.name} at or after {start_seconds} s; give an earlier start")
    if cut:
        return SourceCut(f"{path.name} ends before its first complete frame; copy or record it again")
    return SourceError(f"no frame in {path.name} can be decoded; copy or record it again")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn PyAV's exceptions into SourceError."""
    try:
        yield
    except StreamsegError:
        raise
    except MemoryError as error:
        raise SourceError(f"a frame of {path.name} needs too much memory; is it damaged?") from error
    except Exception as error:  # PyAV raises almost anything on damaged input
        if is_programming_error(error):
            raise
        raise _why_not(path, error) from error


def _why_not(path: Path, error: Exception) -> SourceError:
    try:
        kind = container_of(path)
        cut = kind is not None and is_cut(path, kind)
    except OSError as gone:
        return SourceError(f"cannot read {path}: {one_line(gone)}; check the path and the disk")
    if not cut:
        reason = f"is not a video that can be read ({one_line(error)}); give a video, images or DICOM"
        return SourceError(f"{path.name} {reason}")
    if kind == "mp4":
        return SourceCut(
            f"{path.name} was cut before its index (moov) was written, so no frame can be found in it; "
            f"copy it again, or record in Matroska or MPEG-TS, which survive a cut"
        )
    return SourceCut(f"{path.name} was cut before its first frame or its index; copy or record it again")
