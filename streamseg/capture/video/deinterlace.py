"""Deinterlaces a frame from one of its two fields, without waiting for another frame.

An interlaced frame holds two fields, half a frame interval apart: its even lines and its odd lines. Motion
shows as combs. Here one field is kept and the lines between are interpolated.

Filters over several frames (yadif, bwdif, w3fdif, ...) keep more detail where nothing moves. But they need
the next frame, a delay that a display for guidance cannot afford, and their mistakes show tissue of two
moments in one frame. A net with 192 to 256 rows uses no more than the 240 or 288 lines of a field anyway.
"""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.core.types import Image


def deinterlace(image: Image, *, odd: bool = False) -> Image:
    """Keep one field of a frame and interpolate the other; a new array of the same shape.

    Keeps the lines 0, 2, 4, ..., with ``odd`` the lines 1, 3, 5, ... A line between two kept ones is their
    rounded mean; a line at the edge copies its neighbour. ``image`` is uint8 (height, width) or
    (height, width, 3), of any height; a single line stays as it is.
    """
    first = int(odd and len(image) > 1)
    return _filled(image[first::2], len(image), first)


def deinterlace_sequential(image: Image, *, odd: bool = False) -> Image:
    """Deinterlace a frame that stores one field above the other, the older one first.

    Keeps the lower half, as the lines 0, 2, 4, ... of the whole frame, with ``odd`` the lines
    1, 3, 5, ... ``image`` has an even number of lines, 2 or more.
    """
    return _filled(image[len(image) // 2 :], len(image), int(odd))


def _filled(field: Image, height: int, first: int) -> Image:
    """A frame of ``height`` lines whose every other line, from ``first`` on, comes from the field."""
    whole = np.empty((height, *field.shape[1:]), np.uint8)
    whole[first::2] = field
    between = whole[first + 1 : height - 1 : 2]
    cv2.addWeighted(field[: len(between)], 0.5, field[1 : len(between) + 1], 0.5, 0, dst=between)
    if first:
        whole[0] = field[0]
    if (height - first) % 2 == 0:
        whole[-1] = field[-1]
    return whole
