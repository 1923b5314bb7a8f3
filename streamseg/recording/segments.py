"""Writes a video in segments of limited length, each readable alone, with times of the whole video."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from fractions import Fraction
from pathlib import Path

import cv2  # noqa: F401  Before av: in the other order OpenCV's windows hang.

# isort: split
import av

from streamseg.capture.recording.format import UNITS_PER_SECOND, video_name
from streamseg.core.types import Image, Yuv420
from streamseg.sinks.encoder import DISPLAY_CRF, Encoder, yuv420
from streamseg.sinks.target import Target, sink_errors

# At 12 the masks of recorded frames differ from those of captured ones as little as if every pixel changed by
# at most one grey level (mean Dice 0.987 against 0.990 on the phantom). 8 is no better, 20 is worse (0.966),
# and lossless is four times as large.
ORIGINAL_CRF = 12
"""x264's constant rate factor for frames that will be segmented again."""
_UNIT = Fraction(1, UNITS_PER_SECOND)
_USUAL_RATE = Fraction(30)


class SegmentedVideo:
    """Writes ``<kind>-0001.mp4``, ``-0002.mp4``, ... into a folder. For use from one thread."""

    def __init__(self, folder: Path, kind: str, *, seconds: float, quality: int = DISPLAY_CRF) -> None:
        self._folder, self._kind, self._quality = folder, kind, quality
        self._length = round(seconds * UNITS_PER_SECOND)
        self._encoder: Encoder | None = None
        self._path = folder
        self._number = 0
        self._began = 0
        self._key: Hashable = None
        self._planes: Image | None = None
        """Of the image that was converted last, for the next one."""

    def add(
        self, image: Image | Yuv420, at: int, key: Hashable, begins: Callable[[str, int], None]
    ) -> tuple[int, int]:
        """Add an image, uint8 (H, W) or (H, W, 3) unless it is YUV already, shown at ``at`` microseconds.

        A new file begins when the last one is full, and when ``key``, the size or the kind of YUV changes;
        ``begins`` gets its name and number. Odd sizes are made even by repeating the last row or column.
        Returns the number of the file and the time in it, which is later than ``at`` if two frames have the
        same time. Raises SinkError.
        """
        if not isinstance(image, Yuv420):
            image = yuv420(image, self._planes)
            self._planes = image.planes
        key = (image.shape, image.matrix, image.full_range, key)
        if self._encoder is None or key != self._key or at - self._began >= self._length:
            self._next_file(image, at, key)
            begins(self._path.name, self._number)
        encoder = self._encoder
        assert encoder is not None
        with sink_errors(self._path, av.FFmpegError):
            encoder.encode(image, at * _UNIT)
        return self._number, encoder.last or 0

    def _next_file(self, image: Yuv420, at: int, key: Hashable) -> None:
        self.close()
        self._number += 1
        self._path = self._folder / video_name(self._kind, self._number)
        self._key, self._began = key, at
        height, width = image.shape
        with sink_errors(self._path, av.FFmpegError):
            target = Target(self._path, force=False)
            self._encoder = Encoder(
                target,
                height,
                width,
                _UNIT,
                _USUAL_RATE,
                quality=self._quality,
                matrix=image.matrix,
                full_range=image.full_range,
            )

    def close(self) -> None:
        """Finish the current file. Raises SinkError; what was finished is then readable."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            with sink_errors(self._path, av.FFmpegError):
                encoder.close()
