"""Calibration error and Brier score of stated probabilities, and how well values rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[np.generic]

CONFIDENCE_BINS = 10
GOOD_DICE = 0.5
"""Minimum Dice of a good outline, which a confidence should distinguish from bad ones."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The stated values within a range, and the values observed for them."""

    low: float
    high: float
    count: int
    stated: float
    """Mean of the stated values, between low and high."""
    observed: float
    """Mean of the observed values, 0..1."""


class Reliability:
    """Compares stated values 0..1 with observed ones, in bins of equal width; grows image by image.

    A value on the border of two bins belongs to the upper one, 1 to the last.
    """

    def __init__(self, bins: int = 15) -> None:
        self._sums = np.zeros((3, bins))
        """Count, sum of the stated and sum of the observed values, of each bin."""
        self._squares = 0.0

    def add(self, stated: Numbers, observed: Numbers) -> None:
        """Add values of one shape: ``stated`` is clipped to 0..1, ``observed`` lies in it (0 or 1, or Dice).

        Raises ValueError for shapes that differ and for values that are not numbers.
        """
        said = np.clip(np.asarray(stated, np.float64).ravel(), 0, 1)
        seen = np.asarray(observed, np.float64).ravel()
        if np.shape(stated) != np.shape(observed) or not (
            np.isfinite(said).all() and np.isfinite(seen).all()
        ):
            raise ValueError(
                f"stated {np.shape(stated)} and observed {np.shape(observed)} must be finite and of one shape"
            )
        bins = self._sums.shape[1]
        index = np.minimum((said * bins).astype(np.intp), bins - 1)
        for row, weights in enumerate((None, said, seen)):
            self._sums[row] += np.bincount(index, weights, minlength=bins)
        self._squares += float(((said - seen) ** 2).sum())

    @property
    def count(self) -> int:
        """Values added so far."""
        return int(self._sums[0].sum())

    @property
    def ece(self) -> float | None:
        """Expected calibration error, 0..1: the absolute difference of stated and observed mean in each bin,
        weighted by the bins' counts (Naeini et al. 2015); None without values."""
        return float(abs(self._sums[1] - self._sums[2]).sum() / self.count) if self.count else None

    @property
    def brier(self) -> float | None:
        """Mean square of stated minus observed, 0..1 (Brier 1950); None without values."""
        return self._squares / self.count if self.count else None

    @property
    def bins(self) -> tuple[Bin, ...]:
        """The bins that are not empty, in order."""
        total = self._sums.shape[1]
        return tuple(
            Bin(
                index / total, (index + 1) / total, int(count), float(stated / count), float(observed / count)
            )
            for index, (count, stated, observed) in enumerate(self._sums.T)
            if count
        )


def rank_correlation(a: Numbers, b: Numbers) -> float | None:
    """Spearman's rank correlation, -1..1; ties share their mean rank. None if either does not vary."""
    first, second = _ranks(a), _ranks(b)
    if first.size == 0 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def auroc(scores: Numbers, good: Numbers) -> float | None:
    """The chance that a good one scores higher than a bad one (ties are half), 0..1; None without both kinds.

    ``good`` is true or false of each score. This is the area under the ROC curve (Hanley & McNeil 1982).
    """
    ranks, is_good = _ranks(scores), np.asarray(good, np.bool_)
    positives = int(is_good.sum())
    negatives = is_good.size - positives
    if positives == 0 or negatives == 0:
        return None
    return float((ranks[is_good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def judge_confidence(confidence: Numbers, dice: Numbers) -> dict[str, Any]:
    """How well a confidence predicts the Dice of the outline, as plain values for JSON.

    ``ece`` and ``bins`` compare it with the Dice; ``spearman`` says whether it ranks the images as their Dice
    does, ``auroc`` whether it separates those of Dice >= 0.5 from the others; None if undefined.
    """
    reliability = Reliability(CONFIDENCE_BINS)
    reliability.add(confidence, dice)
    return {
        "ece": reliability.ece,
        "spearman": rank_correlation(confidence, dice),
        "auroc": auroc(confidence, np.asarray(dice, np.float64) >= GOOD_DICE),
        "bins": [asdict(part) for part in reliability.bins],
    }


def _ranks(values: Numbers) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = ((2 * last - counts + 1) / 2)[which]
    return ranks
