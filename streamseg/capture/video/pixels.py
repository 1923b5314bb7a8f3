"""Converts decoded frames to 8-bit grey or BGR arrays and applies the display rotation.

Most frames are segmented and never drawn: a frame whose luma lies apart is passed on as it was decoded, and
its colours are computed for the first one who asks.
"""

from __future__ import annotations

import struct
import threading
from fractions import Fraction
from typing import Any, cast

# OpenCV comes first: the other order hangs its window.
import cv2

# isort: split
import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, VideoReformatter

from streamseg.capture.geometry import MAX_FRAME_PIXELS, check_pixels, square_pixels
from streamseg.core.pixel_aspect import believable_aspect
from streamseg.core.types import Grey, Image, Roi, Yuv420

_GREY_PREFIXES = ("gray", "ya8", "ya16", "mono")
# PyAV 18.1 has no name for the EXIF side data (31) that FFmpeg attaches to a JPEG frame, and then refuses all
# of the frame's side data: webcams and scanners write EXIF into their MJPEG. Types without a name get one.


def _name_side_data(cls: type[Type], value: object) -> Type:
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return cast(Type, member)


Type._missing_ = classmethod(_name_side_data)  # type: ignore[method-assign,assignment]

_EXPANSION = 255 / 219
"""Of limited range, 16..235, to 0..255."""
_LUMA_APART = frozenset(
    f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in ("420", "422", "440", "444")
) | {"nv12", "nv21", "nv16", "nv24"}
"""Formats with 8 bits whose first plane is luma, and nothing else."""
_OF_LUMA_AND_CHROMA = frozenset((1, 2, 4, 5, 6, 7, 9))
"""Matrices (ISO/IEC 23091-2) by which luma without chroma is grey; 2 is unspecified."""
_UNSPECIFIED = 2
_SPREAD_PER_CHROMA = 4
"""Grey levels by which the channels of a pixel differ at most, per level of chroma, in all of them."""
_CHROMA_SAMPLES = 128
"""Along a side of the rectangle."""


