"""Draws anti-aliased text from cached tiles, so that a label costs one small copy.

The typeface is the one embedded in Pillow: no font file is needed on the machine, and the output is the same
with every OpenCV. It has no superscripts and few symbols: those are drawn in
:mod:`streamseg.render.replay_panel`.
"""

from __future__ import annotations

import re
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from streamseg.core.types import Grey, Image

Colour = tuple[int, int, int]
"""Blue, green, red, each 0..255."""

CAP_HEIGHT = 0.70
"""Height of a capital letter or digit as a fraction of the text size."""
_DIGITS = "0123456789"
_RUNS = re.compile(r"[0-9]|[^0-9]+")


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _digit_width(size: int) -> float:
    return max(_font(size).getlength(digit) for digit in _DIGITS)


def _advance(character: str, size: int) -> float:
    # All digits have one width: figures that change many times a second must not jump sideways.
    return _digit_width(size) if character in _DIGITS else _font(size).getlength(character)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Width in pixels of a line of text of this size (pixels per em)."""
    return round(sum(_advance(character, size) for character in text)) + 2 * _stroke(size, bold)


def _stroke(size: int, bold: bool) -> int:
    return max(1, round(size / 40)) if bold else 0


@lru_cache(maxsize=1024)
def _coverage(text: str, size: int, bold: bool) -> Grey:
    """Coverage of each pixel by the letters, uint8 (height, width)."""
    stroke = _stroke(size, bold)
    # Room for accents above and descenders below, so that no letter of a source's name is cut off.
    above, below = round(size * 0.25), round(size * 0.3)
    height = above + round(size * CAP_HEIGHT) + below
    canvas = PillowImage.new("L", (text_width(text, size, bold=bold), height))
    draw = ImageDraw.Draw(canvas)
    x = float(stroke)
    for character in text:
        width = _advance(character, size)
        offset = (width - _font(size).getlength(character)) / 2
        draw.text(
            (x + offset, above + round(size * CAP_HEIGHT)),
            character,
            fill=255,
            font=_font(size),
            anchor="ls",
            stroke_width=stroke,
        )
        x += width
    return np.asarray(canvas)


@lru_cache(maxsize=1024)
def _tile(text: str, size: int, bold: bool, colour: Colour, background: Colour) -> Image:
    ink = _coverage(text, size, bold)[..., None].astype(np.float32) / 255
    tile = ink * np.asarray(colour, np.float32) + (1 - ink) * np.asarray(background, np.float32)
    return np.round(tile).astype(np.uint8)


def put_text(
    canvas: Image,
    text: str,
    x: int,
    baseline: int,
    size: int,
    *,
    colour: Colour,
    background: Colour,
    bold: bool = False,
    right: bool = False,
) -> int:
    """Write a line of text into a BGR canvas and return the x at which it ends.

    ``x`` is its left edge, or its right edge with ``right``; ``baseline`` is the row on which the letters
    stand; ``size`` is in pixels per em. The tile is opaque, so ``background`` must be the colour under it.
    What reaches beyond the canvas is cut off.
    """
    if not text:
        return x
    tile = _tile(text, size, bold, colour, background)
    height, width = tile.shape[:2]
    left = x - int(width) if right else x
    top = baseline - height + round(size * 0.3)
    from_x, from_y = max(0, -left), max(0, -top)
    room = canvas[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    room[:] = tile[from_y : from_y + room.shape[0], from_x : from_x + room.shape[1]]
    return left + int(width)


def put_changing(
    canvas: Image,
    text: str,
    x: int,
    baseline: int,
    size: int,
    *,
    colour: Colour,
    background: Colour,
    bold: bool = False,
    right: bool = False,
) -> int:
    """Write text whose digits change all the time: like :func:`put_text`, but digit by digit.

    Thousands of tiles of whole numbers would push everything else out of the cache.
    """
    edge = x - changing_width(text, size, bold=bold) if right else x
    for run in _RUNS.findall(text):
        put_text(canvas, run, edge, baseline, size, colour=colour, background=background, bold=bold)
        edge += text_width(run, size, bold=bold) - _stroke(size, bold)
    return edge + _stroke(size, bold)


def changing_width(text: str, size: int, *, bold: bool = False) -> int:
    """Width in pixels of a line written by :func:`put_changing`."""
    stroke = _stroke(size, bold)
    return sum(text_width(run, size, bold=bold) - stroke for run in _RUNS.findall(text)) + stroke


def fit_size(text: str, size: int, width: int, *, bold: bool = False) -> int:
    """The largest size up to ``size`` at which the text fits into ``width`` pixels; at least 6."""
    while size > 6 and text_width(text, size, bold=bold) > width:
        size -= 1
    return size


def to_bgr(image: Image) -> Image:
    """Convert to (height, width, 3) BGR; an image that is BGR already is returned as it is."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image  # type: ignore[return-value]
