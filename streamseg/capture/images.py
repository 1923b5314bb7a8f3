"""A folder of images, or one image, as a source. Every page of a TIFF file, or of an animation, is a frame.

Images may differ in size. Frames have no times. Orientation tags are applied, and transparent pixels are
blended with black.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageSequence, UnidentifiedImageError

from streamseg.capture.base import RecordedSource, check_start
from streamseg.capture.files import ChangeWatch, check_none_added, check_readable, is_image
from streamseg.capture.geometry import (
    MAX_FRAME_PIXELS,
    MAX_IMAGE_PIXELS,
    check_pixels,
    square_pixels,
)
from streamseg.core.errors import SourceError, StreamsegError, UsageError, is_programming_error, one_line
from streamseg.core.pixel_aspect import aspect_of, believable_aspect
from streamseg.core.types import Frame, Image, SourceInfo
from streamseg.core.upright import turn_upright
from streamseg.reporting.formatting import counted

_FRUGAL_FORMATS = ("PNG", "BMP", "PPM", "TIFF", "JPEG")
_MAX_COSTLY_PIXELS = 36_000_000
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "GIF")
"""What is read: Pillow knows others, some of which start programs (Ghostscript) or ask for a GUI."""
_ANIMATED = (".png", ".webp", ".avif")
_REDUCED_COPY = 1
"""Bit of a TIFF page's NewSubfileType (tag 254): a thumbnail of another page."""
_STRIP_PIXELS = 1_000_000
# Pillow allocates in blocks of 16 MB, which glibc takes from its heap once it has freed a first one, and then
# keeps: 350 MB of an image stayed after it was read. Blocks above 32 MB are always given back.
Pillow.core.set_block_size(64 << 20)  # type: ignore[attr-defined]


class ImageSource(RecordedSource):
    """Frames from image files, in the order given."""

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        *,
        start_seconds: float = 0.0,
        sar: Fraction | None = None,
        folder: Path | None = None,
    ) -> None:
        """Open images. The first is decoded at once, for its size.

        ``sar`` replaces the aspect of the pixels that the files state. ``folder`` is the one whose images
        these are: images that come into it later are an error after the last frame.

        Raises UsageError for a start other than 0, SourceError if the first image cannot be read.
        """
        check_start(start_seconds)
        if start_seconds > 0:
            raise UsageError(f"{name} is made of images, which have no times; omit the start")
        height, width = next(read_pages(paths[0], sar)).shape[:2]
        info = SourceInfo(
            name=name,
            height=height,
            width=width,
            frame_count=_count(paths),
        )
        super().__init__(info, _deliver(paths, sar, folder), lambda: None)


def read_pages(path: Path, sar: Fraction | None = None) -> Iterator[Image]:
    """Yield the pages of an image file as uint8, (H, W) grey or (H, W, 3) BGR. Raises SourceError.

    16-bit grey has the range 0..65535, floating point 0..1, or 0..255 if a value exceeds 1. A palette of
    greys gives a grey image. Pixels that are not square by the file's resolution, or by ``sar``, become
    square.
    """
    check_readable(path)
    watch, count = ChangeWatch(path), 0
    with _translated(path):
        opened = Pillow.open(path, formats=_FORMATS)
    with opened:
        pages = ImageSequence.Iterator(opened) if _may_have_pages(path) else iter((opened,))
        while True:
            with _translated(path):
                page = next(pages, None)
                if page is None:
                    break
                if _is_reduced_copy(page):
                    continue
                check_pixels(path.name, *page.size, _pixel_limit(page))
                aspect = aspect_of(page) if sar is None else believable_aspect(sar)
                turn_upright(page)
                image = _in_strips(page)
                if not _is_animation(page):  # whose next page builds on this one
                    page.im = None  # type: ignore[assignment]  # its pixels: the memory is needed
                image = square_pixels(image, aspect, MAX_IMAGE_PIXELS)
            watch.check()
            yield image
            del image
            count += 1
    watch.conclude(counted(count, "image"))


def _deliver(paths: Sequence[Path], sar: Fraction | None, folder: Path | None) -> Iterator[Frame]:
    index = 0
    for path in paths:
        try:
            for image in read_pages(path, sar):
                yield Frame(image, index=index, captured_ns=time.monotonic_ns())
                del image  # large, and not needed while the next one is decoded
                index += 1
        except StreamsegError as error:
            if index == 0:
                raise
            raise SourceError(f"{error} ({counted(index, 'frame')} before it read)") from error
    if folder is not None:
        check_none_added(folder, paths, is_image)


