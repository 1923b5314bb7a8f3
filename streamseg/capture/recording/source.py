"""Recorded live runs as sources: all segments one after another, each frame with its exact time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from streamseg.capture.base import START_TOLERANCE, RecordedSource, check_start
from streamseg.capture.files import check_readable
from streamseg.capture.recording.format import UNITS_PER_SECOND
from streamseg.capture.recording.reader import Offered, Recorded, Segment, read_recording
from streamseg.capture.video.source import VideoSource
from streamseg.core.errors import SourceError, StreamsegError, UsageError, one_line
from streamseg.core.types import Frame, Roi, SourceInfo
from streamseg.reporting.formatting import counted

MAX_LOST_S = 2.0
"""Seconds at the end of a recording that may be lost without an error when the run is killed."""


class RecordingSource(RecordedSource):
    """The frames of a recording that have pixels, with their times of capture.

    ``pts_seconds`` counts from the recording's anchor, in whole microseconds. A frame is the recorded region,
    so the ultrasound image fills it unless the whole screen was recorded. :attr:`planned` lists the frames to
    come; damaged files may yield fewer. Frames lost to a kill, or recorded without pixels, are reported in
    :attr:`note`; a larger loss raises SourceError after the last frame.
    """

    def __init__(self, folder: Path, *, start_seconds: float = 0.0) -> None:
        """Open a recording at a time after its first frame.

        Raises SourceError if there is no recording or it holds no frame, UsageError if the start is after
        the end.
        """
        check_start(start_seconds)
        self.recorded: Recorded = read_recording(folder)
        kept = [frame for frame in self.recorded.offered if frame.video is not None]
        segments = {segment.number: segment for segment in self.recorded.segments}
        kept = [frame for frame in kept if frame.video and frame.video[0] in segments]
        if not kept:
            listed = counted(len(self.recorded.offered), "frame")
            raise SourceError(
                f"the recording {folder.name} holds no frame with pixels ({listed} listed); give another"
            )
        first = min(frame.video[1] for frame in kept if frame.video)
        target = first + int((Fraction(start_seconds) - START_TOLERANCE) * UNITS_PER_SECOND)
        self.planned: tuple[Offered, ...] = tuple(f for f in kept if f.video and f.video[1] >= target)
        """The frames to come, in order."""
        if not self.planned:
            raise UsageError(f"nothing in {folder.name} at or after {start_seconds} s; give an earlier start")
        self.note = ""
        """After the last frame: what is missing, on one line, or an empty string."""
        self._delivered: list[Offered] = []
        self._segments = segments
        self._folder = folder
        self._current: VideoSource | None = None
        super().__init__(self._describe(), self._generate(), self._release)

    def offered(self, frame: Frame) -> Offered:
        """The recorded run's data of a frame that this source has delivered."""
        return self._delivered[frame.index]

    def _describe(self) -> SourceInfo:
        video = self.planned[0].video
        assert video is not None
        segment = self._segments[video[0]]
        return SourceInfo(
            name=self._folder.resolve().name,
            height=segment.shown.height,
            width=segment.shown.width,
            frame_count=len(self.planned),
            time_base=Fraction(1, UNITS_PER_SECOND),
            region=self._region(segment),
        )

    def _region(self, first: Segment) -> Roi | None:
        """The ultrasound image in the recorded frames, from the first such segment that has it."""
        for segment in self._segments.values():
            same = (segment.frame_size, segment.shown) == (first.frame_size, first.shown)
            if same and segment.region is not None:
                inside, shown = segment.region, segment.shown
                return Roi(inside.x - shown.x, inside.y - shown.y, inside.width, inside.height)
        return None

    def _release(self) -> None:
        if self._current is not None:
            self._current.close()

    def _generate(self) -> Iterator[Frame]:
        wanted: defaultdict[int, dict[int, Offered]] = defaultdict(dict)
        for frame in self.planned:
            if frame.video is not None:
                wanted[frame.video[0]][frame.video[1]] = frame
        delivered = 0
        problems: dict[int, str] = {}
        for number, frames in wanted.items():
            segment = self._segments[number]
            try:
                with self._open(segment) as source:
                    for found in source:
                        at = round((found.pts_seconds or 0.0) * UNITS_PER_SECOND)
                        if (offered := frames.pop(at, None)) is not None:
                            self._delivered.append(offered)
                            yield _frame(found, segment, delivered, at)
                            delivered += 1
            except StreamsegError as error:
                problems[number] = one_line(error)
        given = {id(frame) for frame in self._delivered}
        self._conclude([id(frame) in given for frame in self.planned], problems)

    def _open(self, segment: Segment) -> VideoSource:
        check_readable(segment.path)
        self._current = VideoSource(segment.path)
        return self._current

    def _conclude(self, given: list[bool], problems: dict[int, str]) -> None:
        """Report what is missing; raise SourceError if it is more than a kill may lose.

        ``given`` says of each planned frame whether it was delivered.
        """
        recorded, name = self.recorded, self.info.name
        missing = [frame for frame, found in zip(self.planned, given, strict=True) if not found]
        lost_ns = max((self.planned[-1].captured_ns - frame.captured_ns for frame in missing), default=0)
        killed = recorded.ended_ns is None
        last = max(self._segments)
        # A kill leaves half a fragment at the end of the last file.
        reasons = [what for number, what in problems.items() if not (killed and number == last)]
        if recorded.damaged_line is not None:
            reasons.append(f"its records are damaged from line {recorded.damaged_line} on")
        at_end = next((n for n, found in enumerate(reversed(given)) if found), len(given))
        empty = {f.video[0] for f in self.planned if f.video} - {
            f.video[0] for f in self._delivered if f.video
        }
        if not reasons and not killed and (len(missing) > at_end or empty):
            reasons.append("its files do not hold what its records say; were they exchanged?")
        if reasons or lost_ns > MAX_LOST_S * 1e9:
            raise SourceError(
                f"the recording {name} is damaged, {counted(len(missing), 'frame')} missing "
                f"({(reasons or ['its last file is cut'])[0]}); all others were delivered"
            )
        self.note = self._note(len(missing), killed=killed)

    def _note(self, missing: int, *, killed: bool) -> str:
        offered = self.recorded.offered
        notes = []
        if killed or missing:
            how = "was not ended properly" if killed else "ended early"
            notes.append(f"it {how}, {counted(missing, 'frame')} missing at its end")
        if absent := sum(frame.video is None for frame in offered):
            notes.append(f"{absent} of {counted(len(offered), 'frame')} were listed without pixels")
        return f"recording {self.info.name}: {'; '.join(notes)}" if notes else ""


def _frame(found: Frame, segment: Segment, index: int, at: int) -> Frame:
    """The frame as captured: without the padding to an even size, and grey if it was grey."""
    size = segment.shown.height, segment.shown.width
    kept = Roi(0, 0, min(size[1], found.shape[1]), min(size[0], found.shape[0]))
    pixels = found.pixels
    if segment.grey:
        pixels = np.ascontiguousarray(found.grey(kept))
    elif found.shape != size:
        pixels = np.ascontiguousarray(kept.crop(found.image))
    return Frame(pixels, index, time.monotonic_ns(), at / UNITS_PER_SECOND, segment.spacing_mm)
