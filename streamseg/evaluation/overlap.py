"""Segmentation metrics: one confusion count per image, everything else derived from it.

The rule for empty masks, stated once: if prediction and reference are both empty, Dice and IoU are 1
(as the Kaggle competition scores); if only one is empty they are 0, by their formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from streamseg.core.types import Mask


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pixels of one structure in one image: predicted and true."""

    both: int
    """True positives."""
    predicted_only: int
    """False positives."""
    true_only: int
    """False negatives."""

    @classmethod
    def count(cls, predicted: Mask, truth: Mask) -> Confusion:
        """Count two bool masks of one shape. Raises ValueError if the shapes differ."""
        if predicted.shape != truth.shape:
            raise ValueError(f"masks differ in shape: predicted {predicted.shape}, true {truth.shape}")
        both = int(np.count_nonzero(predicted & truth))
        return cls(both, int(np.count_nonzero(predicted)) - both, int(np.count_nonzero(truth)) - both)

    @property
    def dice(self) -> float:
        """``2|X n Y| / (|X| + |Y|)`` (paper, eq. 6), 0..1."""
        size = 2 * self.both + self.predicted_only + self.true_only
        return 2 * self.both / size if size else 1.0

    @property
    def iou(self) -> float:
        """``|X n Y| / |X u Y|``, 0..1."""
        union = self.both + self.predicted_only + self.true_only
        return self.both / union if union else 1.0

    @property
    def predicted(self) -> int:
        """Predicted pixels."""
        return self.both + self.predicted_only

    @property
    def true(self) -> int:
        """True pixels."""
        return self.both + self.true_only

    @property
    def found(self) -> bool:
        """Whether any pixel is predicted."""
        return self.predicted > 0

    @property
    def present(self) -> bool:
        """Whether any pixel is true."""
        return self.true > 0


@dataclass(frozen=True, slots=True)
class OverlapSummary:
    """Metrics of one structure over a set of images."""

    images: int
    dice_mean: float
    dice_median: float
    iou_mean: float
    sensitivity: float | None
    """Share of the images with the structure in which some of it was found; None without such images."""
    specificity: float | None
    """Share of the images without it in which none was found; None without such images."""


def summarise(counts: Sequence[Confusion]) -> OverlapSummary:
    """Metrics of at least one image. Raises ValueError for none."""
    if not counts:
        raise ValueError("no images to summarise")
    present = [c.found for c in counts if c.present]
    without = [not c.found for c in counts if not c.present]
    dice = [c.dice for c in counts]
    return OverlapSummary(
        images=len(counts),
        dice_mean=fmean(dice),
        dice_median=median(dice),
        iou_mean=fmean(c.iou for c in counts),
        sensitivity=fmean(present) if present else None,
        specificity=fmean(without) if without else None,
    )
