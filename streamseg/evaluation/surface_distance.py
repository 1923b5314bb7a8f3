"""Distances between two outlines: Hausdorff distance and average surface distance.

The definitions are those of MONAI's ``compute_hausdorff_distance(percentile=95)`` and
``compute_average_surface_distance(symmetric=True)``. A mask's surface is its pixels with one of four
neighbours outside the mask or the image. Distances are Euclidean, between pixel centres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Mask

CHUNK = 1_000_000
"""Distances computed at a time, so that a mask with a large surface does not fill the memory."""


@dataclass(frozen=True, slots=True)
class Distances:
    """Between the outlines of two masks, in the unit of the spacing that they were measured with."""

    hd95: float
    """Hausdorff distance at 95 %: 95 of 100 surface pixels, of either mask, lie no further from the other."""
    asd: float
    """Average symmetric surface distance: the mean over the surface pixels of both masks."""


@dataclass(frozen=True, slots=True)
class DistanceSummary:
    """Over the images in which both masks show nerve."""

    images: int
    hd95_mean: float
    hd95_median: float
    asd_mean: float
    asd_median: float


def surface_distances(
    predicted: Mask, truth: Mask, spacing: tuple[float, float] = (1.0, 1.0)
) -> Distances | None:
    """Distances between the outlines of two bool masks (H, W); None if either is empty.

    ``spacing`` is the distance from one pixel to the next (row, column): 1 gives pixels, mm per pixel gives
    mm. Raises ValueError if the shapes differ or a spacing is not a positive number.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in shape: predicted {predicted.shape}, true {truth.shape}")
    if not all(0 < step < float("inf") for step in spacing):
        raise ValueError(f"spacing {spacing} must be two positive numbers (row, column)")
    if not predicted.any() or not truth.any():
        return None
    left, top, width, height = cv2.boundingRect((predicted | truth).view(np.uint8))
    window = np.s_[top : top + height, left : left + width]
    surfaces = _surface(predicted[window]), _surface(truth[window])
    there = _to_surface(*surfaces, spacing)
    back = _to_surface(*surfaces[::-1], spacing)
    farthest = max(float(np.quantile(away, 0.95)) for away in (there, back))
    return Distances(farthest, float(np.concatenate((there, back)).mean()))


def _surface(mask: Mask) -> Mask:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    inner = np.asarray(cv2.erode(pixels, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0), np.bool_)
    return mask & ~inner


def _to_surface(points: Mask, surface: Mask, spacing: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Distance of each of the ``points`` to the nearest pixel of ``surface``, which is not empty."""
    # First within each column, then over the columns: exact, and never points times surface pixels.
    in_column = _squared_in_column(surface, spacing[0])
    columns = np.arange(surface.shape[1])
    rows_of, columns_of = np.nonzero(points)
    nearest = np.empty(rows_of.size)
    step = max(1, CHUNK // columns.size)
    for start in range(0, rows_of.size, step):
        part = slice(start, start + step)
        across = (columns_of[part, None] - columns) * spacing[1]
        nearest[part] = (in_column[rows_of[part]] + across**2).min(axis=1)
    distances: npt.NDArray[np.float64] = np.sqrt(nearest)
    return distances


def _squared_in_column(surface: Mask, spacing: float) -> npt.NDArray[np.float64]:
    """For each pixel the squared distance to the nearest surface pixel of its column, or infinity."""
    rows = np.arange(surface.shape[0], dtype=np.float64)[:, None]
    above = np.maximum.accumulate(np.where(surface, rows, -np.inf))
    below = np.minimum.accumulate(np.where(surface, rows, np.inf)[::-1])[::-1]
    squared: npt.NDArray[np.float64] = (np.minimum(rows - above, below - rows) * spacing) ** 2
    return squared


def summarise_distances(found: Iterable[Distances | None]) -> DistanceSummary | None:
    """Means and medians over the images with distances; None without such images."""
    measured = [distances for distances in found if distances is not None]
    if not measured:
        return None
    hd95, asd = [d.hd95 for d in measured], [d.asd for d in measured]
    return DistanceSummary(len(measured), fmean(hd95), median(hd95), fmean(asd), median(asd))
