"""H.264 video of what people see, at the source's own frame times, readable whatever ends the run.

Times. A frame is shown at its source time, ``round(pts_seconds / time_base)`` in the source's own unit, so a
variable rate and a start other than zero survive exactly in MP4 and MOV (for units down to 0.1 us). Matroska
counts in milliseconds and MPEG-TS in 1/90000 s: there times are rounded to that. (AVI holds a rate and no
times, so it is not offered.) Where the source gives no times, frame ``n`` is shown at ``n / rate``, or
``n / 25`` where it has no rate. No container holds a negative start: such a source is moved to begin at zero.
Frames are never reordered and never dropped: one whose time is not later than that of the one before is shown
one unit after it, and counted in :attr:`VideoSink.retimed`.

Size. It is that of the first picture; later ones of another size (folders of images) are fitted into it.
"""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path

import cv2  # Before av: in the other order OpenCV's windows hang.

# isort: split
import av
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from streamseg.errors import SinkError
from streamseg.geometry import Letterbox
from streamseg.latency import LatencyRecorder
from streamseg.render import compose, compose_plain
from streamseg.sinks.boxes import cut_unfinished
from streamseg.sinks.target import Target, sink_errors
from streamseg.types import Image, Result, SourceInfo

KEYFRAME_SECONDS = 1.0
"""A frame that can be decoded alone comes at least this often."""
FRAGMENT_SECONDS = 0.25
"""What a killed process or a full disk loses at most, in MP4, MOV and Matroska."""
_FRAGMENTED = frozenset({".mp4", ".mov"})
_FALLBACK_RATE = Fraction(25)
_FALLBACK_TIME_BASE = Fraction(1, 1_000_000)
_FIXED_UNITS = {".mkv": Fraction(1, 1000), ".ts": Fraction(1, 90_000)}
"""Units of time that the container prescribes, seconds."""
_FINEST_UNIT = Fraction(1, 10_000_000)
_LARGEST_GAP = 2**31 - 1
"""Units between two frames that MP4 and MOV can hold."""
# One thread and the fastest preset: 4 ms of one core for a picture of 1066x580, where "veryfast" takes 13 ms
# for half the size of file; the cores belong to the inference. No B-frames: times stay as simple as they are.
_ENCODER = {"preset": "ultrafast", "crf": "20", "bf": "0", "forced-idr": "1", "g": "100000"}


