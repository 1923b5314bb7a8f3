"""Notices when the ultrasound image moves on the machine's screen, or leaves it.

A preset, a dual view or another depth changes the place of the image while frames keep their size. A small
copy of every frame is compared with the usual screen, as a coarse grid of brightness and activity. If much of
it differs at once (a menu, another layout, "NO SIGNAL"), the known place is in doubt from that very frame on:
nothing is segmented or shown of a place that may be another. Smaller changes are looked for in the frames of
a moment together. In both cases the image is searched for again, in the small copies and then in whole
frames, which have to agree on a new place.

Most frames show the screen of the last one that was compared, but for tissue. If a glance at every few pixels
says so, a frame has the grid of that one, for a tenth of a second at most.

An image that goes dark is not one that moved: half of it is black while half of the probe has no contact, and
its lower end is uncertain anyway. So the lower side counts only if the image grows, and an image that becomes
smaller has moved only if it did so on both sides, if its surroundings have changed, or if it ends at an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.capture.screen.activity import Extremes, range_of
from streamseg.capture.screen.find import find_region
from streamseg.core.geometry import cell_means
from streamseg.core.types import Frame, Grey, Roi

SMALL_SIDE = 270
"""The shorter side of the small copies is about this long: enough for speckle, and for a line of text."""
SAMPLE_EVERY_NS = 100_000_000
WINDOW_NS, MIN_SAMPLES = 380_000_000, 2
"""One comparison takes the frames of this time."""
DOUBT_EVERY_NS, DOUBT_NS, DOUBT_SAMPLES = 50_000_000, 100_000_000, 3
"""The same while the place is in doubt; a slow source needs :data:`MIN_SAMPLES` within twice the time."""
GONE_CONFIRMATIONS = 2
"""Searches in a row that find no image until it is gone."""
MAX_DOUBTS = 10
"""Searches that find nothing certain until the known place is believed again."""
VERIFY_SAMPLES, SLOW_VERIFY_NS = 4, 300_000_000
"""Whole frames from which the new place is measured; of a slow source fewer, after this time."""
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
_OTHER_SCREEN = 0.06
"""Share of all cells that change around the image at once if the layout does."""
_FLAT, _FLAT_CELLS = 0.05, 0.1
"""Activity of flat cells, and their share of all cells, where there was tissue: a menu or an empty panel.
Dark ones do not count."""
_DARK_CELLS = 0.05
"""Share of all cells in which tissue may go dark before the image is looked for."""
_GLANCE_STEP = 4
"""A glance takes every fourth row and column of the small copy."""
_GLANCE_NS = 100_000_000
"""The longest time for which a grid is kept."""
_GLANCE_NOISE, _GLANCE_CHANGED, _GLANCE_ACTIVE = 8, 0.15, 0.03
"""Nothing is new if the differences around the image, of those above a noise, are at most so many grey levels
in the mean of the screen, and the share of the image's pixels that are active has changed by this at most."""
_BLANK = 0.06
"""Share of the image's activity that a text such as "NO SIGNAL" leaves; a probe in air leaves more of it."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """Means over coarse cells of the screen, each float32 (rows, columns)."""

    activity: npt.NDArray[np.float32]
    """Share of active pixels, 0..1."""
    grey: npt.NDArray[np.float32]

    @classmethod
    def of(cls, low: Grey, high: Grey) -> _Grid:
        active = cv2.threshold(range_of(low, high), _ACTIVE, 1, cv2.THRESH_BINARY)[1]
        return cls(_cells(np.asarray(active, np.uint8)), _cells(high))

    def changed(self, other: _Grid, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Cells that differ; those ``inside`` the image by their activity: tissue changes its grey."""
        found: npt.NDArray[np.bool_] = np.abs(self.activity - other.activity) > _CHANGED_ACTIVITY
        found |= ~inside & (np.abs(self.grey - other.grey) > _CHANGED_GREY)
        return found

    def towards(self, other: _Grid, share: float) -> _Grid:
        """Moved this share of the way to another."""
        kept, new = np.float32(1 - share), np.float32(share)
        return _Grid(kept * self.activity + new * other.activity, kept * self.grey + new * other.grey)