def _count(paths: Sequence[Path]) -> int:
    """Frames to expect. Pages are only counted in a single file: in a whole folder that takes too long."""
    if len(paths) > 1 or not _may_have_pages(paths[0]):
        return len(paths)
    with _translated(paths[0]), Pillow.open(paths[0], formats=_FORMATS) as opened:
        return int(getattr(opened, "n_frames", 1))


def _may_have_pages(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff", *_ANIMATED)


def _is_animation(page: Pillow.Image) -> bool:
    return page.format in ("PNG", "WEBP", "AVIF") and getattr(page, "is_animated", False)


def _is_reduced_copy(page: Pillow.Image) -> bool:
    tags = getattr(page, "tag_v2", {})
    return page.format == "TIFF" and page.tell() > 0 and bool(int(tags.get(254, 0)) & _REDUCED_COPY)


def _pixel_limit(page: Pillow.Image) -> int:
    """Pixels that an image may have: fewer if its decoder needs several times the memory of the pixels."""
    if _is_animation(page):
        return MAX_FRAME_PIXELS
    frugal = page.format in _FRUGAL_FORMATS and not page.info.get("progressive")
    return MAX_IMAGE_PIXELS if frugal else _MAX_COSTLY_PIXELS


def _in_strips(page: Pillow.Image) -> Image:
    """The page in 8 bits, converted strip by strip: a large image is in memory twice, not five times."""
    page.load()
    width, height = page.size
    rows = max(1, _STRIP_PIXELS // width)
    if height <= rows:
        return _to_eight_bits(page)
    top = 0.0
    boxes = [(0, y, width, min(y + rows, height)) for y in range(0, height, rows)]
    if page.mode == "F":
        top = max(_largest(page.crop(box)) for box in boxes)
    grey = page.mode not in ("P", "PA") or all(_to_eight_bits(page.crop(box)).ndim == 2 for box in boxes)
    whole: Image | None = None
    for box in boxes:
        strip = _to_eight_bits(page.crop(box), top)
        if strip.ndim == 2 and not grey:
            strip = cv2.cvtColor(strip, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
        if whole is None:
            whole = np.empty((height, width, *strip.shape[2:]), np.uint8)
        whole[box[1] : box[3]] = strip
    assert whole is not None
    return whole


def _largest(strip: Pillow.Image) -> float:
    return float(np.nan_to_num(np.asarray(strip, np.float32)).max(initial=0))


def _to_eight_bits(image: Pillow.Image, top: float | None = None) -> Image:
    """An image in 8 bits; ``top`` is the largest value of a floating-point image if this is a part of it."""
    mode = image.mode
    if mode == "F":
        return _scaled(np.asarray(image), top=_largest(image) if top is None else top)
    if mode.startswith("I"):
        return _scaled(np.asarray(image))
    if mode in ("L", "1"):
        return np.array(image.convert("L"))
    if mode in ("LA", "La"):
        return _over_black(image.convert("LA"), "L")
    if mode in ("RGBA", "RGBa", "PA") or (mode == "P" and "transparency" in image.info):
        return _without_tint(_over_black(image.convert("RGBA"), "RGB"), palette=mode[0] == "P")
    return _without_tint(np.array(image.convert("RGB")), palette=mode == "P")


def _scaled(values: npt.NDArray[np.generic], *, top: float | None = None) -> Image:
    wide = np.nan_to_num(np.asarray(values, np.float32))
    factor = 255 / 65535
    if top is not None:
        factor = 255.0 if top <= 1 else 1.0
    eight: Image = np.clip(np.rint(wide * factor), 0, 255).astype(np.uint8)
    return eight


def _over_black(image: Pillow.Image, mode: str) -> npt.NDArray[np.uint8]:
    visible = Pillow.new(mode, image.size)
    visible.paste(image.convert(mode), mask=image.getchannel("A"))
    return np.array(visible)


def _without_tint(rgb: npt.NDArray[np.uint8], *, palette: bool) -> Image:
    """The BGR image of an RGB image, or the grey image if a palette holds only greys."""
    if palette and np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2]):
        return np.ascontiguousarray(rgb[..., 0])
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn Pillow's exceptions into SourceError, and keep its warnings off the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow only warns about decompression bombs.
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            yield
    except SourceError:
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"{path} is not an image that can be read; convert it to PNG") from error
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError, MemoryError) as error:
        raise SourceError(f"{path} is too large an image; make it smaller than 89 megapixels") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        if is_programming_error(error, "PIL"):
            raise
        raise SourceError(f"image {path} is damaged ({one_line(error)}); copy or export it again") from error