class FrameConverter:
    """Converts decoded frames to new arrays, one at a time, in any thread. It caches a scaler."""

    def __init__(self, max_pixels: int = MAX_FRAME_PIXELS) -> None:
        self._reformatter = VideoReformatter()
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._block = av.VideoFrame(2, 2, "yuv420p")
        """Planes of the part that was converted last: a new block for each would leave holes in the heap."""

    def picture(self, frame: av.VideoFrame, aspect: Fraction | None = None) -> Image | DecodedPicture:
        """What :meth:`convert` returns, or a picture that makes it when it is needed.

        Pixels that are not square, and a display matrix, are dealt with at once. Raises as :meth:`convert`.
        """
        if believable_aspect(aspect) != 1 or _display_matrix(frame) is not None:
            return self.convert(frame, aspect)
        check_pixels("the stream", frame.width, frame.height, self._max_pixels)
        planes = frame.planes
        apart = frame.format.name in _LUMA_APART and frame.colorspace in _OF_LUMA_AND_CHROMA
        if not apart or any(plane.line_size < plane.width for plane in planes):
            return self.convert(frame, aspect)
        return DecodedPicture(self, frame)

    def convert(self, frame: av.VideoFrame, aspect: Fraction | None = None, *, upright: bool = True) -> Image:
        """Image of a frame: (H, W) for grey formats, (H, W, 3) BGR for all others, with square pixels.

        More than 8 bits are reduced to 8, limited range is expanded, transparency is dropped. ``aspect`` is
        the width of a pixel divided by its height. ``upright`` applies the display matrix. Raises SourceError
        for a frame that is too large.
        """
        check_pixels("the stream", frame.width, frame.height, self._max_pixels)
        grey = frame.format.name.startswith(_GREY_PREFIXES)
        with self._lock:
            # One scaler thread: more take processor time from inference.
            converted = self._reformatter.reformat(frame, format="gray" if grey else "bgr24", threads=1)
        image: npt.NDArray[np.uint8] = converted.to_ndarray().astype(np.uint8, copy=False)
        if grey and frame.color_range == ColorRange.MPEG:
            image = _expanded(image)
        image = square_pixels(image, aspect, self._max_pixels)
        return _upright(image, frame) if upright else image

    def part(self, frame: av.VideoFrame, roi: Roi) -> Image:
        """What :meth:`convert` has in a rectangle, of a frame that is converted by blocks."""
        left, top = roi.x % 2, roi.y % 2
        width, height = (left + roi.width + 1) // 2 * 2, (top + roi.height + 1) // 2 * 2
        with self._lock:
            block = self._block
            if (block.width, block.height, block.format.name) != (width, height, frame.format.name):
                block = self._block = av.VideoFrame(width, height, frame.format.name)
            block.colorspace, block.color_range = frame.colorspace, frame.color_range
            for plane, whole, pixels in zip(block.planes, frame.planes, (1, 2, 2), strict=True):
                samples = _samples(whole)[(roi.y - top) // pixels :, (roi.x - left) // pixels :]
                samples = samples[: plane.height, : plane.width]
                target = _rows(plane)
                target[: samples.shape[0], : samples.shape[1]] = samples
            converted = self._reformatter.reformat(block, format="bgr24", threads=1)
        image: npt.NDArray[np.uint8] = converted.to_ndarray().astype(np.uint8, copy=False)
        # A copy, so that the scaler's block is free again at once.
        return image[top : top + roi.height, left : left + roi.width].copy()


class DecodedPicture:
    """A frame as a decoder returned it. Implements :class:`streamseg.core.types.Picture`."""

    __slots__ = (
        "_chroma",
        "_converter",
        "_frame",
        "_image",
        "_limited",
        "_lock",
        "_luma",
        "_matrix",
        "_part",
    )

    def __init__(self, converter: FrameConverter, frame: av.VideoFrame) -> None:
        self._converter = converter
        self._frame: av.VideoFrame | None = frame
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._part: tuple[Roi, Image] | None = None
        """The rectangle that was asked for last, with its image."""
        first, *others = frame.planes
        self._luma = _samples(first)
        chroma = [_samples(plane, 3 - len(others)) for plane in others]
        if len(chroma) == 1:
            chroma = [chroma[0][..., 0], chroma[0][..., 1]]
        self._chroma = chroma[::-1] if frame.format.name == "nv21" else chroma
        """U and V."""
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        self._limited = not full
        # Where it is not specified, FFmpeg converts by BT.601.
        self._matrix = 5 if frame.colorspace == _UNSPECIFIED else int(frame.colorspace)

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self._luma.shape
        return height, width

    @property
    def image(self) -> Image:
        with self._lock:
            if self._image is None and self._frame is not None:
                self._image = self._converter.convert(self._frame, upright=False)
                self._image.flags.writeable = False
                self._frame = None
            assert self._image is not None
            return self._image

    def crop(self, roi: Roi) -> Image:
        with self._lock:
            if self._part is not None and self._part[0] == roi:
                return self._part[1]
            if self._image is None and self._frame is not None and _converts_by_blocks(self._frame):
                part = self._converter.part(self._frame, roi)
                part.flags.writeable = False
                self._part = roi, part
                return part
        return roi.crop(self.image)

    def grey(self, roi: Roi, step: int) -> Grey:
        luma = roi.crop(self._luma)
        if step > 1:
            luma = np.ascontiguousarray(luma[::step, ::step])
        return _expanded(luma) if self._limited else luma

    def yuv420(self, roi: Roi) -> Yuv420:
        height, width = roi.height + roi.height % 2, roi.width + roi.width % 2
        planes = np.empty((height * 3 // 2, width), np.uint8)
        luma = planes[:height]
        luma[: roi.height, : roi.width] = roi.crop(self._luma)
        luma[roi.height :, : roi.width] = luma[roi.height - 1, : roi.width]
        luma[:, roi.width :] = luma[:, roi.width - 1 : roi.width]
        target = planes[height:].reshape(2, height // 2, width // 2)
        for plane, half in zip(self._chroma, target, strict=True):
            down, across = self._pixels_per_sample(plane)
            # The samples of every second pixel.
            rows = plane[roi.y // down :: 2 // down][: height // 2]
            half[:] = rows[:, roi.x // across :: 2 // across][:, : width // 2]
        return Yuv420(planes, self._matrix, full_range=not self._limited)

    def is_colourless(self, roi: Roi, spread: int, share: float) -> bool:
        limit = spread // _SPREAD_PER_CHROMA
        coloured = samples = 0
        for plane in self._chroma:
            down, across = self._pixels_per_sample(plane)
            right, bottom = -(-(roi.x + roi.width) // across), -(-(roi.y + roi.height) // down)
            part = plane[roi.y // down : bottom, roi.x // across : right]
            step = -(-max(part.shape[:2]) // _CHROMA_SAMPLES)
            part = part[::step, ::step]
            # Unsigned: what is below the range becomes large.
            coloured += int(np.count_nonzero(part - np.uint8(128 - limit) > 2 * limit))
            samples = part.shape[0] * part.shape[1]
        return coloured <= share * samples

    def _pixels_per_sample(self, chroma: Grey) -> tuple[int, int]:
        """How many rows and columns share a sample of chroma, each 1 or 2."""
        height, width = self.shape
        return -(-height // chroma.shape[0]), -(-width // chroma.shape[1])


def _converts_by_blocks(frame: av.VideoFrame) -> bool:
    """Whether the scaler computes each block of two by two pixels from its own samples alone.

    That of other formats, and of odd sizes, interpolates the chroma.
    """
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    return even and frame.format.name in ("yuv420p", "yuvj420p")


def _samples(plane: VideoPlane, channels: int = 1) -> npt.NDArray[np.uint8]:
    """View of a plane, (height, width), or (height, width, 2) of one with both kinds of chroma."""
    rows = _rows(plane)[:, : plane.width * channels]
    rows.flags.writeable = False
    return rows if channels == 1 else rows.reshape(plane.height, plane.width, channels)


def _rows(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    """View of a plane, (height, bytes of a row)."""
    held = cast(memoryview, plane)  # its type does not say that it has a buffer
    return np.frombuffer(held, np.uint8).reshape(plane.height, plane.line_size)


def _expanded(luma: Grey) -> Grey:
    """Limited range, 16..235, as 0..255."""
    return np.asarray(cv2.addWeighted(luma, _EXPANSION, luma, 0, -16 * _EXPANSION), np.uint8)


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
