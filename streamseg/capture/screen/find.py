"""Finds the ultrasound image inside a grab of the machine's whole screen.

A user interface is flat: large areas of one grey, crossed by thin text and lines, and it does not move.
Speckle is textured everywhere, and it moves. So the evidence per pixel is its *activity*: the range of
grey values in its 3x3 neighbourhood over all frames, or, where the image moves, the range of the pixel
itself over time, to which no text contributes. From there on:

1. The *area* is the largest solid region of activity. Opening by a square larger than a line of text
   removes text, rulers, grey bars and traces.
2. Near the probe an image is bright, so there its sides are certain: parallel (linear probe) or
   diverging straight lines (sector, curved). Sides found there are continued into the depth.
3. Where depth has gone dark, the image is followed down along its sides (in polar coordinates for a
   fan) for as long as its black can be distinguished from its surroundings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamseg.capture.screen.activity import (
    Binary,
    Evidence,
    Profile,
    Sides,
    active_area,
    as_grey,
    bounds,
    gather,
    with_black,
)
from streamseg.core.types import Grey, Image, Mask, Roi

_MIN_SIDE = 32  # of a frame, pixels; smaller ones show too little
_MAX_PIXELS = 9_500_000
"""Larger frames (4K has 8.8 million pixels) are searched at a fraction of their size."""
_DIGITAL = 1  # maximum activity of a flat interface on a digital grab, grey levels
_TEXT_SHARE = 0.045  # of the frame's shorter side: taller than a line of text or a thick ruler
_FAINT = 0.12  # share of active pixels in a row of an image that has gone almost dark
_GRADUAL = 0.45  # coverage past a side, as a share of that before it, where the image fades
_STEP = 12  # grey levels: an image that goes dark does so by smaller steps
_MOSTLY = 0.8  # of a row's pixels
_OF_TYPICAL = 0.2  # of an image's median activity: more than a codec leaks over its edge
_MAX_RAYS = 1000
_RECTANGULAR = 0.85  # width near the top of a rectangle, as a share of its whole width


def find_region(frames: Sequence[Image]) -> Roi | None:
    """Rectangle of the ultrasound image (of a fan: its bounding box), or None if none is found.

    ``frames`` are uint8 (height, width) or (height, width, 3) BGR, all of one size, spread over a clip;
    one is enough; with more (up to 30 are used) moving speckle stands out from the still interface.
    A frame that is entirely image gives the whole frame. Does not raise on such frames.
    """
    if not len(frames) or min(frames[0].shape[:2]) < _MIN_SIDE:
        return None
    height, width = frames[0].shape[:2]
    factor = search_step(height, width)
    if factor > 1:
        size = width // factor, height // factor
        small = [as_grey(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) for frame in frames]
        found = find_region(small)
        return None if found is None else enlarged(found, factor, size, (width, height))
    seen = gather(frames, max(5, round(_TEXT_SHARE * min(height, width)) | 1))
    area = active_area(seen)
    if area is None and seen.still > _DIGITAL:
        # What seemed to be a grabber's noise was speckle all over the frame.
        seen = replace(seen, still=_DIGITAL)
        area = active_area(seen)
    if area is None:
        return None
    sides, whole = bounds(area), with_black(area, seen)
    wedge, rectangular = _shape(area, sides)
    if whole is not None:
        grown = bounds(whole)
        wedge_of_whole, whole_is_rectangular = _shape(whole, grown)
        # An image is bright at the top: black beyond its upper corners is a panel, not image.
        if whole_is_rectangular == rectangular and (wedge_of_whole or _keeps_top(sides, grown, seen.text)):
            sides, area, wedge = grown, whole, wedge_of_whole
    if wedge is not None:
        sides = _fan(wedge, area, sides, seen)
    elif rectangular:
        sides = _rectangle(sides, seen)
    return sides.inside(height, width)


def search_step(height: int, width: int) -> int:
    """The whole number by which frames of this size are reduced before they are searched; 1 up to 4K."""
    return math.ceil(math.sqrt(height * width / _MAX_PIXELS))


def enlarged(roi: Roi, factor: int, small: tuple[int, int], full: tuple[int, int]) -> Roi:
    """A region of a reduced frame in the full one (width, height); a side at the edge stays there."""
    right, bottom = (
        whole if near + length == reduced else (near + length) * factor
        for near, length, reduced, whole in zip(
            (roi.x, roi.y), (roi.width, roi.height), small, full, strict=True
        )
    )
    left, top = roi.x * factor, roi.y * factor
    return Roi(left, top, right - left, bottom - top)


def _shape(area: Binary, sides: Sides) -> tuple[_Wedge | None, bool]:
    """The straight sides of a fan, if it is one, and whether the area is a rectangle instead."""
    rows = area[sides.top : sides.top + max(4, (sides.bottom - sides.top) // 8), sides.left : sides.right]
    columns = np.flatnonzero(rows.any(axis=0))
    wide_top = len(columns) > 0 and columns[-1] - columns[0] >= _RECTANGULAR * (sides.right - sides.left)
    # A fan that is dark but for a shallow band at the probe has a wide top too: then its sides must be clear.
    wedge = _wedge(area, sides, 0.7 if wide_top else 0.4)
    return wedge, wide_top and wedge is None


def _keeps_top(one: Sides, other: Sides, text: int) -> bool:
    """Whether the other box extends beyond the first one's left, top and right by little or not at all."""
    return max(one.left - other.left, one.top - other.top, other.right - one.right) < text