@dataclass(frozen=True, slots=True)
class _Glance:
    """A few pixels of a frame."""

    at_ns: int
    grey: Grey
    inside: Grey
    """255 where the image is, else 0."""
    active: int
    """Active pixels of the image."""

    @classmethod
    def of(cls, frame: Frame, step: int, place: Roi) -> _Glance:
        grey = frame.grey(step=step)
        inside = _inside(grey.shape, place, step)
        active = cv2.threshold(range_of(grey, grey), _ACTIVE, 1, cv2.THRESH_BINARY)[1]
        return cls(frame.captured_ns, grey, inside, cv2.countNonZero(cv2.bitwise_and(active, inside)))

    def is_like(self, other: _Glance) -> bool:
        """Whether there is nothing new to be seen since."""
        if self.inside is not other.inside or abs(self.at_ns - other.at_ns) >= _GLANCE_NS:
            return False
        if abs(self.active - other.active) > _GLANCE_ACTIVE * cv2.countNonZero(self.inside):
            return False
        outside = cv2.subtract(cv2.absdiff(self.grey, other.grey), self.inside)
        changed = cv2.threshold(outside, _GLANCE_NOISE, 0, cv2.THRESH_TOZERO)[1]
        return cv2.mean(changed)[0] <= _GLANCE_CHANGED


class Whereabouts(Enum):
    """What is known about the image's place."""

    KNOWN = auto()
    DOUBTED = auto()
    """The screen has changed, and is being searched."""
    GONE = auto()
    """There is no image on the screen."""


