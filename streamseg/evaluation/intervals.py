"""Bootstrap intervals of a mean over images, and a paired test of whether two nets differ.

Both assume independent images. Images of one volunteer are not quite independent, so the intervals are rather
too narrow if a data set does not name its subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import MissingExtra

LEVEL = 0.95
RESAMPLES = 10_000
CHUNK = 1_000_000
"""Resampled values held at a time, so that memory does not grow with the data set."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two methods compared on the same images: a minus b."""

    difference: float
    """Mean of the differences."""
    low: float
    """Lower end of its bootstrap interval; NaN for a single pair, which has no interval."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided; 1 if all differences are zero or there is only one pair."""
    test: str
    """The test that gave the p-value."""


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.generic],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The confidence interval of the mean of the values at ``level``: low, high.

    Bias-corrected and accelerated bootstrap (BCa; Efron 1987), which, unlike plain percentiles, holds for
    skewed values such as Dice. The same seed gives the same interval. Equal values give an interval without
    width. A single value has no interval; both ends are NaN. Raises ValueError for no values, values
    that are not finite, a level outside 0..1 (exclusive) and fewer than 100 resamples.
    """
    sample = _checked(values)
    if not 0 < level < 1 or resamples < 100:
        raise ValueError(f"level {level} must be between 0 and 1, resamples {resamples} at least 100")
    if sample.size == 1:
        return float("nan"), float("nan")
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    means = _resampled_means(sample, resamples, seed)
    low, high = np.quantile(means, _bca_levels(sample, means, level))
    return float(low), float(high)


def _resampled_means(sample: Values, resamples: int, seed: int) -> Values:
    """Means of ``resamples`` samples drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // sample.size)
    parts = [
        sample[generator.integers(sample.size, size=(min(rows, resamples - done), sample.size))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    return np.concatenate(parts)


def _bca_levels(sample: Values, means: Values, level: float) -> tuple[float, float]:
    """The quantiles of the resampled means that are the interval's ends."""
    normal, mean = NormalDist(), sample.mean()
    # Ties count half. Kept off 0 and 1, at which the normal quantile is infinite.
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * means.size)
    bias = normal.inv_cdf(min(max(below, 0.5 / means.size), 1 - 0.5 / means.size))
    # Leaving one value out moves the mean by its distance from it, divided by n - 1.
    away = sample - mean
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))

    def corrected(tail: float) -> float:
        shifted = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + shifted / (1 - acceleration * shifted))

    return corrected((1 - level) / 2), corrected((1 + level) / 2)


def paired_test(
    a: Sequence[float] | npt.NDArray[np.generic],
    b: Sequence[float] | npt.NDArray[np.generic],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare two methods on the same images, such as two nets by their Dice: the mean of a - b.

    The test is Wilcoxon's signed-rank test, two-sided, exact for few pairs without ties; equal pairs
    (both nets correctly find nothing) carry no information and are left out. The interval is that of
    :func:`bootstrap_interval`. Raises ValueError for no pairs, unequal numbers or values that are not finite,
    MissingExtra without scipy.
    """
    first, second = _checked(a), _checked(b)
    if first.size != second.size:
        raise ValueError(f"{first.size} and {second.size} values do not make pairs")
    differences = first - second
    low, high = bootstrap_interval(differences, level=level, resamples=resamples, seed=seed)
    p_value, test = _signed_rank(differences)
    return Paired(float(differences.mean()), low, high, p_value, test)


def _signed_rank(differences: Values) -> tuple[float, str]:
    unequal = np.count_nonzero(differences)
    name = f"Wilcoxon signed-rank, two-sided, {unequal} of {differences.size} pairs unequal"
    if unequal == 0:
        return 1.0, name
    try:
        from scipy.stats import wilcoxon
    except ImportError as error:
        raise MissingExtra("the paired test", "scipy", "train") from error
    return float(wilcoxon(differences[differences != 0]).pvalue), name


def _checked(values: Sequence[float] | npt.NDArray[np.generic]) -> Values:
    sample = np.asarray(values, np.float64).ravel()
    if sample.size == 0 or not np.isfinite(sample).all():
        what = f"{np.count_nonzero(~np.isfinite(sample))} of {sample.size} values are not finite"
        raise ValueError("no values given" if sample.size == 0 else what)
    return sample
