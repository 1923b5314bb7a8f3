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

from streamseg.capture.geometry import MAX_FRAME_PIXELS, check_pixels, square_pixels
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
class BufferLayout:
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
    limited_rgb: bool = False
    """Whether red, green and blue have the range 16..235, as HDMI may send them."""
    aspect: Fraction | None = None
    """Width of a pixel divided by its height; None if unknown."""

    def __post_init__(self) -> None:
        size = f"{self.name} {self.width}x{self.height}"
        if not (1 <= self.width <= 16384 and 1 <= self.height <= 16384):
            raise SourceError(
                f"the device delivers {size}, which is not a frame size; set up its input and try again"
            )
        check_pixels("the device", self.width, self.height)
        if self.field in _SEPARATE:
            raise SourceError(
                f"the device delivers {_SEPARATE[self.field]}, which is not supported; "
                f"choose another size or set its input to progressive video"
            )
        odd_columns = self.width % 2 and self.name in _HALF_COLUMNS
        if odd_columns or (self.height % 2 and (self.name in _HALF_ROWS or self.field in (5, 6))):
            raise SourceError(f"the device delivers {size}, but its sizes must be even; choose another size")
        if self.stride < self.width * BYTES[self.name] or (self.name in _PLANAR and self.stride % 2):
            raise SourceError(
                f"the device delivers {size} in rows of {self.stride} bytes; its driver is broken"
            )

    @property
    def length(self) -> int:
        """Bytes of a complete frame; for MJPEG the minimum."""
        return max(self.stride * int(self.height * _PLANES.get(self.name, 1)), 4)


_PLANAR = ("yu12", "yv12")
_HALF_ROWS = ("nv12", "nv21", *_PLANAR)
_HALF_COLUMNS = ("yuyv", "uyvy", "yvyu", "nv16", *_HALF_ROWS)
BYTES = {"yuyv": 2, "uyvy": 2, "yvyu": 2, "rgb3": 3, "bgr3": 3, "xr24": 4, "mjpeg": 0}
"""Bytes of a pixel in the first plane, by pixel format; see below for the others."""
BYTES |= dict.fromkeys(("grey", "nv12", "nv21", "nv16", "nv24", *_PLANAR), 1)
_PLANES = {**dict.fromkeys(_HALF_ROWS, 1.5), "nv16": 2.0, "nv24": 3.0}
"""Bytes of all planes per byte of the first."""
_TO_BGR = {
    "yuyv": cv2.COLOR_YUV2BGR_YUYV,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "yvyu": cv2.COLOR_YUV2BGR_YVYU,
    "nv12": cv2.COLOR_YUV2BGR_NV12,
    "nv21": cv2.COLOR_YUV2BGR_NV21,
    "yu12": cv2.COLOR_YUV2BGR_I420,
    "yv12": cv2.COLOR_YUV2BGR_YV12,
}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_FRAMES_WITHOUT_END = 5
_LUMA = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_FULL_LUMA = np.clip(np.rint((np.arange(256) - 16.0) * 255 / 219), 0, 255).astype(np.uint8)
_FULL_CHROMA = np.clip(np.rint(128 + (np.arange(256) - 128.0) * 255 / 224), 0, 255).astype(np.uint8)
_CHROMA = np.rint(128 + (np.arange(256) - 128.0) * 224 / 255).astype(np.uint8)


class BufferConverter:
    """Converts the bytes of buffers to images. It holds a decoder, so use one per stream and thread."""

    def __init__(self, layout: BufferLayout) -> None:
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
        name, width, height = layout.name, layout.width, layout.height
        if name in _PLANAR:
            rows = _planar_rows(data, layout)
        else:
            rows = data[: layout.length].reshape(-1, layout.stride)
            if name != "nv24":  # whose second plane has rows of twice the length
                rows = rows[:, : width * BYTES[name]]
        if name == "grey":
            return rows.copy()
        if name in ("bgr3", "rgb3", "xr24"):
            return _from_rgb(rows.reshape(height, width, BYTES[name]), layout)
        if name == "nv24":
            return _from_full_chroma(rows, layout)
        if name == "nv16":  # the samples of YUYV, luma and chroma apart
            rows, name = np.stack((rows[:height], rows[height:]), axis=2), "yuyv"
        elif name not in _HALF_ROWS:
            rows = rows.reshape(height, width, 2)
        if layout.full_range:
            rows = _limited(rows, name, height)
        return np.asarray(cv2.cvtColor(rows, _TO_BGR[name]), np.uint8)


def _planar_rows(data: Grey, layout: BufferLayout) -> Grey:
    """Three planes, of which two have half the rows and columns, as the rows that OpenCV takes."""
    width, height, stride = layout.width, layout.height, layout.stride
    luma = data[: stride * height].reshape(height, stride)[:, :width]
    chroma = data[stride * height : layout.length].reshape(height, stride // 2)[:, : width // 2]
    return np.concatenate((luma.ravel(), chroma.ravel())).reshape(height * 3 // 2, width)


def _from_rgb(pixels: Grey, layout: BufferLayout) -> Image:
    image: Image = np.array(pixels[..., 2::-1] if layout.name == "rgb3" else pixels[..., :3], order="C")
    return np.asarray(cv2.LUT(image, _FULL_LUMA), np.uint8) if layout.limited_rgb else image


def _from_full_chroma(rows: Grey, layout: BufferLayout) -> Image:
    """NV24: luma, then blue and red chroma of every pixel. OpenCV converts only full-range samples of it."""
    height, width, stride = layout.height, layout.width, layout.stride
    luma = rows[:height, :width]
    chroma = rows[height:].reshape(height, 2 * stride)[:, : 2 * width].reshape(height, width, 2)
    if not layout.full_range:
        luma, chroma = _FULL_LUMA[luma], _FULL_CHROMA[chroma]
    merged = np.dstack((luma, chroma[..., 1], chroma[..., 0]))
    return np.asarray(cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR), np.uint8)


def _limited(rows: Grey, name: str, height: int) -> Grey:
    """Full-range samples as limited-range ones, which OpenCV's conversions expect."""
    limited = np.empty_like(rows)
    if name in _HALF_ROWS:
        limited[:height] = _LUMA[rows[:height]]
        limited[height:] = _CHROMA[rows[height:]]
    else:
        first = int(name == "uyvy")
        limited[..., first] = _LUMA[rows[..., first]]
        limited[..., 1 - first] = _CHROMA[rows[..., 1 - first]]
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
        # Not turned by an EXIF orientation: the driver states the size; nobody turns a grabber like a phone.
        return self._converter.convert(whole[-1], upright=False) if whole else None