class LayoutWatch:
    """Tracks the image's region in frames of one size. For one thread, frames in order."""

    def __init__(self, region: Roi, size: tuple[int, int]) -> None:
        """``region`` was found in frames of this height and width."""
        self.whereabouts = Whereabouts.KNOWN
        self.searches = 0
        """Number of searches so far."""
        height, width = self._size = size
        self._factor = factor_of(height, width)
        self.place = region
        """Where the image was last known to be."""
        self._inside = self._cells_of(region)
        self._usual: _Grid | None = None
        """Of the frames of a moment together."""
        self._usual_frame: _Grid | None = None
        """Of a single frame."""
        self._glanced: tuple[_Glance, _Grid] | None = None
        """Of the frame of which a grid was made last; in whichever thread."""
        self._window, self._whole = Extremes(), Extremes()
        self._seen: Roi | None = None
        """Where the image was seen in small copies, until whole frames have confirmed it."""
        self._began_ns = self._due_ns = 0
        self._gone_times = self._doubts = 0
        self._hurried = False
        """The next comparison is due soon: a part of the image has gone dark, or it has become smaller."""

    @property
    def region(self) -> Roi | None:
        """The image's region; None while it is in doubt or gone."""
        return self.place if self.whereabouts is Whereabouts.KNOWN else None

    def fits(self, frame: Frame) -> bool:
        """Whether a frame may show the image at the known place. From any thread."""
        usual = self._usual_frame
        return usual is None or not self._is_other_screen(self._grid_of(frame), usual)

    def update(self, frame: Frame) -> Roi | None:
        """Process a frame; returns the image's region in it, or None if that is not known."""
        now_ns = frame.captured_ns
        if now_ns < self._due_ns - 10 * SAMPLE_EVERY_NS:
            self._due_ns = 0  # the clock was set back
        grid = self._grid_of(frame)
        usual = self._usual_frame or grid
        if self.whereabouts is Whereabouts.KNOWN:
            if self._is_other_screen(grid, usual):
                self._doubt(now_ns)
            elif not self._hurried and self._is_partly_dark(grid, usual):
                self._restart(now_ns)
                self._hurried = True
        elif self.whereabouts is Whereabouts.GONE and not self._is_other_screen(grid, usual):
            self.whereabouts = Whereabouts.DOUBTED  # it looks as it did before
            self._restart(now_ns)
        if now_ns < self._due_ns:
            return self.region
        hurried = self._hurried or self.whereabouts is Whereabouts.DOUBTED
        self._due_ns = now_ns + (DOUBT_EVERY_NS if hurried else SAMPLE_EVERY_NS)
        if self.whereabouts is Whereabouts.KNOWN:
            self._usual_frame = usual.towards(grid, 0.1)
        if self._seen is not None:
            self._verify(frame, self._seen)
            return self.region
        if self._window.count == 0 or now_ns - self._began_ns > 4 * WINDOW_NS:
            self._window, self._began_ns = Extremes(), now_ns
        self._window.add(frame.grey(step=self._factor))
        if self._is_complete(now_ns - self._began_ns):
            window, self._window = self._window, Extremes()
            self._compare(window, now_ns)
        return self.region

    def _is_complete(self, lasted_ns: int) -> bool:
        """Whether a window holds enough frames to be compared."""
        count = self._window.count
        if self.whereabouts is Whereabouts.KNOWN and not self._hurried:
            return count >= MIN_SAMPLES and lasted_ns >= WINDOW_NS - SAMPLE_EVERY_NS
        quick = count >= DOUBT_SAMPLES and lasted_ns >= DOUBT_NS
        return quick or (count >= MIN_SAMPLES and lasted_ns >= 2 * DOUBT_NS)

    def _restart(self, now_ns: int) -> None:
        """Compare the frames from now on, without those before."""
        self._window, self._whole, self._seen = Extremes(), Extremes(), None
        self._began_ns = self._due_ns = now_ns
        self._gone_times = self._doubts = 0
        self._hurried = False

    def _doubt(self, now_ns: int) -> None:
        """The image may be elsewhere."""
        if self.whereabouts is Whereabouts.KNOWN:
            self.whereabouts = Whereabouts.DOUBTED
            self._restart(now_ns)

    def _believe(self, place: Roi, usual: _Grid | None) -> None:
        """The image is at this place, in a layout that looks like ``usual``, or is still to be seen."""
        self.whereabouts, self._seen = Whereabouts.KNOWN, None
        self.place, self._inside, self._usual = place, self._cells_of(place), usual
        self._usual_frame = None
        self._gone_times = self._doubts = 0

    def _compare(self, window: Extremes, now_ns: int) -> None:
        """Compare the frames of a window with the usual layout, and search if too much has changed."""
        now, usual = _Grid.of(window.low, window.high), self._usual
        if self._hurried:
            self._hurried, self._usual_frame = False, None
        if usual is None:
            if self.whereabouts is Whereabouts.KNOWN:
                self._usual = now
                return
            usual = _Grid(np.zeros_like(now.activity), np.zeros_like(now.grey))
        changed = now.changed(usual, self._inside)
        known = self.whereabouts is Whereabouts.KNOWN
        if changed.mean() < _CHANGED_CELLS:
            self._keep(usual.towards(now, 0.2))
            return
        self.searches += 1
        found = find_small(window, self._factor, self._size)
        self._gone_times = 0 if found is not None else self._gone_times + 1
        if found is not None and self._moved(found, window, changed):
            self._doubt(now_ns)
            self._seen = found
        elif found is not None:
            self._keep(now)  # this is what it looks like now: not to be searched again
        elif self._gone_times >= GONE_CONFIRMATIONS and self._is_gone(now, usual, changed):
            self.whereabouts = Whereabouts.GONE
        elif self._gone_times >= GONE_CONFIRMATIONS and self.whereabouts is Whereabouts.DOUBTED:
            self._believe(self.place, self._usual)  # it has only gone dark
        if not known and self.whereabouts is Whereabouts.DOUBTED:
            self._doubts += 1
            if self._doubts >= MAX_DOUBTS:
                self._believe(self.place, None)

    def _keep(self, usual: _Grid) -> None:
        """The image is where it was; follow slow changes: of the gain, of the tissue."""
        if self.whereabouts is Whereabouts.KNOWN:
            self._usual, self._gone_times = usual, 0
        else:
            self._believe(self.place, usual)

    def _grid_of(self, frame: Frame) -> _Grid:
        glance, last = _Glance.of(frame, _GLANCE_STEP * self._factor, self.place), self._glanced
        if last is not None and glance.is_like(last[0]):
            return last[1]
        grey = np.ascontiguousarray(frame.grey(step=self._factor))
        grid = _Grid.of(grey, grey)
        self._glanced = glance, grid
        return grid

    def _is_other_screen(self, now: _Grid, usual: _Grid) -> bool:
        """Whether a single frame differs from the usual ones as those of other layouts do."""
        inside = self._inside
        changed = now.changed(usual, inside) & ~inside
        tissue = inside & (usual.activity > 0.5)
        flat = tissue & (now.activity < _FLAT) & (now.grey > _BRIGHTER)
        return bool(changed.mean() > _OTHER_SCREEN or flat.mean() > _FLAT_CELLS or self._is_blank(now, usual))

    def _is_partly_dark(self, now: _Grid, usual: _Grid) -> bool:
        """Whether a part of the image has no texture any more, as if the image had become smaller."""
        return bool(((usual.activity > 0.5) & (now.activity < _FLAT) & self._inside).mean() > _DARK_CELLS)

    def _is_blank(self, now: _Grid, usual: _Grid) -> bool:
        """Whether next to nothing is left of the image's texture, as where a black screen has replaced it."""
        before = float(usual.activity[self._inside].sum())
        return before > 0 and float(now.activity[self._inside].sum()) < _BLANK * before

    def _moved(self, found: Roi, window: Extremes, changed: npt.NDArray[np.bool_]) -> bool:
        """Whether an image that was found is at another place than the known one."""
        place, (height, width) = self.place, self._size
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
        if changed[~self._inside].mean() > _SURROUNDINGS:
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

    def _is_gone(self, now: _Grid, usual: _Grid, changed: npt.NDArray[np.bool_]) -> bool:
        """Whether something else is on the screen, and not only a probe in air."""
        brighter = now.grey - usual.grey > _BRIGHTER
        return self._is_blank(now, usual) or bool(np.where(self._inside, brighter, changed).mean() > _GONE)

    def _cells_of(self, roi: Roi) -> npt.NDArray[np.bool_]:
        """The grid's cells that a rectangle touches."""
        columns, rows = _GRID
        height, width = self._size
        mask = np.zeros((rows, columns), np.bool_)
        left, right = roi.x * columns // width, -(-(roi.x + roi.width) * columns // width)
        top, bottom = roi.y * rows // height, -(-(roi.y + roi.height) * rows // height)
        mask[top:bottom, left:right] = True
        return mask

    def _verify(self, frame: Frame, seen: Roi) -> None:
        """Measure the new place in whole frames, and take it if the image is where it was seen."""
        now_ns = frame.captured_ns
        if self._whole.count == 0:
            self._began_ns = now_ns
        self._whole.add(frame.grey())
        slow = self._whole.count >= MIN_SAMPLES and now_ns - self._began_ns >= SLOW_VERIFY_NS
        if self._whole.count < VERIFY_SAMPLES and not slow:
            return
        whole, self._whole, self._seen = self._whole, Extremes(), None
        found = find_region([whole.low, whole.high])
        if found is None or differs(seen, found):
            return
        self._believe(found if differs(self.place, found) else self.place, None)


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


def _cells(values: Grey) -> npt.NDArray[np.float32]:
    return cell_means(values, *_GRID[::-1]).astype(np.float32)


@lru_cache(maxsize=8)
def _inside(shape: tuple[int, int], place: Roi, step: int) -> Grey:
    """255 at every ``step``-th pixel inside a rectangle, 0 around it."""
    mask = np.zeros(shape, np.uint8)
    rows = slice(-(-place.y // step), -(-(place.y + place.height) // step))
    mask[rows, -(-place.x // step) : -(-(place.x + place.width) // step)] = 255
    return mask


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
