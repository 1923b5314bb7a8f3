"""Notices when the ultrasound image moves on the machine's screen, or leaves it.

A preset, a dual view or another depth changes the place of the image while frames keep their size. Small
copies of a few frames are enough to see that: a coarse grid of their brightness and activity is compared with
that of the place that is known, which costs well under a millisecond, and only if enough of it has changed is
the image searched for again, first in the small copies.

An image that goes dark is not one that moved: half of it is black while half of the probe has no contact, and
its lower end is uncertain anyway. So the lower side counts only if the image grows, and an image that becomes
smaller has moved only if it did so on both sides, if its surroundings have changed, or if it ends at an edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.capture.screen.activity import Extremes, range_of
from streamseg.capture.screen.find import find_region
from streamseg.core.types import Grey, Image, Roi

SMALL_SIDE = 270
"""The shorter side of the small copies is about this long: enough for speckle, and for a line of text."""
SAMPLE_EVERY_NS = 100_000_000
WINDOW_NS, MIN_SAMPLES = 380_000_000, 2
"""One comparison takes the frames of this time."""
CONFIRMATIONS = 2
"""Comparisons in a row that must agree."""
VERIFY_EVERY_NS, VERIFY_SAMPLES = 50_000_000, 4
"""Whole frames from which the new place is measured."""
SIDE_TOLERANCE = 0.06
"""Share of the width or height by which a side may move without the image having moved."""
GROWTH_TOLERANCE = 0.12
"""The same for a lower side that moves down."""
_GRID = 32, 18
_ACTIVE = 6
"""Minimum activity in grey levels: less may be compression."""
_CHANGED_CELLS = 0.015
"""Share of the grid's cells whose change is worth a search."""
_CHANGED_ACTIVITY, _CHANGED_GREY = 0.35, 12
_SURROUNDINGS = 0.04
"""Share of changed cells around an image that means another layout: more than a clock and a ruler."""
_GONE = 0.1
"""Share of all cells whose change means that the image is gone, and not only dark."""
_BRIGHTER = 25


