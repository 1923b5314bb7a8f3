"""Encodes H.264 into a container that keeps exact times and stays readable if the process dies."""

from __future__ import annotations

import contextlib
import struct
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import cv2  # Before av: in the other order OpenCV's windows hang.

# isort: split
import av
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from streamseg.core.errors import SinkError
from streamseg.core.geometry import Letterbox
from streamseg.core.types import Image, Yuv420
from streamseg.sinks.target import Target

KEYFRAME_SECONDS = 1.0
"""Longest time between keyframes."""
FRAGMENT_SECONDS = 0.25
"""Most that a killed process or a full disk loses in MP4, MOV and Matroska."""
DISPLAY_CRF = 20
"""x264's constant rate factor for videos to watch."""
_FRAGMENTED = frozenset({".mp4", ".mov"})
_MAX_GAP = 2**31 - 1
"""Largest time between two frames in units that MP4 and MOV can hold."""
_FULL_TO_LIMITED = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
# One thread and the fastest preset: 4 ms of one core for a frame of 1066x580, where "veryfast" takes 13 ms
# for half the file size; the cores belong to the inference. No B-frames: frames are stored in time order.
# "zerolatency" makes x264 hold no frame back: 7 MB less for frames of 1904x1190, and the same bytes.
_ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "forced-idr": "1", "g": "100000"}


