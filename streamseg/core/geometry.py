"""Letterboxing and its exact inverse: the only owner of the mapping between frame and tensor pixels.

A pixel's centre lies at its index, so a resize by ``s`` maps ``x`` to ``(x + 0.5) * s - 0.5``, as
``cv2.resize`` does. The content is placed in the middle; the rest is padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Image, Roi

Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Fits a source of (source_height, source_width) into (height, width), keeping its aspect ratio."""

    source_height: int
    source_width: int
    height: int
    width: int

    @property
    def content(self) -> tuple[int, int, int, int]:
        """The source's rectangle in the target: left, top, width, height in whole target pixels."""
        scale = min(self.height / self.source_height, self.width / self.source_width)
        inner_height = min(self.height, max(1, round(self.source_height * scale)))
        inner_width = min(self.width, max(1, round(self.source_width * scale)))
        return (self.width - inner_width) // 2, (self.height - inner_height) // 2, inner_width, inner_height

    @property
    def scale(self) -> tuple[float, float]:
        """Target pixels per source pixel (x, y); the two differ only by rounding to whole pixels."""
        _, _, inner_width, inner_height = self.content
        return inner_width / self.source_width, inner_height / self.source_height

    def apply(self, image: Image) -> Image:
        """Resize and pad an image (source_height, source_width[, 3]) to (height, width[, 3]).

        Shrinks by pixel area, enlarges linearly, fills with 0 (black).
        Raises ValueError on an image of another size.
        """
        if image.shape[:2] != (self.source_height, self.source_width):
            raise ValueError(
                f"letterbox made for {self.source_height}x{self.source_width}, received {image.shape}"
            )
        left, top, inner_width, inner_height = self.content
        out = np.zeros((self.height, self.width, *image.shape[2:]), np.uint8)
        content = out[top : top + inner_height, left : left + inner_width]
        if inner_width >= self.source_width:
            content[:] = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        elif image.ndim == 2 and inner_height < self.source_height:
            content[:] = _shrunk(image, inner_height, inner_width)
        else:
            content[:] = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
        return out

    def crop(self, image: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        """View of the content of a (height, width) image or map, without the padding."""
        left, top, inner_width, inner_height = self.content
        return image[top : top + inner_height, left : left + inner_width]

    def undo(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Crop a (height, width) map to its content and resize it, linearly, to the source's size."""
        size = (self.source_width, self.source_height)
        return np.asarray(cv2.resize(self.crop(image), size, interpolation=cv2.INTER_LINEAR), np.float32)

    def reached(self, image: npt.NDArray[np.float32], level: float) -> Roi:
        """The part of the source outside of which no pixel of :meth:`undo` reaches a level that a sample in
        the content of the (height, width) map reaches: linear interpolation increases nothing."""
        x, y, width, height = cv2.boundingRect((self.crop(image) >= level).view(np.uint8))
        left, right = self._around(x, x + width - 1, self.scale[0], self.source_width)
        top, bottom = self._around(y, y + height - 1, self.scale[1], self.source_height)
        return Roi(left, top, right - left, bottom - top)

    @staticmethod
    def _around(first: int, last: int, scale: float, length: int) -> tuple[int, int]:
        """Begin and end of the source pixels that a run of target pixels may influence."""
        begin, end = math.floor((first - 0.5) / scale - 0.5), math.ceil((last + 1.5) / scale - 0.5) + 1
        return min(max(0, begin), length - 1), min(end, length)

    def undo_part(self, image: npt.NDArray[np.float32], part: Roi) -> npt.NDArray[np.float32]:
        """A part of :meth:`undo`, but for rounding, without the rest of it."""
        content = self.crop(image)
        (x0, x1, across), (y0, y1, down) = (
            _taps(first, count, inner, outer)
            for first, count, inner, outer in (
                (part.x, part.width, content.shape[1], self.source_width),
                (part.y, part.height, content.shape[0], self.source_height),
            )
        )
        rows = content[y0[0] : y1[-1] + 1]
        wide = np.take(rows, x0, axis=1) * (1 - across)
        wide += np.take(rows, x1, axis=1) * across
        found = np.take(wide, y0 - y0[0], axis=0) * (1 - down)[:, None]
        found += np.take(wide, y1 - y0[0], axis=0) * down[:, None]
        return np.asarray(found, np.float32)

    def undo_rows(self, image: npt.NDArray[np.float32], first: int, end: int) -> npt.NDArray[np.float32]:
        """The rows ``first`` to ``end - 1`` of :meth:`undo`, but for rounding, without the others."""
        content = self.crop(image)
        height = content.shape[0]
        wide = cv2.resize(content, (self.source_width, height), interpolation=cv2.INTER_LINEAR)
        at = (np.arange(first, end, dtype=np.float32) + 0.5) * (height / self.source_height) - 0.5
        at = np.clip(at, 0, height - 1)
        above = at.astype(np.intp)
        weight = np.asarray(at - above, np.float32)[:, None]
        rows = wide[above] * (1 - weight)
        rows += wide[np.minimum(above + 1, height - 1)] * weight
        return np.asarray(rows, np.float32)

    def to_target(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map source points (n, 2) of (x, y) to target pixels."""
        left, top, _, _ = self.content
        mapped: npt.NDArray[np.float64] = (
            (np.asarray(points, np.float64) + 0.5) * self.scale - 0.5 + (left, top)
        )
        return mapped

    def to_source(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map target points (n, 2) of (x, y) to source pixels; exact inverse of :meth:`to_target`."""
        left, top, _, _ = self.content
        mapped: npt.NDArray[np.float64] = (
            np.asarray(points, np.float64) - (left, top) + 0.5
        ) / self.scale - 0.5
        return mapped


def _taps(
    first: int, count: int, inner: int, outer: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Of ``count`` pixels of a side that was enlarged from ``inner`` to ``outer``: the samples before and
    after each, and the weight of the latter."""
    at = (np.arange(first, first + count) + 0.5) * (inner / outer) - 0.5
    at = np.clip(at, 0, inner - 1)
    before = at.astype(np.intp)
    return before, np.minimum(before + 1, inner - 1), (at - before).astype(np.float32)


_GROUPS = 16, 8, 4, 2, 1
_SMALL_PRODUCT = 200_000
"""Multiplications up to which OpenBLAS works in the calling thread; above, it would take the net's cores."""

_Band = tuple[slice, slice, npt.NDArray[np.float32]]
"""Target pixels, the source pixels that they cover, and the share of each in the mean, (targets, sources)."""


def _shrunk(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """``cv2.resize`` with INTER_AREA of a grey image to a smaller one, in half of the time.

    OpenCV adds up pixel by pixel unless the factor is a whole number. Each target pixel is a weighted sum of
    a few rows and columns: products with matrices of a few dozen rows. Pixels differ only where a sum is
    within float's rounding of a half.
    """
    tall, wide = image.shape
    rows = np.empty((height, wide), np.float32)
    for targets, sources, shares in _bands(tall, height, wide):
        np.matmul(shares, image[sources].astype(np.float32), out=rows[targets])
    shrunk = np.empty((height, width), np.float32)
    for targets, sources, shares in _bands(wide, width, height):
        np.matmul(rows[:, sources], shares.T, out=shrunk[:, targets])
    return np.asarray(cv2.convertScaleAbs(shrunk), np.uint8)


@lru_cache(maxsize=32)
def _bands(source: int, target: int, across: int) -> tuple[_Band, ...]:
    """The shares of a side's pixels in those of a shorter one, in groups; ``across`` is the other side."""
    edges = np.arange(target + 1) * (source / target)
    overlap = np.minimum.outer(edges[1:], np.arange(1.0, source + 1)) - np.maximum.outer(
        edges[:-1], np.arange(float(source))
    )
    shares = np.maximum(overlap, 0) * (target / source)
    group = next(n for n in _GROUPS if n == 1 or n * (n * source / target + 2) * across <= _SMALL_PRODUCT)
    found: list[_Band] = []
    for first in range(0, target, group):
        end = min(first + group, target)
        sources = slice(int(edges[first]), min(source, math.ceil(edges[end])))
        found.append((slice(first, end), sources, shares[first:end, sources].astype(np.float32)))
    return tuple(found)


def cell_means(
    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32], rows: int, columns: int
) -> npt.NDArray[np.float64]:
    """Means of an image (H, W) over a grid of equal cells, which may cut pixels: float64 (rows, columns).

    As ``cv2.resize`` with INTER_AREA, which takes up to ten times as long for few cells, and rounds those of
    uint8. Computed from sums of the pixels left of and above each corner.
    """
    row, below, down = _corners(values.shape[0], rows)
    column, beside, across = _corners(values.shape[1], columns)
    sums = cv2.integral(values)
    lines = sums[row] * (1 - down)[:, None] + sums[below] * down[:, None]
    corners = lines[:, column] * (1 - across) + lines[:, beside] * across
    return np.diff(np.diff(corners, axis=0), axis=1) * (rows * columns / values.size)


@lru_cache(maxsize=32)
def _corners(
    side: int, count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Where ``count`` cells of a side begin and end: the pixel, the next one, and the part of it."""
    at = np.linspace(0, side, count + 1)
    whole = at.astype(np.intp)
    return whole, np.minimum(whole + 1, side), at - whole
