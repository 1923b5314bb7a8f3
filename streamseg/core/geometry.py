"""Letterboxing and its exact inverse: the only owner of the mapping between frame and tensor pixels.

A pixel's centre lies at its index, so a resize by ``s`` maps ``x`` to ``(x + 0.5) * s - 0.5``, as
``cv2.resize`` does. The content is placed in the middle; the rest is padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Image

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
        method = cv2.INTER_AREA if inner_width < self.source_width else cv2.INTER_LINEAR
        out = np.zeros((self.height, self.width, *image.shape[2:]), np.uint8)
        out[top : top + inner_height, left : left + inner_width] = cv2.resize(
            image, (inner_width, inner_height), interpolation=method
        )
        return out

    def crop(self, image: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        """View of the content of a (height, width) image or map, without the padding."""
        left, top, inner_width, inner_height = self.content
        return image[top : top + inner_height, left : left + inner_width]

    def undo(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Crop a (height, width) map to its content and resize it, linearly, to the source's size."""
        size = (self.source_width, self.source_height)
        return np.asarray(cv2.resize(self.crop(image), size, interpolation=cv2.INTER_LINEAR), np.float32)

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
