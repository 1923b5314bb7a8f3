"""Runs and polygons as labelling programs write them, to masks and back.

Where a pixel lies differs: COCO, CVAT and Label Studio count from the left edge of the first pixel, labelme
from its centre. An outline through pixel centres, read by edges, loses half a pixel all around: 6 % of a
small nerve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw

from streamseg.core.numbers import finite_number, whole_number
from streamseg.core.types import Mask

Points = npt.NDArray[np.float64]
MAX_POINTS = 100_000
MAX_COORDINATE = 1e6
MAX_RUN = 1 << 30


def runs_of(flat: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of alternating runs of a flat mask, the first of them False and perhaps of length 0."""
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()  # type: ignore[no-any-return]


def of_runs(runs: Sequence[object], size: int) -> npt.NDArray[np.bool_]:
    """Inverse of :func:`runs_of`. Raises ValueError for runs that are not numbers or not of this size."""
    lengths = [whole_number(run, 0, MAX_RUN) for run in runs]
    if None in lengths:
        raise ValueError("its run lengths are not whole numbers")
    if sum(lengths) != size:  # type: ignore[arg-type]
        raise ValueError(f"its run lengths cover {sum(lengths)} pixels of {size}")  # type: ignore[arg-type]
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # type: ignore[arg-type]


def points_of(values: Iterable[Sequence[object]]) -> Points:
    """Corners (n, 2) of (x, y) of a polygon. Raises ValueError for fewer than three, or for bad numbers."""
    corners = []
    for pair in values:
        numbers = [finite_number(value, -MAX_COORDINATE, MAX_COORDINATE) for value in pair]
        if len(numbers) != 2 or None in numbers:
            raise ValueError("a corner of a polygon is not a pair of numbers")
        corners.append(numbers)
    if len(corners) < 3:
        raise ValueError(f"a polygon has {len(corners)} points; it needs 3 or more")
    if len(corners) > MAX_POINTS:
        raise ValueError(f"a polygon has {len(corners)} points; {MAX_POINTS} are the most")
    return np.array(corners, np.float64)


def fill_by_edges(points: Points, height: int, width: int) -> Mask:
    """The pixels whose centres lie inside a polygon, whose coordinates count from the first pixel's edge.

    Even-odd rule, as COCO, CVAT and Label Studio fill.
    """
    mask = np.zeros((height, width), np.bool_)
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    centres = np.arange(width) + 0.5
    for row in range(max(0, int(points[:, 1].min()) - 1), min(height, int(points[:, 1].max()) + 2)):
        y = row + 0.5
        crossing = (low <= y) & (y < high)
        if not crossing.any():
            continue
        (x1, y1), (x2, y2) = points[crossing].T, ends[crossing].T
        at = np.sort(x1 + (y - y1) / (y2 - y1) * (x2 - x1))
        # Between the first and the second crossing is inside, between the second and the third outside.
        mask[row] = np.searchsorted(at, centres, side="right") % 2 == 1
    return mask


def fill_by_centres(points: Points, height: int, width: int) -> Mask:
    """The pixels inside a polygon through pixel centres, and those on it, as labelme fills."""
    canvas = Pillow.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.array(canvas, np.bool_)


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, width and height of the smallest rectangle around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def whole_box(values: Sequence[object], height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, width and height, checked to lie inside an image. Raises ValueError."""
    numbers = [whole_number(value, 0, MAX_RUN) for value in values]
    if len(numbers) != 4 or None in numbers:
        raise ValueError("a box is not four whole numbers")
    left, top, across, down = (int(number or 0) for number in numbers)
    if across < 1 or down < 1 or left + across > width or top + down > height:
        raise ValueError(f"a mask reaches outside the image of {width}x{height}")
    return left, top, across, down


def pasted(part: Mask, left: int, top: int, height: int, width: int) -> Mask:
    """A mask of a part of an image as one of the whole image."""
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask
