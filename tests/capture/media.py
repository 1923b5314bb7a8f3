"""Small real recordings for tests; every frame shows its own number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

# isort: split
import av

from streamseg.capture import open_source
from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame, Image

SHARED = Path(__file__).parents[3] / "shared" / "data"
WIDTH, HEIGHT = 96, 64


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    """BGR: texture that moves, and a row of eight blocks which spell the number in binary."""
    texture = np.random.default_rng(7).integers(60, 180, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = np.roll(cv2.resize(texture, (width, height)), 2 * number, axis=1)
    for bit in range(8):
        image[:8, bit * 8 : bit * 8 + 8] = 235 if number >> bit & 1 else 16
    return np.ascontiguousarray(image)


def number_of(image: Image) -> int:
    """The number that an image shows."""
    grey = image if image.ndim == 2 else image.mean(axis=2)
    return sum(int(grey[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 125) << bit for bit in range(8))


def write_video(
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    container: str | None = None,
    pts: Sequence[int] | None = None,
    base: Fraction = Fraction(1, 25),
    rotation: int = 0,
    aspect: Fraction | None = None,
    b_frames: int = 2,
    options: dict[str, str] | None = None,
) -> Path:
    """Write numbered frames. ``pts`` are in units of ``base``; by default 0, 1, 2, ..."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = 10
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        if codec == "libx264":
            stream.codec_context.max_b_frames = b_frames
            stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size[1], size[0]), format="bgr24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = (pts[number] if pts else number), base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def read_all(uri: str | Path, *, start_seconds: float = 0.0) -> tuple[list[Frame], StreamsegError | None]:
    """Frames of a source, and the error that ended it."""
    frames: list[Frame] = []
    try:
        with open_source(uri, start_seconds=start_seconds) as source:
            frames.extend(source)
    except StreamsegError as error:
        return frames, error
    return frames, None


def jpeg_with_exif(image: Image, orientation: int = 1, *, thumbnail: bool = False) -> bytes:
    """A JPEG with an EXIF block, as many webcams and scanners write."""
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0112] = "Camera", orientation
    buffer = io.BytesIO()
    small = io.BytesIO()
    Pillow.fromarray(image[::2, ::2, ::-1]).save(small, "JPEG")
    block = exif.tobytes() + (small.getvalue() if thumbnail else b"")
    Pillow.fromarray(image[..., ::-1]).save(buffer, "JPEG", quality=95, exif=block)
    return buffer.getvalue()


def write_mjpeg(path: Path, frames: Sequence[bytes], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Write JPEG data as it is, 25 frames a second."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        for number, data in enumerate(frames):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.is_keyframe = True
            output.mux(packet)
    return path
