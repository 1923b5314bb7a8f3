"""Size limits of frames, and frames with non-square pixels made square.

A net learns shapes with square pixels, and a length in millimetres has one scale only if pixels are square.
So every source delivers square pixels: PAL video of 720x576 with the aspect 16:15 comes as 768x576. The axis
with the larger pixels is stretched, which loses no detail.
"""

from __future__ import annotations

from fractions import Fraction

import cv2

from streamseg.core.errors import SourceError
from streamseg.core.pixel_aspect import believable_aspect, square_size
from streamseg.core.types import Image, Roi

MAX_IMAGE_PIXELS = 89_000_000
"""Pixels of a single image; above it Pillow, too, suspects a decompression bomb."""
MAX_FRAME_PIXELS = 17_000_000
"""Pixels of a frame of a video, cine or stream (5K has 15 million): decoders and pipelines hold several."""


def check_pixels(name: str, width: int, height: int, limit: int = MAX_FRAME_PIXELS) -> None:
    """Raise SourceError for a frame size that would take too much memory."""
    if width * height > limit:
        raise SourceError(
            f"{name} has frames of {width}x{height} pixels; the limit is {limit // 1_000_000} megapixels"
        )


def square_pixels(image: Image, aspect: Fraction | None, limit: int = MAX_FRAME_PIXELS) -> Image:
    """The image with square pixels, or itself if they are. Raises SourceError if it gets too large."""
    ratio = believable_aspect(aspect)
    if ratio == 1:
        return image
    height, width = image.shape[:2]
    size = square_size(width, height, ratio)
    check_pixels(f"an image with pixels of {float(ratio):.3g}:1", *size, limit)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def square_roi(roi: Roi, width: int, height: int, aspect: Fraction | None) -> Roi:
    """A rectangle of a frame of this size, in the frame with square pixels."""
    ratio = believable_aspect(aspect)
    new_width, new_height = square_size(width, height, ratio)
    left, right = (round(x * new_width / width) for x in (roi.x, roi.x + roi.width))
    top, bottom = (round(y * new_height / height) for y in (roi.y, roi.y + roi.height))
    return Roi(left, top, max(1, right - left), max(1, bottom - top))