class Encoder:
    """One open container with one H.264 stream. OSError and FFmpegError pass through.

    ``time_base`` is the unit of the frames' times in seconds; ``quality`` is x264's constant rate factor,
    0 (lossless) to 51; ``matrix`` and ``full_range`` are those of :class:`~streamseg.core.types.Yuv420`. If
    the file cannot be opened, nothing of it is left.
    """

    def __init__(
        self,
        target: Target,
        height: int,
        width: int,
        time_base: Fraction,
        rate: Fraction,
        *,
        quality: int = DISPLAY_CRF,
        matrix: int = Colorspace.ITU601,
        full_range: bool = False,
    ) -> None:
        self._path = target.path
        self._height, self._width = height, width
        self._time_base = time_base
        self._offset: int | None = None
        self.last: int | None = None
        """Time of the newest frame as written, in units of the time base."""
        self._last_key: int | None = None
        self._frame = av.VideoFrame(width, height, "yuv420p")
        try:
            self._container: OutputContainer = av.open(
                str(target.part), "w", options=_container_options(target.path.suffix.lower(), time_base)
            )
            try:
                self._stream = self._add_stream(rate, quality, matrix, full_range)
                self._container.start_encoding()
                target.publish()
            except Exception:
                with contextlib.suppress(OSError, av.FFmpegError):
                    self._container.close()
                raise
        except (OSError, av.FFmpegError, SinkError):
            target.discard()
            raise

    def _add_stream(self, rate: Fraction, quality: int, matrix: int, full_range: bool) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=rate, options={**_ENCODER, "crf": str(quality)})
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        stream.time_base = self._time_base
        context: VideoCodecContext = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = 1
        # Without these, players guess from the size.
        context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        context.colorspace = matrix
        return stream

    def encode(self, image: Image | Yuv420, seconds: float | Fraction) -> bool:
        """Add an image: uint8 (H, W) grey or (H, W, 3) BGR, or YUV of the encoder's size, matrix and range.

        Returns False if its time had to be moved to be later than the previous one. Raises SinkError if MP4
        cannot hold the gap between the two.
        """
        moment = round(Fraction(seconds) / self._time_base)
        if self._offset is None:
            self._offset = max(0, -moment)
        moment += self._offset
        in_order = self.last is None or moment > self.last
        if self.last is not None:
            moment = max(moment, self.last + 1)
            self._check_gap(moment - self.last)
        self.last = moment
        image = image if isinstance(image, Yuv420) else self._to_yuv(image)
        frame = self._filled(image)
        frame.pts, frame.time_base = moment, self._time_base
        is_key = self._last_key is None or (moment - self._last_key) * self._time_base >= KEYFRAME_SECONDS
        frame.pict_type = PictureType.I if is_key else PictureType.NONE
        self._last_key = moment if is_key else self._last_key
        self._container.mux(self._stream.encode(frame))
        return in_order

    def _filled(self, image: Yuv420) -> av.VideoFrame:
        """The encoder's one frame with these pixels: x264 has copied the last ones when it returns.

        A new frame for each image would leave a hole in the heap for each, since glibc before 2.38 does not
        give the place of an aligned block to another of the same size.
        """
        frame, (height, width) = self._frame, image.shape
        luma, chroma = image.planes[:height], image.planes[height:].reshape(2, height // 2, width // 2)
        for plane, samples in zip(frame.planes, (luma, *chroma), strict=True):
            rows = np.frombuffer(cast(memoryview, plane), np.uint8).reshape(plane.height, plane.line_size)
            rows[:, : plane.width] = samples
        return frame

    def _check_gap(self, gap: int) -> None:
        # FFmpeg multiplies a coarse unit, and silently shortens gaps that then overflow.
        multiple = 1
        while self._time_base.denominator * multiple < 10_000:
            multiple *= 2
        if self._path.suffix.lower() in _FRAGMENTED and gap * multiple * self._time_base.numerator > _MAX_GAP:
            raise SinkError(
                f"cannot write {self._path}: MP4 cannot hold the {float(gap * self._time_base):.0f} seconds "
                "between two frames of this source; write .mkv instead"
            )

    def _to_yuv(self, image: Image) -> Yuv420:
        height, width = image.shape[:2]
        if (height, width) != (self._height, self._width):
            image = Letterbox(height, width, self._height, self._width).apply(image)
        return yuv420(image)

    def close(self) -> None:
        """Flush the encoder and finish the container.

        If that fails, an MP4 or MOV file is cut after its last whole fragment before the error is raised.
        """
        try:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
        except (OSError, av.FFmpegError):
            if self._path.suffix.lower() in _FRAGMENTED:
                with contextlib.suppress(OSError):  # The cause is raised.
                    cut_unfinished(self._path)
            raise


def yuv420(image: Image, planes: Image | None = None) -> Yuv420:
    """Convert an image, uint8 (H, W) grey or (H, W, 3) BGR; odd sizes are made even as by a picture.

    BGR is converted into ``planes`` if they are given and have the right size.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.asarray(
            cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8
        )
        height, width = image.shape[:2]
    if image.ndim == 3:
        return Yuv420(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420, planes), np.uint8))
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = cv2.LUT(image, _FULL_TO_LIMITED)
    return Yuv420(planes)


def _container_options(suffix: str, time_base: Fraction) -> dict[str, str]:
    """Options for exact times, and for a file that is readable if the process dies."""
    options = {"flush_packets": "1"}
    if suffix in _FRAGMENTED:
        # Fragments while it is written, a plain file once closed. The header is delayed so that it can hold
        # the start time, whose unit is the movie's: milliseconds by default.
        options["movflags"] = "+hybrid_fragmented+delay_moov"
        options["movie_timescale"] = str(time_base.denominator)
        options["frag_duration"] = str(round(1_000_000 * FRAGMENT_SECONDS))
    elif suffix == ".mkv":
        options["cluster_time_limit"] = str(round(1000 * FRAGMENT_SECONDS))
    return options


def cut_unfinished(path: Path) -> None:
    """Cut a fragmented MP4 or MOV file after its last whole fragment. OSError passes through.

    On a full disk the last box ends in the middle; players cope, but strict readers would report a damaged
    file. (ISO/IEC 14496-12, 4.2: a box is its size in four bytes, its type in four, and its content;
    size 1 means that the size follows in eight more. A fragment is a ``moof`` box and the ``mdat`` after it.)
    """
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        whole = position = 0
        while (box := _read_box(file, position)) is not None:
            kind, size = box
            position += size
            if position > end:
                break
            if kind != b"moof":
                whole = position
        if 0 < whole < end:
            file.truncate(whole)


def _read_box(file: BinaryIO, position: int) -> tuple[bytes, int] | None:
    """Type and size of the box at a position, or None if its header is not whole."""
    file.seek(position)
    head = file.read(16)
    if len(head) < 8:
        return None
    size, kind = struct.unpack(">I4s", head[:8])
    if size == 1 and len(head) == 16:
        (size,) = struct.unpack(">Q", head[8:])
    return (kind, size) if size >= 8 else None
