"""The least distance between the outlines of two structures in one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamseg.core.spec import VESSEL
from streamseg.core.types import Segmentation, Structure

_COARSE = 12
"""Every point of this number gives the first bound of the distance."""
_MAX_PAIRS = 2_000_000
"""Pairs of points that are compared at once: 16 MB."""

Points = npt.NDArray[np.float64]
Contour = npt.NDArray[np.int32]


def nerve_vessel_distance_mm(
    segmentation: Segmentation, spacing_mm: tuple[float, float] | None
) -> float | None:
    """Millimetres between the outlines of nerve and vessel where they are closest to one another.

    Between the centres of pixels; 0 where the two overlap or have neighbouring pixels. ``spacing_mm`` is
    that of the frame (row, column). None if it is unknown, or if one of the two was not found.
    """
    vessel = segmentation.others.get(VESSEL)
    if spacing_mm is None or vessel is None or not segmentation.contours or not vessel.contours:
        return None
    if not all(0 < spacing < math.inf for spacing in spacing_mm):
        return None
    nerve_points, vessel_points = outline_points(segmentation.contours), outline_points(vessel.contours)
    if _overlap(segmentation, vessel, nerve_points, vessel_points):
        return 0.0
    nearest = _nearest(nerve_points, vessel_points, (spacing_mm[1], spacing_mm[0]))
    if np.abs(nearest[0] - nearest[1]).max() <= 1:
        return 0.0
    return math.hypot(*((nearest[0] - nearest[1]) * (spacing_mm[1], spacing_mm[0])))


def outline_points(contours: Sequence[Contour]) -> Points:
    """Every pixel on some outlines, (n, 2) of (x, y).

    OpenCV gives only the corners of runs of pixels; they are horizontal, vertical or diagonal.
    """
    corners = np.concatenate(contours)
    step = np.concatenate([part for contour in contours for part in (contour[1:], contour[:1])]) - corners
    count = np.maximum(1, np.abs(step).max(axis=1))
    ends = np.cumsum(count)
    along = np.arange(ends[-1]) - np.repeat(ends - count, count)
    points: Points = (
        np.repeat(corners, count, axis=0) + np.repeat(step / count[:, None], count, axis=0) * along[:, None]
    )
    return points


def _overlap(nerve: Segmentation, vessel: Structure, *outlines: Points) -> bool:
    """Whether the masks share a pixel, looked for only where both of their boxes are."""
    left, top = np.max([points.min(axis=0) for points in outlines], axis=0).astype(int)
    right, bottom = np.min([points.max(axis=0) for points in outlines], axis=0).astype(int) + 1
    if left >= right or top >= bottom:
        return False
    box = slice(top, bottom), slice(left, right)
    return bool((nerve.mask[box] & vessel.mask[box]).any())


def _nearest(first: Points, second: Points, scale: tuple[float, float]) -> tuple[Points, Points]:
    """The two points, one of each set, that are closest to one another at this scale (x, y)."""
    # Far points cannot be the nearest: those farther from the other's box than some pair is apart.
    bound = _squared(first[::_COARSE] * scale, second[::_COARSE] * scale)[2]
    first = _within(first, second, scale, bound)
    second = _within(second, first, scale, bound)
    best: tuple[float, Points, Points] | None = None
    rows = max(1, _MAX_PAIRS // len(second))
    for start in range(0, len(first), rows):
        some = first[start : start + rows]
        row, column, squared = _squared(some * scale, second * scale)
        if best is None or squared < best[0]:
            best = squared, some[row], second[column]
    assert best is not None  # neither set is empty
    return best[1], best[2]


def _within(points: Points, others: Points, scale: tuple[float, float], bound: float) -> Points:
    """The points no farther from the box of the others than the root of ``bound``."""
    low, high = others.min(axis=0), others.max(axis=0)
    away = np.maximum(np.maximum(low - points, points - high), 0) * scale
    near: npt.NDArray[np.bool_] = np.einsum("ij,ij->i", away, away) <= bound * (1 + 1e-9) + 1e-9
    return points[near]


def _squared(first: Points, second: Points) -> tuple[int, int, float]:
    """Indices of the two closest points, and their squared distance."""
    # No matrix product: on a busy machine the threads of one take longer than the work.
    squared = np.subtract.outer(first[:, 0], second[:, 0])
    squared *= squared
    down = np.subtract.outer(first[:, 1], second[:, 1])
    down *= down
    squared += down
    row, column = divmod(int(squared.argmin()), len(second))
    return row, column, float(squared[row, column])
