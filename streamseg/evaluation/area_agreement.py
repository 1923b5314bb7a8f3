"""Agreement of the outlined with the labelled area (Bland & Altman 1986): bias, and limits of agreement.

Each image in which both have the structure gives one difference, outlined minus labelled. The bias is
their mean; 95 of 100 differences are expected within the limits, bias -/+ 1.96 standard deviations.
Differences grow with the structure, so they are also given in percent of the mean of both areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from streamseg.evaluation.intervals import LEVEL, Interval, Subjects, interval_of_mean

_REACH = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the areas, in one unit."""

    bias: float
    """Mean of outlined minus labelled."""
    bias_interval: Interval
    """95 % bootstrap interval of the bias."""
    low: float | None
    """Lower limit of agreement; None for a single image."""
    high: float | None
    """Upper limit of agreement."""


def agreement(differences: Sequence[float], subjects: Subjects | None = None) -> Agreement | None:
    """Bias and limits of differences (outlined minus labelled); None without any."""
    if not differences:
        return None
    bias = fmean(differences)
    reach = _REACH * stdev(differences) if len(differences) > 1 else None
    return Agreement(
        bias=bias,
        bias_interval=interval_of_mean(differences, subjects),
        low=None if reach is None else bias - reach,
        high=None if reach is None else bias + reach,
    )


def percent_difference(outlined: float, labelled: float) -> float:
    """Outlined minus labelled in percent of the mean of both, -200..200; both are greater than 0."""
    return 200 * (outlined - labelled) / (outlined + labelled)
