"""Converts a grabber's buffers to BGR images, or grey ones if the grabber sends only grey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

# OpenCV comes before PyAV: the other order hangs its window.
import cv2

# isort: split
import av
import numpy as np

from streamseg.capture.geometry import MAX_FRAME_PIXELS, square_pixels
from streamseg.capture.video.deinterlace import deinterlace, deinterlace_sequential
from streamseg.capture.video.pixels import FrameConverter
from streamseg.core.errors import SourceError
from streamseg.core.types import Grey, Image

_SEPARATE = {2: "only top fields", 3: "only bottom fields", 7: "fields one by one"}
_NEWER_FIELD: dict[int, Callable[[Image], Image]] = {
    4: deinterlace,  # INTERLACED: the order depends on the video standard, and the driver does not say it
    5: partial(deinterlace_sequential, odd=True),
    6: deinterlace_sequential,
    8: partial(deinterlace, odd=True),
    9: deinterlace,
}
"""Per ``enum v4l2_field``, how to keep the newer field."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The memory layout of a frame in a buffer. Raises SourceError for an unsupported one."""

    name: str
    """A key of PIXEL_FORMATS."""
    width: int
    height: int
    stride: int
    """Bytes from one row to the next; 0 for MJPEG."""
    field: int = 1
    """Interlacing, ``enum v4l2_field``."""
    full_range: bool = False
    """Whether luma has the range 0..255, in formats whose default is 16..235."""
    aspect: Fraction | None = None
    """Width of a pixel divided by its height; None if unknown."""

    def __post_init__(self) -> None:
        size = f"{self.name} {self.width}x{self.height}"
        if not (1 <= self.width <= 16384 and 1 <= self.height <= 16384):
            raise SourceError(
                f"the device delivers {size}, which is not a frame size; set up its input and try again"
            )
        if self.field in _SEPARATE:
            raise SourceError(
                f"the device delivers {_SEPARATE[self.field]}, which is not supported; "
                f"choose another size or set its input to progressive video"
            )
        odd_columns = self.width % 2 and self.name in _TO_BGR
        if odd_columns or (self.height % 2 and (self.name == "nv12" or self.field in (5, 6))):
            raise SourceError(f"the device delivers {size}, but its sizes must be even; choose another size")
        if self.stride < self.width * _BYTES[self.name]:
            raise SourceError(
                f"the device delivers {size} in rows of {self.stride} bytes; its driver is broken"
            )

    @property
    def length(self) -> int:
        """Bytes of a complete frame; for MJPEG the minimum."""
        rows = self.height * 3 // 2 if self.name == "nv12" else self.height
        return max(self.stride * rows, 4)


_BYTES = {"yuyv": 2, "uyvy": 2, "nv12": 1, "grey": 1, "mjpeg": 0}
_TO_BGR = {
    "yuyv": cv2.COLOR_YUV2BGR_YUYV,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "nv12": cv2.COLOR_YUV2BGR_NV12,
}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_FRAMES_WITHOUT_END = 5
_LUMA = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_CHROMA = np.rint(128 + (np.arange(256) - 128.0) * 224 / 255).astype(np.uint8)


class BufferConverter:
    """Converts the bytes of buffers to images. It holds a decoder, so use one per stream and thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._jpeg = _JpegDecoder() if layout.name == "mjpeg" else None

    def convert(self, data: Grey) -> Image | None:
        """The image of a buffer's bytes, uint8 (n,), in new memory; None if it is damaged.

        Interlaced frames are deinterlaced. Colours are converted as standard definition (BT.601).
        """
        if len(data) < self._layout.length:
            return None
        image = self._plain(data) if self._jpeg is None else self._jpeg.decode(data)
        if image is None or image.shape[:2] != (self._layout.height, self._layout.width):
            return None
        newer = _NEWER_FIELD.get(self._layout.field)
        return square_pixels(image if newer is None else newer(image), self._layout.aspect)

    def _plain(self, data: Grey) -> Image:
        layout = self._layout
        rows = data[: layout.length].reshape(-1, layout.stride)[:, : layout.width * _BYTES[layout.name]]
        if layout.name == "grey":
            return rows.copy()
        if layout.full_range:
            rows = _limited(rows, layout)
        if layout.name != "nv12":
            rows = rows.reshape(layout.height, layout.width, 2)
        return np.asarray(cv2.cvtColor(rows, _TO_BGR[layout.name]), np.uint8)


def _limited(rows: Grey, layout: Layout) -> Grey:
    """Full-range samples as limited-range ones, which OpenCV's conversions expect."""
    limited = np.empty_like(rows)
    if layout.name == "nv12":
        limited[: layout.height] = _LUMA[rows[: layout.height]]
        limited[layout.height :] = _CHROMA[rows[layout.height :]]
    else:
        first = int(layout.name == "uyvy")
        limited[:, first::2] = _LUMA[rows[:, first::2]]
        limited[:, 1 - first :: 2] = _CHROMA[rows[:, 1 - first :: 2]]
    return limited


class _JpegDecoder:
    """Decodes MJPEG with FFmpeg: OpenCV fills missing parts with grey, and only reports it on stderr.

    A truncated frame lacks its end marker. Lost or changed bytes inside are detected only if the rest is not
    valid JPEG: the format has no checksum. Some grabbers never send the end marker: after
    ``_FRAMES_WITHOUT_END`` frames that decode without one it is no longer required, until one comes.
    """

    def __init__(self) -> None:
        self._context = av.CodecContext.create("mjpeg", "r")
        self._context.thread_count = 1
        self._context.options = {"err_detect": "explode", "max_pixels": str(MAX_FRAME_PIXELS)}
        self._converter = FrameConverter()
        self._without_end = 0

    def decode(self, data: Grey) -> Image | None:
        packed = data.tobytes()
        scan = packed.rfind(_JPEG_SCAN)  # the last one: a thumbnail in EXIF has scan and end of its own
        if scan < 0:
            return None
        ends = packed.rfind(_JPEG_END) > scan
        if ends:
            self._without_end = 0
        try:
            frames = self._context.decode(av.Packet(packed if ends else packed + _JPEG_END))
        except (av.FFmpegError, ValueError):
            return None
        if not ends:
            self._without_end += 1
            if self._without_end <= _FRAMES_WITHOUT_END:
                return None
        whole = [frame for frame in frames if isinstance(frame, av.VideoFrame) and not frame.is_corrupt]
        # Not turned by an EXIF orientation: the driver has told the size, and the grabber is not held like a
        # phone.
        return self._converter.convert(whole[-1], upright=False) if whole else None
