"""Finds the ultrasound image inside a grab of the machine's whole screen.

A user interface is flat: large areas of one grey, crossed by thin text and lines, and it stands still.
Speckle is textured everywhere, and it moves. So the evidence per pixel is its *activity*: the range of
grey values in its 3x3 neighbourhood over all frames, or, where the image moves, the range of the pixel
itself over time, to which no text contributes. From there on:

1. The *area* is the largest solid region of activity. Opening by a square larger than a line of text
   removes text, rulers, grey bars and traces.
2. Near the probe an image is bright, so there its sides are certain: parallel (linear probe) or
   diverging straight lines (sector, curved). Sides found there are continued into the depth.
3. Where depth has gone dark, the image is followed down along its sides (in polar coordinates for a
   fan) for as long as its black is told apart from what lies beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.types import Grey, Image, Roi

_Binary = npt.NDArray[np.uint8]  # 0 or 1, shape of the frame
_Profile = npt.NDArray[np.float64]

_MOST_FRAMES = 30
_SMALLEST_SIDE = 32  # of a frame, pixels; nothing can be told from less
_SMALLEST_SHARE = 0.03  # of the frame that an image covers at least
_TEXT_SHARE = 0.045  # of the frame's shorter side: taller than a line of text or a thick ruler
_LOUDEST_STILL = 24  # grey levels: no interface flickers by more
_FLAT_SHARE = 0.03  # of a digital grab that is exactly flat, at least
_DENSE = 0.5  # share of active pixels in a window of an image
_FAINT = 0.12  # share of active pixels in a row of an image that has gone almost dark
_GRADUAL = 0.45  # coverage past a side, as a share of that before it, where the image fades
_MOSTLY = 0.8  # of a row's pixels
_OF_TYPICAL = 0.2  # of an image's median activity: more than a codec leaks over its edge
_RECTANGULAR = 0.85  # width near the top of a rectangle, as a share of its whole width


def find_region(frames: Sequence[Image]) -> Roi | None:
    """Rectangle of the ultrasound image (of a fan: its bounding box), or None where none is found.

    ``frames`` are uint8 (height, width) or (height, width, 3) BGR, all of one size, spread over a clip;
    one is enough, more (up to 30 are looked at) tell moving speckle from the still interface.
    A frame that is image all over gives the whole frame. Does not raise on such frames.
    """
    if not len(frames) or min(frames[0].shape[:2]) < _SMALLEST_SIDE:
        return None
    low, high = _extremes(frames)
    height, width = high.shape
    text = max(5, round(_TEXT_SHARE * min(height, width)) | 1)
    activity = _range3(low, high)
    still = _stillness(activity)
    area = _area(activity, cv2.subtract(high, low), still, text)  # type: ignore[arg-type]
    if area is None:
        return None
    sides = _bounds(area)
    rectangular = _is_rectangular(area, sides)
    whole = _with_black(area, high, text)
    if whole is not None and _is_rectangular(whole, _bounds(whole)) == rectangular:
        grown = _bounds(whole)
        # An image is bright at the top: black that goes beyond its upper corners is a panel behind it.
        if not rectangular or _keeps_top(sides, grown, text):
            area, sides = whole, grown
    sides = _rectangle(sides, activity, still, high, text) if rectangular else _fan(area, sides, activity, still, high, text)
    return sides.inside(height, width)


@dataclass(frozen=True, slots=True)
class _Sides:
    """A box by its sides; right and bottom are past the last pixel."""

    left: int
    top: int
    right: int
    bottom: int

    def inside(self, height: int, width: int) -> Roi:
        """The box in a frame, with sides within two pixels of the frame's edge moved onto it."""
        left, top = (0 if side <= 2 else side for side in (self.left, self.top))
        right = width if self.right >= width - 2 else self.right
        bottom = height if self.bottom >= height - 2 else self.bottom
        return Roi(left, top, right - left, bottom - top)