@dataclass(frozen=True, slots=True)
class _Grid:
    """Means over coarse cells of the screen, each float32 (rows, columns)."""

    activity: npt.NDArray[np.float32]
    """Share of active pixels, 0..1."""
    grey: npt.NDArray[np.float32]

    @classmethod
    def of(cls, low: Grey, high: Grey) -> _Grid:
        active = (range_of(low, high) > _ACTIVE).astype(np.float32)
        return cls(_cells(active), _cells(high.astype(np.float32)))

    def changed(self, other: _Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Cells that differ; those ``inside`` the image by their activity: tissue changes its grey."""
        found: npt.NDArray[np.bool_] = np.abs(self.activity - other.activity) > _CHANGED_ACTIVITY
        found |= ~inside & (np.abs(self.grey - other.grey) > _CHANGED_GREY)
        return found


class LayoutWatch:
    """Tracks the image's region in frames of one size. For one thread, frames in order."""

    def __init__(self, region: Roi, image: Image) -> None:
        """``region`` was found in frames of the size of ``image``."""
        self.region: Roi | None = region
        """The image's current region; None while it is gone."""
        self.searches = 0
        """Number of searches so far."""
        height, width = image.shape[:2]
        self._size = height, width
        self._factor = factor_of(height, width)
        self._place = region
        self._usual: _Grid | None = None
        self._window = Extremes()
        self._began_ns = self._due_ns = 0
        self._seen: Roi | None = None
        self._times = self._gone_times = 0
        self._verifying: Extremes | None = None

    def update(self, image: Image, now_ns: int) -> Roi | None:
        """Process a frame; returns the image's region in it, or None if the image is gone."""
        if now_ns < self._due_ns - 10 * SAMPLE_EVERY_NS:
            self._due_ns = 0  # the clock was set back
        if now_ns < self._due_ns:
            return self.region
        if self._verifying is not None:
            self._due_ns = now_ns + VERIFY_EVERY_NS
            self._verifying.add(image)
            if self._verifying.count >= VERIFY_SAMPLES:
                self._verify(self._verifying)
            return self.region
        self._due_ns = now_ns + SAMPLE_EVERY_NS
        if self._window.count == 0 or now_ns - self._began_ns > 4 * WINDOW_NS:
            self._window, self._began_ns = Extremes(), now_ns
        self._window.add(image[:: self._factor, :: self._factor])
        if now_ns - self._began_ns >= WINDOW_NS - SAMPLE_EVERY_NS and self._window.count >= MIN_SAMPLES:
            window, self._window = self._window, Extremes()
            self._compare(window)
        return self.region

    def _compare(self, window: Extremes) -> None:
        """Compare the frames of a window with the usual layout, and search if too much has changed."""
        now = _Grid.of(window.low, window.high)
        if self._usual is None:
            self._usual = now
            return
        inside = self._cells_of(self._place)
        changed = now.changed(self._usual, inside)
        if changed.mean() < _CHANGED_CELLS and self.region is not None:
            self._keep(now)
            return
        self.searches += 1
        found = find_small(window, self._factor, self._size)
        if found is None:
            self._times = 0
            self._gone_times += 1
            if self._gone_times >= CONFIRMATIONS and self._is_gone(now, changed, inside):
                self.region = None
            return
        self._gone_times = 0
        if not self._moved(found, window, changed, inside):
            self.region = self._place
            self._times = 0
            self._keep(now)
            return
        agree = self._seen is not None and not differs(self._seen, found)
        self._times, self._seen = self._times + 1 if agree else 1, found
        if self._times >= CONFIRMATIONS:
            self._verifying = Extremes()

    def _keep(self, now: _Grid) -> None:
        """Follow slow changes: of the gain, of the tissue."""
        self._gone_times = self._times = 0
        if self._usual is not None:
            self._usual = _Grid(
                0.8 * self._usual.activity + np.float32(0.2) * now.activity,
                0.8 * self._usual.grey + np.float32(0.2) * now.grey,
            )

    def _moved(
        self, found: Roi, window: Extremes, changed: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]
    ) -> bool:
        """Whether an image that was found is at another place than the known one."""
        place, (height, width) = self._place, self._size
        if not differs(place, found):
            return False
        if place.width * place.height > 0.95 * height * width:
            return True
        left = (found.x - place.x) / place.width
        right = (place.x + place.width - found.x - found.width) / place.width
        top = (found.y - place.y) / place.height
        if min(left, right, top) < -SIDE_TOLERANCE or _grown(place, found):
            return True  # it is where it was not before
        if top < SIDE_TOLERANCE and abs(left - right) <= 0.3 * max(left, right):
            return True  # narrower on both sides: another depth
        if changed[~inside].mean() > _SURROUNDINGS:
            return True
        return self._ends_sharply(found, window, (left, top, right))

    def _ends_sharply(self, found: Roi, window: Extremes, moved: tuple[float, float, float]) -> bool:
        """Whether the sides that moved inwards (left, top, right) are edges; a shadow fades."""
        k = self._factor
        box = Roi(found.x // k, found.y // k, max(8, found.width // k), max(8, found.height // k))
        active = range_of(window.low, window.high) > _ACTIVE
        columns = active[box.y : box.y + box.height].mean(axis=0)
        rows = active[:, box.x : box.x + box.width].mean(axis=1)
        sides = (columns, box.x), (rows, box.y), (columns[::-1], len(columns) - box.x - box.width)
        return all(
            _steps_up(profile, at)
            for (profile, at), share in zip(sides, moved, strict=True)
            if share > SIDE_TOLERANCE
        )

    def _is_gone(self, now: _Grid, changed: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> bool:
        """Whether something else is on the screen, and not only a probe in air."""
        usual = self._usual
        if usual is None:
            return False
        brighter = now.grey - usual.grey > _BRIGHTER
        return bool(np.where(inside, brighter, changed).mean() > _GONE)

    def _cells_of(self, roi: Roi) -> npt.NDArray[np.bool_]:
        """The grid's cells that a rectangle touches."""
        columns, rows = _GRID
        height, width = self._size
        mask = np.zeros((rows, columns), np.bool_)
        left, right = roi.x * columns // width, -(-(roi.x + roi.width) * columns // width)
        top, bottom = roi.y * rows // height, -(-(roi.y + roi.height) * rows // height)
        mask[top:bottom, left:right] = True
        return mask

    def _verify(self, whole: Extremes) -> None:
        """Measure the new place in whole frames, and take it if the image has moved there."""
        self._verifying, self._times, self._seen = None, 0, None
        found = find_region([whole.low, whole.high])
        if found is None or not differs(self._place, found):
            return
        self.region = self._place = found
        self._usual = None


def factor_of(height: int, width: int) -> int:
    """The whole number by which frames of this size are shrunk for a quick search."""
    return max(1, round(min(height, width) / SMALL_SIDE))


def find_small(seen: Extremes, factor: int, size: tuple[int, int]) -> Roi | None:
    """The image in frames of ``size`` (height, width), of which every ``factor``-th row and column was seen.

    Exact to a few pixels.
    """
    found = find_region([seen.low, seen.high])
    if found is None:
        return None
    x, y = found.x * factor, found.y * factor
    return Roi(x, y, min(found.width * factor, size[1] - x), min(found.height * factor, size[0] - y))


def _cells(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(values, _GRID, interpolation=cv2.INTER_AREA), np.float32)


def _steps_up(profile: npt.NDArray[np.float64], at: int) -> bool:
    """Whether a profile of activity begins at once at an index, within a few pixels."""
    outside, within = profile[max(0, at - 5) : max(1, at - 2)], profile[at + 3 : at + 6]
    return bool(len(within) and within.min() > 0.4 and outside.max() < 0.1)


def _grown(place: Roi, found: Roi) -> bool:
    return found.y + found.height - place.y - place.height > GROWTH_TOLERANCE * place.height


def differs(place: Roi, found: Roi) -> bool:
    """Whether two regions differ in place. A lower side that rises does not count: depth goes dark."""
    across = SIDE_TOLERANCE * max(place.width, found.width)
    return (
        abs(found.x - place.x) > across
        or abs(found.x + found.width - place.x - place.width) > across
        or abs(found.y - place.y) > SIDE_TOLERANCE * max(place.height, found.height)
        or _grown(place, found)
    )
