"""Risk against coverage: how bad the outlines are that remain if those of low confidence are left out.

Risk is 1 - Dice, averaged over the outlines kept; coverage is their share of all outlines. Outlines are kept
in order of falling confidence. The area under the curve (AURC; Geifman, Uziel & El-Yaniv 2019, ICLR) is the
mean risk over all coverages: ``aurc_best`` is that of a confidence which ranks outlines exactly as their Dice
does, and the risk at full coverage is that of one which says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POINTS = 10
"""Coverages listed: a tenth, two tenths, ..., all."""


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """What remains above a limit of the confidence."""

    coverage: float
    """Share of the outlines kept, 0..1."""
    confidence: float
    """Lowest confidence kept."""
    risk: float
    """1 - Dice, mean over those kept."""


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The curve of some outlines."""

    outlines: int
    aurc: float
    aurc_best: float
    points: tuple[RiskPoint, ...]
    """At most :data:`POINTS`, by rising coverage."""


def risk_coverage(confidence: Sequence[float], dice: Sequence[float]) -> RiskCoverage | None:
    """The curve of outlines with these confidences and Dice, of one length; None without any."""
    if not confidence:
        return None
    said, risk = np.asarray(confidence, np.float64), 1 - np.asarray(dice, np.float64)
    kept = curve(said, risk)
    places = np.unique(np.ceil(np.arange(1, POINTS + 1) * len(risk) / POINTS).astype(int))
    lowest = np.sort(said)[::-1]
    points = tuple(
        RiskPoint(float(place / len(risk)), float(lowest[place - 1]), float(kept[place - 1]))
        for place in places
    )
    return RiskCoverage(len(risk), float(kept.mean()), float(curve(-risk, risk).mean()), points)


def curve(confidence: npt.NDArray[np.float64], risk: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean risk of the 1, 2, ..., n most confident; those of equal confidence share their mean risk."""
    _, group = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(group, risk) / np.bincount(group))[group]
    ordered = shared[np.argsort(group, kind="stable")]
    return np.asarray(np.cumsum(ordered) / np.arange(1, len(ordered) + 1), np.float64)