def _extremes(frames: Sequence[Image]) -> tuple[Grey, Grey]:
    """Smallest and largest grey value of every pixel over (at most 30 of) the frames."""
    step = -(-len(frames) // _MOST_FRAMES)
    low = high = _grey(frames[0])
    for frame in frames[step::step]:
        grey = _grey(frame)
        low, high = cv2.min(low, grey), cv2.max(high, grey)  # type: ignore[assignment]
    return low, high


def _grey(image: Image) -> Grey:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def _range3(low: Grey, high: Grey) -> Grey:
    """Range of grey values in each pixel's 3x3 neighbourhood over all frames."""
    square = np.ones((3, 3), np.uint8)
    return cv2.subtract(cv2.dilate(high, square), cv2.erode(low, square))  # type: ignore[return-value]


def _stillness(activity: Grey) -> int:
    """Largest activity of the flat interface: 1 on a digital grab, more under an analogue grabber's noise."""
    counts = np.bincount(activity[::2, ::2].ravel(), minlength=256) / activity[::2, ::2].size
    if counts[:2].sum() > _FLAT_SHARE:
        return 1
    peak = int(np.argmax(counts[:_LOUDEST_STILL]))
    narrow = counts[peak // 2 : 2 * peak].sum() > 3 * counts[2 * peak : 4 * peak].sum()
    return 2 * peak if narrow else 1


def _solid(active: npt.NDArray[np.bool_], text: int) -> _Binary:
    """Areas where most pixels are active, without anything thinner than ``text``."""
    window = max(3, text // 3 | 1)
    dense = cv2.boxFilter(active.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    mask = (dense >= _DENSE).astype(np.uint8)
    # Padded, so that an image that touches the frame's edge is not opened away from it.
    mask = cv2.copyMakeBorder(mask, text, text, text, text, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((text, text), np.uint8))  # type: ignore[assignment]
    return mask[text:-text, text:-text]


def _area(activity: Grey, motion: Grey, still: int, text: int) -> _Binary | None:
    """The largest solid active region, of motion alone where the image moves; None where there is none."""
    textured = _largest(_solid(activity > still, text))
    if textured is None:
        return None
    elsewhere = motion[cv2.dilate(textured, np.ones((text, text), np.uint8)) == 0]
    flicker = float(np.percentile(elsewhere[::3], 98)) if elsewhere.size > 100 else 0.0
    moving = _largest(_solid(motion > np.clip(flicker, still + 1, _LOUDEST_STILL), text) & textured)
    if moving is not None and moving.sum() > 0.5 * textured.sum():
        return moving
    return textured


def _largest(mask: _Binary) -> _Binary | None:
    """The largest connected part of a mask with what it encloses, or None where it is too small."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[best, cv2.CC_STAT_AREA] < _SMALLEST_SHARE * mask.size:
        return None
    outlines, _ = cv2.findContours((labels == best).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED)  # type: ignore[return-value]


def _bounds(mask: _Binary) -> _Sides:
    """Bounding box of the mask, each side cut where the coverage jumps."""
    # Rows of an image may well begin faintly and then jump (a fascia, a bone); columns may not.
    left, right = _span(mask.sum(axis=0, dtype=np.int64), before=0.6)
    top, bottom = _span(mask.sum(axis=1, dtype=np.int64), before=0.3)
    return _Sides(left, top, right, bottom)


def _span(counts: npt.NDArray[np.int64], before: float) -> tuple[int, int]:
    """First and past-the-last index of a profile, without what sticks out of a straight edge."""
    share: _Profile = counts / counts.max()
    return _edge(share, before), len(share) - _edge(share[::-1], before)


def _edge(share: _Profile, before: float) -> int:
    """Where a profile begins: where it jumps by a third from less than ``before``, else where it is not 0."""
    start = int(np.argmax(share > 0))
    part = np.concatenate([np.zeros(3), share[start : start + max(4, len(share) // 4)]])
    jump = part[3:] - part[:-3]
    steep = np.flatnonzero((jump > 0.35) & (part[:-3] < before))
    if not len(steep):
        return start
    first = int(steep[0])
    return max(start, start + first - 2 + int(np.argmax(np.diff(part[first : first + 6]))))


def _is_rectangular(area: _Binary, sides: _Sides) -> bool:
    """Whether the area is about as wide in its uppermost eighth as in all."""
    rows = area[sides.top : sides.top + max(4, (sides.bottom - sides.top) // 8), sides.left : sides.right]
    columns = np.flatnonzero(rows.any(axis=0))
    return len(columns) > 0 and columns[-1] - columns[0] >= _RECTANGULAR * (sides.right - sides.left)


def _keeps_top(one: _Sides, other: _Sides, text: int) -> bool:
    """Whether the other box reaches beyond the one's left, top and right by little or not at all."""
    return max(one.left - other.left, one.top - other.top, other.right - one.right) < text


def _with_black(area: _Binary, high: Grey, text: int) -> _Binary | None:
    """The area with the black that adjoins it, where that is an island on the screen; else None."""
    sides = _bounds(area)
    level = float(np.percentile(high[sides.top : sides.bottom, sides.left : sides.right][::2, ::2], 3))
    dark: _Binary = (high <= level + 3).astype(np.uint8) | area
    closing = np.ones((max(3, text // 3 | 1),) * 2, np.uint8)
    dark = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, closing)  # type: ignore[assignment]
    dark = cv2.morphologyEx(dark, cv2.MORPH_OPEN, closing) | area  # type: ignore[assignment]
    _, labels = cv2.connectedComponents(dark)
    inner = labels[area > 0]
    island: _Binary = (labels == int(np.bincount(inner).argmax())).astype(np.uint8)
    edges = ((island[0], area[0]), (island[-1], area[-1]), (island[:, 0], area[:, 0]), (island[:, -1], area[:, -1]))
    if any(of_island.any() and not of_area.any() for of_island, of_area in edges):
        return None
    return _largest(island)


def _rectangle(sides: _Sides, activity: Grey, still: int, high: Grey, text: int) -> _Sides:
    """The sides of a linear probe's image, to the pixel, followed down into the dark."""
    box = slice(sides.top, sides.bottom), slice(sides.left, sides.right)
    strong = activity > max(still, _OF_TYPICAL * float(np.median(activity[box])))
    columns, rows = strong[box[0]].mean(axis=0), strong[:, box[1]].mean(axis=1)
    left, top = _sharpen(columns, sides.left, text), _sharpen(rows, sides.top, text)
    right = len(columns) - _sharpen(columns[::-1], len(columns) - sides.right, text)
    bottom = len(rows) - _sharpen(rows[::-1], len(rows) - sides.bottom, text)
    if right - left < 8 or bottom - top < 8:
        return sides
    flank = max(4, (right - left) // 16)
    beside = high[:, max(0, left - 3 - flank) : max(0, left - 3)], high[:, right + 3 : right + 3 + flank]
    dim = activity[:, left:right] > still
    return _Sides(left, top, right, _deepest(high[:, left:right], dim, beside, bottom, text))


def _sharpen(covered: _Profile, side: int, text: int) -> int:
    """The side moved, by at most ``text``, to where coverage of single pixels halves, from inside out."""
    inner = covered[side + text : side + 4 * text]
    level = float(np.median(inner)) if len(inner) else 0.0
    if level < 0.2:
        return side
    first = max(0, side - text)
    beyond = np.flatnonzero(covered[first : side + text] < 0.5 * level)
    return first + int(beyond[-1]) + 1 if len(beyond) else first


def _deepest(inside: Grey, dim: npt.NDArray[np.bool_], beside: Sequence[Grey], bottom: int, text: int) -> int:
    """The row past the image's last: below ``bottom`` while there is faint activity, or a grey of its own.

    ``inside`` and ``dim`` (rows, columns) hold the columns of the image, ``beside`` those to its left and
    to its right (each may have none), where the interface shows.
    """
    covered = dim.mean(axis=1)
    above, below = covered[max(0, bottom - text) : bottom - text // 3], covered[bottom + text // 3 : bottom + text]
    # Only a gradual end is followed: below a sharp one there are texts, buttons and their compression.
    if len(above) and len(below) and np.median(below) > _GRADUAL * np.median(above):
        bottom += _lasts(covered[bottom:] >= _FAINT)
    return _end_of_dark(inside, [part for part in beside if part.shape[1]], bottom)


def _end_of_dark(inside: Grey, beside: Sequence[Grey], bottom: int) -> int:
    """The row past the last, below ``bottom``, whose grey is not that of the interface beside it.

    Without anything beside, it is the row past the last of an even black that ends before the frame does.
    """
    begin = bottom + 2
    if bottom < 8 or begin + 8 >= len(inside):
        return bottom
    level = np.median(inside[begin:], axis=1)
    if beside:
        flanks = [np.median(part[begin:], axis=1) for part in beside]
        differs = [(np.abs(inside[begin:] - flank[:, None]) >= 2).mean(axis=1) > _MOSTLY for flank in flanks]
        goes_on = np.all(differs, axis=0) | np.all([np.abs(level - flank) >= 1 for flank in flanks], axis=0)
    else:
        goes_on = np.abs(level - np.median(level[:4])) <= 1
    lasts = _lasts(goes_on)
    if begin + lasts == len(inside):
        return len(inside) if beside else bottom
    return begin + lasts if lasts > 4 else bottom


def _lasts(goes_on: npt.NDArray[np.bool_]) -> int:
    """How many rows it goes on for; two rows without (grey levels cross beside a text) do not end it."""
    ends = np.flatnonzero(np.convolve(goes_on, np.ones(3), mode="full")[2:] == 0)
    return int(ends[0]) if len(ends) else len(goes_on)


@dataclass(frozen=True, slots=True)
class _Wedge:
    """The two straight sides of a fan: where they meet, and the angle of each from the vertical, radians."""

    x: float
    y: float
    half: float

    def polar(self, image: Grey, depth: int, angles: _Profile, *, outside: int) -> Grey:
        """The image along rays: a row per pixel of radius, a column per angle (radians from the vertical)."""
        radius, angle = np.arange(depth)[:, None], angles[None]
        x, y = self.x + radius * np.sin(angle), self.y + radius * np.cos(angle)
        x, y = x.astype(np.float32), y.astype(np.float32)
        return cv2.remap(image, x, y, cv2.INTER_NEAREST, borderMode=outside, borderValue=0)  # type: ignore[return-value]


def _wedge(area: _Binary, sides: _Sides) -> _Wedge | None:
    """The straight, symmetric sides that most of the area's left and right outline lies on; None without."""
    rows = np.flatnonzero(area.any(axis=1))
    left = area[rows].argmax(axis=1).astype(np.float64)
    right = area.shape[1] - 1.0 - area[rows, ::-1].argmax(axis=1)
    slack = max(2.0, 0.008 * (sides.right - sides.left))
    best, found = 0, None
    for half in np.radians(np.arange(8, 75, 0.5)):
        slope = np.tan(half)
        # Offsets of both outlines from a line of this slope; the outermost one touches the fan's side.
        of_left, of_right = left + slope * rows, right - slope * rows
        touching = of_left < of_left.min() + slack * (1 + slope), of_right > of_right.max() - slack * (1 + slope)
        of_sides = int(touching[0].sum()), int(touching[1].sum())
        support = min(sum(of_sides), 4 * min(of_sides))  # one side may be darker than the other
        if support > best:
            meet_left, meet_right = float(np.median(of_left[touching[0]])), float(np.median(of_right[touching[1]]))
            apex = (meet_left - meet_right) / (2 * slope)
            best, found = support, _Wedge((meet_left + meet_right) / 2, apex, float(half))
    return found if best >= 0.4 * len(rows) else None


def _fan(area: _Binary, sides: _Sides, activity: Grey, still: int, high: Grey, text: int) -> _Sides:
    """The bounding box of a fan, which is a rectangle in polar coordinates: dark corners are drawn in."""
    wedge = _wedge(area, sides)
    if wedge is None:
        return sides
    depth = int(np.ceil(high.shape[0] - wedge.y))
    angles = np.linspace(-1.4, 1.4, max(64, round(2 * wedge.half * (sides.bottom - wedge.y)))) * wedge.half
    lit = wedge.polar(area, depth, angles, outside=cv2.BORDER_CONSTANT)[:, np.abs(angles) < 0.7 * wedge.half]
    near = int(np.median(lit.argmax(axis=0)))
    far = int(np.percentile(depth - lit[::-1].argmax(axis=0), 80))
    if far - near < 16:
        return sides
    first, last = np.searchsorted(angles, [-wedge.half, wedge.half])
    seen = _Sides(int(first), near, int(last), far)
    straight = wedge.polar(high, depth, angles, outside=cv2.BORDER_REPLICATE)
    found = _rectangle(seen, wedge.polar(activity, depth, angles, outside=cv2.BORDER_CONSTANT), still, straight, text)
    depth = found.bottom if _ends_together(straight[:, found.left : found.right], found.bottom) else min(far, found.bottom)
    half = (angles[found.right - 1] - angles[found.left]) / 2
    across, bottom, top = depth * np.sin(half), wedge.y + depth, wedge.y + found.top * np.cos(half)
    left, right = wedge.x - across, wedge.x + across + 1
    # What the model says holds where it goes beyond what was seen, or stays short of it by little.
    return _Sides(
        round(max(0, left if left < sides.left + text else sides.left)),
        round(min(max(top, sides.top - text, 0), sides.top + text)),
        round(min(high.shape[1], right if right > sides.right - text else sides.right)),
        round(min(high.shape[0], bottom if bottom > sides.bottom - text else sides.bottom)),
    )


def _ends_together(straight: Grey, end: int) -> bool:
    """Whether a fan's grey changes at this radius in the middle and on both sides: a panel's lower edge does not."""
    middle, outer = np.array_split(np.argsort(np.abs(np.arange(straight.shape[1]) - straight.shape[1] / 2)), 2)
    before, after = straight[max(0, end - 4) : end - 1], straight[end + 1 : end + 4]
    return len(after) == 0 or all(
        abs(float(np.median(before[:, of])) - float(np.median(after[:, of]))) >= 1 for of in (middle, outer)
    )