class VideoSink:
    """Writes results to a video file: .mp4 (recommended), .mov, .mkv or .ts.

    ``info`` is the source's; ``full_frame`` shows the whole frame instead of the ROI; ``hud`` adds the panel
    of figures, else the region is written at its own size. Raises UsageError or SinkError as it opens.
    The file appears with the first frame; where there is none, an older file stays.
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
    ) -> None:
        self._target = Target(path, force=force)
        self.path = path
        self.frames = 0
        """Frames written."""
        self.retimed = 0
        """Frames whose source time was not later than that of the frame before."""
        self._info = info
        self._full_frame = full_frame
        self._hud = hud
        self._recorder = LatencyRecorder(window=300)
        self._encoder: _Encoder | None = None
        self._failed = False
        self._closed = False

    def write(self, result: Result) -> None:
        """Draw and encode one frame. Raises SinkError (disk full, ...); the file then ends before it."""
        if self._failed or self._closed:
            why = "an earlier error ended it; see the first message" if self._failed else "it is closed"
            raise SinkError(f"cannot write {self.path}: {why}")
        picture = self._draw(result)
        try:
            with sink_errors(self.path, av.FFmpegError):
                if self._encoder is None:
                    self._encoder = self._open(picture, result.frame.pts_seconds)
                if not self._encoder.encode(picture, self._seconds(result)):
                    self.retimed += 1
        except SinkError:
            self._failed = True
            raise
        self.frames += 1

    def close(self) -> None:
        """Finish the file; a second time does nothing. Raises SinkError where finishing fails.

        After an error in :meth:`write` it finishes what it can, silently: the cause was told.
        """
        self._closed = True
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            return
        try:
            with sink_errors(self.path, av.FFmpegError):
                encoder.close()
        except SinkError:
            if self.path.suffix.lower() in _FRAGMENTED:
                with contextlib.suppress(OSError):  # The cause is told, now or before.
                    cut_unfinished(self.path)
            if not self._failed:
                self._failed = True
                raise

    def _draw(self, result: Result) -> Image:
        if not self._hud:
            return compose_plain(result, full_frame=self._full_frame)
        self._recorder.add(result.stage_ns)
        return compose(
            result, stages=self._recorder.stages(), fps=self._recorder.fps(), full_frame=self._full_frame
        )

    def _seconds(self, result: Result) -> float | Fraction:
        seconds = result.frame.pts_seconds
        if seconds is None or not math.isfinite(seconds):
            return result.frame.index / (self._info.rate or _FALLBACK_RATE)
        return seconds

    def _open(self, picture: Image, pts_seconds: float | None) -> _Encoder:
        rate = self._info.rate or _FALLBACK_RATE
        time_base = 1 / rate if pts_seconds is None else self._info.time_base or _FALLBACK_TIME_BASE
        time_base = _FIXED_UNITS.get(self.path.suffix.lower(), time_base)
        if time_base.denominator > _FINEST_UNIT.denominator:
            time_base = (
                _FALLBACK_TIME_BASE  # Finer than any source's clock, and it would leave no room for gaps.
            )
        try:
            encoder = _Encoder(self._target, picture.shape[0], picture.shape[1], time_base, rate)
            self._target.publish()
        except (OSError, av.FFmpegError, SinkError):
            self._target.discard()
            raise
        return encoder


class _Encoder:
    """One open container with one H.264 stream. Lets OSError and FFmpegError through."""

    def __init__(self, target: Target, height: int, width: int, time_base: Fraction, rate: Fraction) -> None:
        self._path = target.path
        self._height, self._width = height, width
        self._time_base = time_base
        self._offset: int | None = None
        self._last: int | None = None
        self._last_key: int | None = None
        self._container: OutputContainer = av.open(
            str(target.part), "w", options=_container_options(target.path.suffix.lower(), time_base)
        )
        try:
            self._stream = self._add_stream(rate)
            self._container.start_encoding()
        except Exception:
            with contextlib.suppress(OSError, av.FFmpegError):
                self._container.close()
            raise

    def _add_stream(self, rate: Fraction) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        stream.time_base = self._time_base
        context: VideoCodecContext = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = 1
        # What OpenCV's conversion makes; players guess by the picture's size unless told.
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU601
        return stream

    def encode(self, picture: Image, seconds: float | Fraction) -> bool:
        """Add a picture; False where its time had to be moved to come after the one before.

        Raises SinkError where MP4 cannot hold the gap between the two.
        """
        moment = round(Fraction(seconds) / self._time_base)
        if self._offset is None:
            self._offset = max(0, -moment)
        moment += self._offset
        in_order = self._last is None or moment > self._last
        if self._last is not None:
            moment = max(moment, self._last + 1)
            self._check_gap(moment - self._last)
        self._last = moment
        frame = av.VideoFrame.from_ndarray(self._to_yuv(picture), format="yuv420p")
        frame.pts, frame.time_base = self._last, self._time_base
        if self._last_key is None or (self._last - self._last_key) * self._time_base >= KEYFRAME_SECONDS:
            frame.pict_type = PictureType.I
            self._last_key = self._last
        self._container.mux(self._stream.encode(frame))
        return in_order

    def _check_gap(self, gap: int) -> None:
        # FFmpeg counts in a multiple of the unit where that is coarse, and shortens longer gaps unasked.
        multiple = 1
        while self._time_base.denominator * multiple < 10_000:
            multiple *= 2
        if (
            self._path.suffix.lower() in _FRAGMENTED
            and gap * multiple * self._time_base.numerator > _LARGEST_GAP
        ):
            raise SinkError(
                f"cannot write {self._path}: MP4 cannot hold the {float(gap * self._time_base):.0f} seconds "
                "between two frames of this source; write .mkv instead"
            )

    def _to_yuv(self, picture: Image) -> Image:
        height, width = picture.shape[:2]
        if (height, width) != (self._height, self._width):
            picture = Letterbox(height, width, self._height, self._width).apply(picture)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)

    def close(self) -> None:
        """Write what is still in the encoder and the container's end."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def _container_options(suffix: str, time_base: Fraction) -> dict[str, str]:
    """What makes a container keep exact times, and keep the finished part when the process dies."""
    options = {"flush_packets": "1"}
    if suffix in _FRAGMENTED:
        # Fragments while it is written, a plain file once closed. The header is delayed so that it can hold
        # the start time, whose unit is the movie's and milliseconds unless told otherwise.
        options["movflags"] = "+hybrid_fragmented+delay_moov"
        options["movie_timescale"] = str(time_base.denominator)
        options["frag_duration"] = str(round(1_000_000 * FRAGMENT_SECONDS))
    elif suffix == ".mkv":
        options["cluster_time_limit"] = str(round(1000 * FRAGMENT_SECONDS))
    return options
