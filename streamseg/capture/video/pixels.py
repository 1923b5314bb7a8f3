"""Converts decoded frames to 8-bit grey or BGR arrays and applies the display rotation."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, cast

# OpenCV comes first: the other order hangs its window.
import cv2

# isort: split
import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import ColorRange, VideoReformatter

from streamseg.capture.geometry import MAX_FRAME_PIXELS, check_pixels, square_pixels
from streamseg.core.types import Image

_GREY_PREFIXES = ("gray", "ya8", "ya16", "mono")
# PyAV 18.1 has no name for the EXIF side data (31) that FFmpeg attaches to a JPEG frame, and then refuses all
# of the frame's side data: webcams and scanners write EXIF into their MJPEG. Types without a name get one.


def _name_side_data(cls: type[Type], value: object) -> Type:
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return cast(Type, member)


Type._missing_ = classmethod(_name_side_data)  # type: ignore[method-assign,assignment]

_LIMITED_TO_FULL = np.clip((np.arange(256) - 16) * 255 / 219 + 0.5, 0, 255).astype(np.uint8)


class FrameConverter:
    """Converts decoded frames to new arrays. It caches a scaler, so use one per stream and thread."""

    def __init__(self, max_pixels: int = MAX_FRAME_PIXELS) -> None:
        self._reformatter = VideoReformatter()
        self._max_pixels = max_pixels

    def convert(self, frame: av.VideoFrame, aspect: Fraction | None = None, *, upright: bool = True) -> Image:
        """Image of a frame: (H, W) for grey formats, (H, W, 3) BGR for all others, with square pixels.

        More than 8 bits are reduced to 8, limited range is expanded, transparency is dropped. ``aspect`` is
        the width of a pixel divided by its height. ``upright`` applies the display matrix. Raises SourceError
        for a frame that is too large.
        """
        check_pixels("the stream", frame.width, frame.height, self._max_pixels)
        grey = frame.format.name.startswith(_GREY_PREFIXES)
        # One scaler thread: more take processor time from inference.
        converted = self._reformatter.reformat(frame, format="gray" if grey else "bgr24", threads=1)
        image: npt.NDArray[np.uint8] = converted.to_ndarray().astype(np.uint8, copy=False)
        if grey and frame.color_range == ColorRange.MPEG:
            image = cv2.LUT(image, _LIMITED_TO_FULL).astype(np.uint8, copy=False)
        image = square_pixels(image, aspect, self._max_pixels)
        return _upright(image, frame) if upright else image


def _upright(image: Image, frame: av.VideoFrame) -> Image:
    """Apply the display matrix: rotations by right angles and flips; other angles are rounded to these."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return image
    # The matrix maps (x, y) to (a x + c y, b x + d y).
    a, b, c, d = matrix
    transposed = abs(b) > abs(a)
    if transposed:
        image = np.swapaxes(image, 0, 1)
    flip_x, flip_y = (c < 0, b < 0) if transposed else (a < 0, d < 0)
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    # Not frame.side_data: the frame keeps that, and it the frame, so that only the garbage collector frees
    # both, long after gigabytes of frames have gathered.
    data = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    return a, b, c, d