def _rectangle(sides: Sides, seen: Evidence, gap: int = 3) -> Sides:
    """The sides of a linear probe's image, to the pixel, followed down into the dark.

    The interface is expected ``gap`` pixels to the left and right of the image.
    """
    box = slice(sides.top, sides.bottom), slice(sides.left, sides.right)
    strong = seen.activity > max(seen.still, _OF_TYPICAL * float(np.median(seen.activity[box])))
    columns, rows = strong[box[0]].mean(axis=0), strong[:, box[1]].mean(axis=1)
    left, top = _sharpen(columns, sides.left, seen.text), _sharpen(rows, sides.top, seen.text)
    right = len(columns) - _sharpen(columns[::-1], len(columns) - sides.right, seen.text)
    bottom = len(rows) - _sharpen(rows[::-1], len(rows) - sides.bottom, seen.text)
    if right - left < 8 or bottom - top < 8:
        return sides
    near = max(0, left - gap), right + gap
    flank = max(4, (right - left) // 16)
    beside = [seen.high[:, max(0, near[0] - flank) : near[0]], seen.high[:, near[1] : near[1] + flank]]
    bottom = _fades_at(seen.active[:, left:right].mean(axis=1), bottom, seen.text)
    return Sides(left, top, right, _end_of_dark(seen.high[:, left:right], beside, bottom))


def _sharpen(covered: Profile, side: int, text: int) -> int:
    """The side moved, by at most ``text``, to where coverage of single pixels halves, from inside out."""
    inner = covered[side + text : side + 4 * text]
    level = float(np.median(inner)) if len(inner) else 0.0
    if level < 0.2:
        return side
    first = max(0, side - text)
    beyond = np.flatnonzero(covered[first : side + text] < 0.5 * level)
    return first + int(beyond[-1]) + 1 if len(beyond) else first


def _fades_at(covered: Profile, bottom: int, text: int) -> int:
    """The row past the last with faint activity, where it fades out gradually; else ``bottom``.

    Below a sharp end there are texts, buttons and what their compression leaves around them.
    """
    above, below = covered[max(0, bottom - text) : bottom - text // 3], covered[bottom + text // 3 :][:text]
    if not len(above) or not len(below) or np.median(below) <= _GRADUAL * np.median(above):
        return bottom
    return bottom + _lasts(covered[bottom:] >= _FAINT)


def _end_of_dark(inside: Grey, beside: Sequence[Grey], bottom: int) -> int:
    """The row past the last, below ``bottom``, whose grey is not that of the interface beside it.

    ``inside`` (rows, columns) holds the columns of the image, ``beside`` those to its left and right. Where
    it fills the frame's width, it is the row past the last of an even black that ends before the frame does.
    """
    beside = [part for part in beside if part.shape[1]]
    begin = bottom + 2
    if bottom < 8 or begin + 8 >= len(inside):
        return bottom
    level = np.median(inside[begin:], axis=1)
    if np.median(inside[bottom - 8 : bottom - 3]) > np.median(level[:4]) + _STEP:
        return bottom  # an image that is still bright ends here, it does not go dark
    if beside:
        flanks = [np.median(part[begin:], axis=1) for part in beside]
        differs = [(np.abs(inside[begin:] - flank[:, None]) >= 2).mean(axis=1) > _MOSTLY for flank in flanks]
        goes_on = np.all(differs, axis=0) | np.all([np.abs(level - flank) >= 1 for flank in flanks], axis=0)
    else:
        goes_on = np.asarray(np.abs(level - np.median(level[:4])) <= 1)
    lasts = _lasts(goes_on)
    if begin + lasts == len(inside):
        return len(inside) if beside else bottom
    return begin + lasts if lasts > 4 else bottom


def _lasts(goes_on: Mask) -> int:
    """Number of rows until three in a row are False (grey levels cross beside a text, for a row or two)."""
    ends = np.flatnonzero(np.convolve(goes_on, np.ones(3), mode="full")[2:] == 0)
    return int(ends[0]) if len(ends) else len(goes_on)


@dataclass(frozen=True, slots=True)
class _Wedge:
    """The two straight sides of a fan: where they meet, and the angle of each from the vertical, radians."""

    x: float
    y: float
    half: float

    def polar(self, image: Grey, radii: Profile, angles: Profile, *, outside: int) -> Grey:
        """The image along rays: a row per radius (pixels), a column per angle (radians from the vertical)."""
        x = self.x + radii[:, None] * np.sin(angles)[None]
        y = self.y + radii[:, None] * np.cos(angles)[None]
        maps = x.astype(np.float32), y.astype(np.float32)
        return as_grey(cv2.remap(image, *maps, cv2.INTER_NEAREST, borderMode=outside, borderValue=0))


def _wedge(area: Binary, sides: Sides, needed: float) -> _Wedge | None:
    """The straight, symmetric, diverging sides on which most of the area's left and right outline lies.

    None where less than ``needed`` (a share of the area's rows) lies on any, or more on upright sides.
    """
    rows = np.flatnonzero(area.any(axis=1))
    left = area[rows].argmax(axis=1).astype(np.float64)
    right = area.shape[1] - 1.0 - area[rows, ::-1].argmax(axis=1)
    slack = max(2.0, 0.008 * (sides.right - sides.left))
    halves = np.radians([0, *np.arange(14, 75, 0.5)])
    slopes = np.tan(halves)[:, None]
    # Offsets of both outlines from lines of these slopes; the outermost one touches the fan's side.
    of_left, of_right = left + slopes * rows, right - slopes * rows
    near = slack * (1 + slopes)
    touches_left = of_left < of_left.min(axis=1, keepdims=True) + near
    touches_right = of_right > of_right.max(axis=1, keepdims=True) - near
    on_left, on_right = touches_left.sum(axis=1), touches_right.sum(axis=1)
    # One side may be darker than the other.
    support = np.minimum(on_left + on_right, 4 * np.minimum(on_left, on_right))
    best = int(np.argmax(support))
    if best == 0 or support[best] <= needed * len(rows):
        return None
    from_left = float(np.median(of_left[best][touches_left[best]]))
    from_right = float(np.median(of_right[best][touches_right[best]]))
    apex = (from_left - from_right) / (2 * float(slopes[best, 0]))
    return _Wedge((from_left + from_right) / 2, apex, float(halves[best]))


def _fan(wedge: _Wedge, area: Binary, sides: Sides, seen: Evidence) -> Sides:
    """The bounding box of a fan, a rectangle in polar coordinates: includes its dark corners."""
    height, width = area.shape
    radii = np.arange(max(0.0, 0.6 * (sides.top - wedge.y)), height - wedge.y)
    count = min(_MAX_RAYS, max(64, round(2 * wedge.half * (sides.bottom - wedge.y))))
    angles = np.linspace(-1.4, 1.4, count) * wedge.half
    middle = angles[np.abs(angles) < 0.7 * wedge.half]
    lit = wedge.polar(area, radii, middle, outside=cv2.BORDER_CONSTANT)
    near = int(np.median(lit.argmax(axis=0)))
    far = int(np.percentile(len(lit) - lit[::-1].argmax(axis=0), 80))
    if far - near < 16:
        return sides
    first, last = (int(index) for index in np.searchsorted(angles, [-wedge.half, wedge.half]))
    unrolled = replace(
        seen,
        activity=wedge.polar(seen.activity, radii, angles, outside=cv2.BORDER_CONSTANT),
        high=wedge.polar(seen.high, radii, angles, outside=cv2.BORDER_REPLICATE),
    )
    # The angles are less certain than a rectangle's sides: look for the interface further out.
    found = _rectangle(Sides(first, near, last, far), unrolled, gap=(last - first) // 24)
    together = _ends_together(unrolled.high[:, found.left : found.right], found.bottom)
    radius = radii[0] + (found.bottom if together else min(far, found.bottom))
    half = (angles[found.right - 1] - angles[found.left]) / 2
    exact = replace(wedge, half=float(half))
    return _around(exact, radii[0] + found.top, radius, sides, seen.text).cut(height, width)


def _around(wedge: _Wedge, near: float, far: float, sides: Sides, text: int) -> Sides:
    """The box around a fan; ``sides`` replace those of its sides that fall far short of them."""
    across = far * float(np.sin(wedge.half))
    left, right = wedge.x - across, wedge.x + across + 1
    top, bottom = wedge.y + near * float(np.cos(wedge.half)), wedge.y + far
    return Sides(
        round(left) if left < sides.left + text else sides.left,
        round(min(max(top, sides.top - text), sides.top + text)),
        round(right) if right > sides.right - text else sides.right,
        round(bottom) if bottom > sides.bottom - text else sides.bottom,
    )


def _ends_together(unrolled: Grey, end: int) -> bool:
    """Whether a fan's grey changes at this radius in the middle and at the sides; a panel's edge does not."""
    off_axis = np.abs(np.arange(unrolled.shape[1]) - unrolled.shape[1] / 2)
    before, after = unrolled[max(0, end - 4) : end - 1], unrolled[end + 1 : end + 4]
    return len(after) > 0 and all(
        abs(float(np.median(before[:, of])) - float(np.median(after[:, of]))) >= 1
        for of in np.array_split(np.argsort(off_axis), 2)
    )
