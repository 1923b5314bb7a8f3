"""Writes annotated H.264 video at the source's own frame times, readable however the run ends.

Times: a frame is shown at its source time, ``round(pts_seconds / time_base)`` in the source's own unit, so a
variable rate and a start other than zero are exact in MP4 and MOV (for units down to 0.1 us). Matroska
counts in milliseconds and MPEG-TS in 1/90000 s; times are rounded to that. (AVI has a rate but no times, so
it is not offered.) If the source has no times, frame ``n`` is shown at ``n / rate``, or ``n / 25`` without a
rate. No container can hold a negative start: such a source is shifted to begin at zero. Frames are never
reordered or dropped: one whose time is not later than the previous one is shown one unit after it and counted
in :attr:`VideoSink.retimed`.

Size: that of the first frame; later ones of another size (folders of images) are fitted into it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import cv2  # noqa: F401  # Before av: in the other order OpenCV's windows hang.

# isort: split
import av

from streamseg.core.errors import SinkError
from streamseg.core.latency import LatencyRecorder
from streamseg.core.types import Image, Result, SourceInfo
from streamseg.render import compose, compose_plain
from streamseg.sinks.encoder import Encoder
from streamseg.sinks.target import Target, sink_errors

_FALLBACK_RATE = Fraction(25)
_FALLBACK_TIME_BASE = Fraction(1, 1_000_000)
_FIXED_UNITS = {".mkv": Fraction(1, 1000), ".ts": Fraction(1, 90_000)}
"""Units of time in seconds that containers prescribe."""
_FINEST_UNIT = Fraction(1, 10_000_000)


class VideoSink:
    """Writes results to a video file: .mp4 (recommended), .mov, .mkv or .ts.

    ``info`` describes the source; ``full_frame`` shows the whole frame instead of the ROI; ``hud`` adds the
    panel of figures, otherwise the region is written at its own size; ``vessels`` shows those too.
    Raises UsageError or SinkError on opening. The file appears with the first frame; without one, an older
    file stays.
    """

    name = "video"

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        *,
        force: bool = False,
        full_frame: bool = False,
        hud: bool = True,
        vessels: bool = True,
    ) -> None:
        self._target = Target(path, force=force)
        self.path = path
        self.frames = 0
        """Frames written."""
        self.retimed = 0
        """Frames whose source time was not later than that of the previous frame."""
        self._info = info
        self._full_frame = full_frame
        self._hud = hud
        self._vessels = vessels
        self._recorder = LatencyRecorder(window=300)
        self._encoder: Encoder | None = None
        self._failed = False
        self._closed = False

    def write(self, result: Result) -> None:
        """Draw and encode one frame. Raises SinkError (disk full, ...); the file then ends before it."""
        if self._failed or self._closed:
            why = "an earlier error ended it; see the first message" if self._failed else "it is closed"
            raise SinkError(f"cannot write {self.path}: {why}")
        image = self._draw(result)
        try:
            with sink_errors(self.path, av.FFmpegError):
                if self._encoder is None:
                    self._encoder = self._open(image, result.frame.pts_seconds)
                if not self._encoder.encode(image, self._seconds(result)):
                    self.retimed += 1
        except SinkError:
            self._failed = True
            raise
        self.frames += 1

    def close(self) -> None:
        """Finish the file; a second call does nothing. Raises SinkError if finishing fails.

        After an error in :meth:`write`, finishes what it can without raising: the cause was reported.
        """
        self._closed = True
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            return
        try:
            with sink_errors(self.path, av.FFmpegError):
                encoder.close()
        except SinkError:
            if not self._failed:
                self._failed = True
                raise

    def _draw(self, result: Result) -> Image:
        if not self._hud:
            return compose_plain(result, full_frame=self._full_frame, vessels=self._vessels)
        self._recorder.add(result.stage_ns)
        return compose(
            result,
            stages=self._recorder.stages(),
            fps=self._recorder.fps(),
            full_frame=self._full_frame,
            vessels=self._vessels,
        )

    def _seconds(self, result: Result) -> float | Fraction:
        seconds = result.frame.pts_seconds
        if seconds is None or not math.isfinite(seconds):
            return result.frame.index / (self._info.rate or _FALLBACK_RATE)
        return seconds

    def _open(self, image: Image, pts_seconds: float | None) -> Encoder:
        rate = self._info.rate or _FALLBACK_RATE
        time_base = 1 / rate if pts_seconds is None else self._info.time_base or _FALLBACK_TIME_BASE
        time_base = _FIXED_UNITS.get(self.path.suffix.lower(), time_base)
        if time_base.denominator > _FINEST_UNIT.denominator:
            time_base = (
                _FALLBACK_TIME_BASE  # A finer unit than any source's clock would leave no room for gaps.
            )
        return Encoder(self._target, image.shape[0], image.shape[1], time_base, rate)
