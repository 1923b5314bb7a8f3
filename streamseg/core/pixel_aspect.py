"""The aspect of pixels that are not square, for sources and data sets alike."""

from __future__ import annotations

import math
from fractions import Fraction

from PIL import Image as Pillow

from streamseg.core.errors import UsageError
from streamseg.core.numbers import read_fraction
from streamseg.core.upright import orientation

_MAX_ASPECT = 4
"""Pixel aspects from 1/4 to 4 are believed; others are damage."""
_TOLERANCE = Fraction(1, 50)
"""Aspects within 2 % of 1 are left alone: encoders round, and a net does not notice."""


def believable_aspect(aspect: Fraction | None) -> Fraction:
    """Width of a pixel divided by its height; 1 if it is unknown, damaged or practically square."""
    if aspect is None or not Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return Fraction(1)
    return Fraction(1) if abs(aspect - 1) <= _TOLERANCE else aspect


def parse_aspect(text: str | None) -> Fraction | None:
    """Read ``16:15``, ``16/15`` or ``1.0667``, as FFmpeg writes it; None stays None. Raises UsageError."""
    if text is None:
        return None
    aspect = read_fraction(text.replace(":", "/"), 1 / _MAX_ASPECT, _MAX_ASPECT)
    if aspect is None:
        raise UsageError(
            f"sar is {text[:40]!r}; give width:height of a pixel from 1:4 to 4:1, such as 16:15, or 1:1"
        )
    return aspect


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height once pixels are square; ``aspect`` comes from :func:`believable_aspect`.

    The axis with the larger pixels is stretched, which loses no detail.
    """
    if aspect > 1:
        return round(width * aspect), height
    return width, round(height / aspect)


def aspect_of(picture: Pillow.Image) -> Fraction:
    """The believable aspect of an image file's pixels once it is upright.

    By its resolution (PNG pHYs, JFIF density, TIFF tags); the image was opened and not yet decoded or turned.
    """
    info = picture.info
    for across, down in (info.get(key, (0, 0)) for key in ("aspect", "jfif_density", "dpi", "resolution")):
        if across and down and across != down and math.isfinite(across) and math.isfinite(down):
            aspect = believable_aspect(Fraction(float(down) / float(across)).limit_denominator(1000))
            return 1 / aspect if orientation(picture) > 4 else aspect
    return Fraction(1)
