"""Finds the ultrasound image inside a grab of the machine's whole screen.

A user interface is flat: large areas of one grey, crossed by thin text and lines, and it stands still.
Speckle is textured everywhere, and it moves. So the evidence per pixel is its *activity*: the range of
grey values in its 3x3 neighbourhood over all frames. A single frame gives the spatial part alone.
From there on:

1. The *seed* is the largest solid area of high activity. Opening by a square larger than a line of
   text removes text, rulers, grey bars and traces; moving areas win over still ones.
2. The seed grows into dim parts of the image: first into weaker activity, measured against what the
   interface itself shows (compression, noise of an analogue grabber), then into a flat black that
   belongs to the image because it does not surround it.
3. Straight edges are cut where the coverage jumps, so that what touches the image from outside stays out.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.types import Grey, Image, Roi

_Binary = npt.NDArray[np.uint8]  # 0 or 1, shape of the frame

_MOST_FRAMES = 30
_SMALLEST_SIDE = 32  # of a frame, pixels; nothing can be told from less
_SMALLEST_SHARE = 0.03  # of the frame that an image covers at least
_TEXT_SHARE = 0.045  # of the frame's shorter side: taller than a line of text or a thick ruler
_LOUDEST_STILL = 24  # grey levels: no interface flickers by more
_FLAT_SHARE = 0.03  # of a digital grab that is exactly flat, at least
_DENSE = 0.5  # share of active pixels in a window of an image
_SURROUNDED = 0.55  # share of the seed's outline at which a flat grey is its surroundings


def find_region(frames: Sequence[Image]) -> Roi | None:
    """Rectangle of the ultrasound image (of a fan: its bounding box), or None where none is found.

    ``frames`` are uint8 (height, width) or (height, width, 3) BGR, all of one size, spread over a clip;
    one is enough, more (up to 30 are looked at) tell moving speckle from the still interface.
    A frame that is image all over gives the whole frame. Does not raise on such frames.
    """
    if not len(frames) or min(frames[0].shape[:2]) < _SMALLEST_SIDE:
        return None
    low, high = _extremes(frames)
    activity = _range3(low, high)
    text = max(5, round(_TEXT_SHARE * min(activity.shape)) | 1)
    seed = _seed(activity, cv2.subtract(high, low), text)
    if seed is None:
        return None
    area = _grow_flat(_grow_weak(seed, activity, text), low, high, activity, text)
    return _snap(_bounds(area), activity.shape)


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


def _solid(active: npt.NDArray[np.bool_], text: int) -> _Binary:
    """Areas where most pixels are active, without anything thinner than ``text``."""
    window = max(3, text // 3 | 1)
    dense = cv2.boxFilter(active.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    mask = (dense >= _DENSE).astype(np.uint8)
    # Padded, so that an image that touches the frame's edge is not opened away from it.
    mask = cv2.copyMakeBorder(mask, text, text, text, text, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((text, text), np.uint8))  # type: ignore[assignment]
    return mask[text:-text, text:-text]


def _seed(activity: Grey, motion: Grey, text: int) -> _Binary | None:
    """Largest solid area of high activity, moving areas first; None where there is none."""
    threshold = _stillness(activity) + 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(_solid(activity >= threshold, text))
    if count < 2:
        return None
    moving = _solid(motion >= threshold, text)
    moved = np.bincount(labels[moving > 0], minlength=count)[:count]
    score = stats[:, cv2.CC_STAT_AREA] + 4.0 * moved
    score[0] = 0
    best = int(np.argmax(score))
    if stats[best, cv2.CC_STAT_AREA] < _SMALLEST_SHARE * activity.size:
        return None
    chosen = _filled((labels == best).astype(np.uint8))
    still_part = stats[best, cv2.CC_STAT_AREA] - moved[best]
    if 0.5 * stats[best, cv2.CC_STAT_AREA] < moved[best] and still_part > 0:
        return _part_with(cv2.bitwise_and(moving, chosen), chosen)  # type: ignore[arg-type]
    return chosen


def _stillness(activity: Grey) -> int:
    """Largest activity of the flat interface: 1 on a digital grab, more under an analogue grabber's noise."""
    counts = np.bincount(activity[::2, ::2].ravel(), minlength=256) / activity[::2, ::2].size
    if counts[:2].sum() > _FLAT_SHARE:
        return 1
    peak = int(np.argmax(counts[:_LOUDEST_STILL]))
    narrow = counts[peak // 2 : 2 * peak].sum() > 3 * counts[2 * peak : 4 * peak].sum()
    return 2 * peak if narrow else 1


def _filled(mask: _Binary) -> _Binary:
    """The mask with what it encloses."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED)  # type: ignore[return-value]


def _part_with(mask: _Binary, seed: _Binary) -> _Binary:
    """The connected part of ``mask`` that shares most pixels with ``seed``."""
    count, labels = cv2.connectedComponents(mask)
    shared = np.bincount(labels[seed > 0], minlength=count)
    shared[0] = 0
    return (labels == int(np.argmax(shared))).astype(np.uint8)


def _grow_weak(seed: _Binary, activity: Grey, text: int) -> _Binary:
    """The seed with the weaker activity that touches it, measured against the rest of the screen."""
    outside = activity[cv2.dilate(seed, np.ones((text, text), np.uint8)) == 0]
    quiet = float(np.percentile(outside[::3], 60)) if outside.size > activity.size * 0.02 else 0.0
    weak = _solid((activity > quiet + 1) | (seed > 0), text)
    grown = _part_with(weak, seed) | seed
    return grown if int(grown.sum()) <= 2.5 * int(seed.sum()) else seed


def _grow_flat(area: _Binary, low: Grey, high: Grey, activity: Grey, text: int) -> _Binary:
    """The area with the flat dark parts of the image, where their grey is not that of the surroundings."""
    inside = low[area > 0]
    floor = float(np.percentile(inside[::5], 2))
    dark = (low >= floor - 1) & (high <= floor + 2) & (activity <= 3)
    near = cv2.dilate(area, np.ones((5, 5), np.uint8))
    ring = (cv2.dilate(area, np.ones((11, 11), np.uint8)) > 0) & (near == 0)
    if not ring.any() or dark[ring].mean() > _SURROUNDED:
        return area
    joined = _part_with(_solid(dark | (near > 0), text), area) | area
    if joined.sum() > 2.5 * area.sum() or joined.sum() < 0.8 * _bounds(joined).width * _bounds(joined).height:
        return area
    return joined


def _bounds(mask: _Binary) -> Roi:
    """Bounding box of the mask, each side cut where the coverage jumps."""
    left, right = _span(mask.sum(axis=0, dtype=np.int64))
    top, bottom = _span(mask.sum(axis=1, dtype=np.int64))
    return Roi(left, top, right - left, bottom - top)


def _span(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """First and past-the-last index of a profile, without thin parts that stick out of a straight edge."""
    share = counts / counts.max()
    covered = np.flatnonzero(share > 0)
    first, last = int(covered[0]), int(covered[-1]) + 1
    return _edge(share, first, 1), _edge(share[::-1], len(share) - last, -1, len(share))


def _edge(share: npt.NDArray[np.float64], start: int, direction: int, length: int = 0) -> int:
    """Where the profile begins: at its jump over a third of its height, if it has one, else at ``start``."""
    reach = max(4, len(share) // 8)
    part = np.concatenate([[0.0, 0.0, 0.0], share[start : start + reach]])
    jump = part[3:] - part[:-3]
    steep = np.flatnonzero((jump > 0.35) & (part[:-3] < 0.3))
    if len(steep):
        start += int(np.argmax(np.diff(part)[max(0, steep[0] - 0) : steep[-1] + 3])) + int(steep[0]) - 2
    return start if direction > 0 else length - start


def _snap(box: Roi, shape: tuple[int, ...]) -> Roi:
    """The box, with sides within two pixels of the frame's edge moved onto it."""
    height, width = shape
    left, top = (0 if v <= 2 else v for v in (box.x, box.y))
    right = width if box.x + box.width >= width - 2 else box.x + box.width
    bottom = height if box.y + box.height >= height - 2 else box.y + box.height
    return Roi(left, top, right - left, bottom - top)
