"""Measures activity on a screen: the pixels that look like ultrasound, and boxes around them.

Part of :mod:`streamseg.capture.screen.find`, which explains the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Grey, Image, Mask, Roi

Binary = npt.NDArray[np.uint8]
"""A mask of 0 and 1, shape of the frame."""
Profile = npt.NDArray[np.float64]
"""One number per row or column."""

_MAX_FRAMES = 30
_MIN_SHARE = 0.03  # of the frame that an image covers at least
_MAX_STILL = 24  # grey levels: no interface flickers by more
_FLAT_SHARE = 0.03  # of a digital grab that is exactly flat, at least
_DENSE = 0.5  # share of active pixels in a window of an image


@dataclass(frozen=True, slots=True)
class Sides:
    """A box by its sides; right and bottom are past the last pixel."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, height: int, width: int) -> Sides:
        """The part of the box that lies in a frame."""
        return Sides(max(0, self.left), max(0, self.top), min(width, self.right), min(height, self.bottom))

    def inside(self, height: int, width: int) -> Roi:
        """The box in a frame, with sides within two pixels of the frame's edge moved onto it."""
        left, top = (0 if side <= 2 else side for side in (self.left, self.top))
        right = width if self.right >= width - 2 else self.right
        bottom = height if self.bottom >= height - 2 else self.bottom
        return Roi(left, top, right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Per pixel, how the frames vary."""

    activity: Grey
    """Range of grey values in each pixel's 3x3 neighbourhood over all frames, (height, width)."""
    motion: Grey
    """Range of grey values of the pixel itself over all frames, (height, width); 0 for a single frame."""
    high: Grey
    """Largest grey value over all frames, (height, width)."""
    still: int
    """Largest activity of the flat interface, grey levels."""
    text: int
    """Maximum height of a line of text, pixels; odd."""

    @property
    def active(self) -> Mask:
        """Where there is more activity than the flat interface shows."""
        return self.activity > self.still


class Extremes:
    """The smallest and largest grey value of each pixel over some images, each uint8 (height, width)."""

    def __init__(self) -> None:
        self.count = 0
        self.low = self.high = np.zeros((0, 0), np.uint8)

    def add(self, image: Image) -> None:
        """Add an image, uint8 (H, W) or (H, W, 3)."""
        grey = _grey(np.ascontiguousarray(image))
        if self.count == 0:
            self.low = self.high = grey
        else:
            self.low, self.high = as_grey(cv2.min(self.low, grey)), as_grey(cv2.max(self.high, grey))
        self.count += 1

    def of_every(self, step: int) -> Extremes:
        """Those of every ``step``-th row and column."""
        found = Extremes()
        found.low, found.high = (np.ascontiguousarray(part[::step, ::step]) for part in (self.low, self.high))
        found.count = self.count
        return found

    def include(self, other: Extremes) -> None:
        """Add the images of others, of the same size."""
        self.add(other.low)
        self.add(other.high)


def gather(frames: Sequence[Image], text: int) -> Evidence:
    """The evidence in (at most 30 of) the frames, uint8 (height, width[, 3]) of one size."""
    seen = Extremes()
    for frame in frames[:: -(-len(frames) // _MAX_FRAMES)]:
        seen.add(frame)
    low, high = seen.low, seen.high
    activity = range_of(low, high)
    return Evidence(activity, as_grey(cv2.subtract(high, low)), high, _stillness(activity), text)


def range_of(low: Grey, high: Grey) -> Grey:
    """Range of grey values in each pixel's 3x3 neighbourhood, of the extremes over some frames."""
    square = np.ones((3, 3), np.uint8)
    return as_grey(cv2.subtract(cv2.dilate(high, square), cv2.erode(low, square)))


def as_grey(image: Any) -> Grey:
    """The same array, typed as uint8: OpenCV returns that, but its types do not say so."""
    return np.asarray(image, np.uint8)


def _grey(image: Image) -> Grey:
    return image if image.ndim == 2 else as_grey(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def _stillness(activity: Grey) -> int:
    """Largest activity of the flat interface: 1 on a digital grab, more under an analogue grabber's noise."""
    counts = np.bincount(activity[::2, ::2].ravel(), minlength=256) / activity[::2, ::2].size
    if counts[:2].sum() > _FLAT_SHARE:
        return 1
    peak = int(np.argmax(counts[:_MAX_STILL]))
    narrow = counts[peak // 2 : 2 * peak].sum() > 3 * counts[2 * peak : 4 * peak].sum()
    return 2 * peak if narrow else 1


def _solid(active: Mask, text: int) -> Binary:
    """Areas where most pixels are active, without anything thinner than ``text``."""
    window = max(3, text // 3 | 1)
    dense = cv2.boxFilter(active.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    # Padded, so that an image that touches the frame's edge is not opened away from it.
    mask = np.pad(np.asarray(dense) >= _DENSE, text, mode="edge").astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((text, text), np.uint8))
    return as_grey(opened)[text:-text, text:-text]


def active_area(seen: Evidence) -> Binary | None:
    """The largest solid active region, of motion alone where the image moves; None if there is none."""
    textured = _largest(_solid(seen.active, seen.text))
    if textured is None:
        return None
    near = as_grey(cv2.dilate(textured, np.ones((seen.text, seen.text), np.uint8)))
    elsewhere = seen.motion[near == 0]
    flicker = float(np.percentile(elsewhere[::3], 98)) if elsewhere.size > 100 else 0.0
    moved = seen.motion > min(max(flicker, seen.still + 1), _MAX_STILL)
    moving = _largest(_solid(moved, seen.text) & textured)
    if moving is not None and moving.sum() > 0.5 * textured.sum():
        return moving
    return textured


def _largest(mask: Binary) -> Binary | None:
    """The largest connected part of a mask with what it encloses, or None if it is too small."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[best, cv2.CC_STAT_AREA] < _MIN_SHARE * mask.size:
        return None
    outlines, _ = cv2.findContours(
        (labels == best).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return as_grey(cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED))


def with_black(area: Binary, seen: Evidence) -> Binary | None:
    """The area with the black that adjoins it, where that is an island on the screen; else None."""
    sides = bounds(area)
    within = seen.high[sides.top : sides.bottom : 2, sides.left : sides.right : 2]
    dark = (seen.high <= float(np.percentile(within, 3)) + 3).astype(np.uint8) | area
    square = np.ones((max(3, seen.text // 3 | 1),) * 2, np.uint8)
    dark = as_grey(cv2.morphologyEx(dark, cv2.MORPH_CLOSE, square))
    dark = as_grey(cv2.morphologyEx(dark, cv2.MORPH_OPEN, square)) | area
    _, labels = cv2.connectedComponents(dark)
    island: Binary = (labels == int(np.bincount(labels[area > 0]).argmax())).astype(np.uint8)
    edges = (
        (island[0], area[0]),
        (island[-1], area[-1]),
        (island[:, 0], area[:, 0]),
        (island[:, -1], area[:, -1]),
    )
    if any(of_island.any() and not of_area.any() for of_island, of_area in edges):
        return None
    return _largest(island)


def bounds(mask: Binary) -> Sides:
    """Bounding box of the mask, each side cut at the jump of the coverage."""
    # Rows of an image may well begin faintly and then jump (a fascia, a bone); columns may not.
    left, right = _span(mask.sum(axis=0, dtype=np.int64), before=0.6)
    top, bottom = _span(mask.sum(axis=1, dtype=np.int64), before=0.3)
    return Sides(left, top, right, bottom)


def _span(counts: npt.NDArray[np.int64], before: float) -> tuple[int, int]:
    """First and past-the-last index of a profile, without what sticks out of a straight edge."""
    share: Profile = counts / counts.max()
    return _edge(share, before), len(share) - _edge(share[::-1], before)


def _edge(share: Profile, before: float) -> int:
    """Start of a profile: its first jump by a third from below ``before``, else its first value above 0."""
    start = int(np.argmax(share > 0))
    part = np.concatenate([np.zeros(3), share[start : start + max(4, len(share) // 4)]])
    jump = part[3:] - part[:-3]
    steep = np.flatnonzero((jump > 0.35) & (part[:-3] < before))
    if not len(steep):
        return start
    first = int(steep[0])
    return max(start, start + first - 2 + int(np.argmax(np.diff(part[first : first + 6]))))
