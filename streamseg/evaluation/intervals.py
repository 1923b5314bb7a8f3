"""Bootstrap intervals of a mean over images, and a paired test of whether two nets differ.

Images of one subject are alike, so that ten of them say little more than one. If subjects are known, they are
what is resampled and tested (the cluster bootstrap; Davison & Hinkley 1997, section 3.8); otherwise images
count as independent, and the intervals are too narrow for data with several images of a subject.
"""

from __future__ import annotations

import math
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
Subjects = Sequence[str | None]
"""The subject of each value; None for all if they are not known."""
Interval = tuple[float, float] | None
"""Low and high; None if there is none: for no values, a single one, or a single subject."""


def resampled_unit(subjects: Subjects | None) -> str:
    """What intervals and tests take as independent: ``subjects`` if all are known, else ``images``."""
    return "subjects" if _known(subjects) else "images"


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
    subjects: Subjects | None = None,
) -> tuple[float, float]:
    """The confidence interval of the mean of the values at ``level``: low, high.

    Bias-corrected and accelerated bootstrap (BCa; Efron 1987), which, unlike plain percentiles, holds for
    skewed values such as Dice. If all ``subjects`` are given, one for each value, whole subjects are drawn,
    and the tails are widened to those of Student's t (Hesterberg 2015, "expanded percentiles"), because
    subjects are few. The same seed gives the same interval. Equal values give an interval without
    width. A single value or subject has no interval; both ends are NaN. Raises ValueError for no values,
    values that are not finite, another number of subjects than values, a level outside 0..1 (exclusive) and
    fewer than 100 resamples.
    """
    sample = _checked(values)
    if not 0 < level < 1 or resamples < 100:
        raise ValueError(f"level {level} must be between 0 and 1, resamples {resamples} at least 100")
    sums, sizes = _by_subject(sample, subjects)
    if sums.size == 1:
        return float("nan"), float("nan")
    if np.ptp(sums / sizes) <= 1e-12 * np.abs(sums / sizes).max():
        return float(sums[0] / sizes[0]), float(sums[0] / sizes[0])
    means = _resampled_means(sums, sizes, resamples, seed)
    tail = (1 - level) / 2
    reach = _student_reach(tail, sums.size) if _known(subjects) else -NormalDist().inv_cdf(tail)
    # Leaving one out moves the mean by nearly this, up to a factor that the acceleration does not depend on.
    away = sums - sizes * sample.mean()
    low, high = np.quantile(means, _bca_levels(float(sample.mean()), away, means, reach))
    return float(low), float(high)


def interval_of_mean(values: Sequence[float], subjects: Subjects | None = None) -> Interval:
    """:func:`bootstrap_interval`, or None where it is not defined."""
    if not values:
        return None
    low, high = bootstrap_interval(values, subjects=subjects)
    return (low, high) if math.isfinite(low) else None


def _known(subjects: Subjects | None) -> bool:
    return bool(subjects) and all(subject is not None for subject in subjects or ())


def _by_subject(sample: Values, subjects: Subjects | None) -> tuple[Values, Values]:
    """Sum and number of the values of each subject, in the order in which they appear."""
    if subjects is not None and len(subjects) != sample.size:
        raise ValueError(f"{len(subjects)} subjects do not name those of {sample.size} values")
    if not _known(subjects):
        return sample, np.ones_like(sample)
    number = {subject: index for index, subject in enumerate(dict.fromkeys(subjects or ()))}
    rows = [number[subject] for subject in subjects or ()]
    return np.bincount(rows, sample).astype(np.float64), np.bincount(rows).astype(np.float64)


def _resampled_means(sums: Values, sizes: Values, resamples: int, seed: int) -> Values:
    """Means over the values of ``resamples`` samples of subjects drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // sums.size)
    single = bool((sizes == 1).all())
    parts = []
    for done in range(0, resamples, rows):
        drawn = generator.integers(sums.size, size=(min(rows, resamples - done), sums.size))
        mean = sums[drawn].mean(axis=1)
        parts.append(mean if single else mean / sizes[drawn].mean(axis=1))
    return np.concatenate(parts)


def _student_reach(tail: float, count: int) -> float:
    """Standard errors beyond which the tail of Student's t of ``count`` values lies."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, count - 1) > tail else (low, middle)
    return high * math.sqrt(count / (count - 1))


def _student_tail(t: float, degrees: int) -> float:
    """Share of Student's t distribution above t >= 0 (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 - inside) / 2


def _bca_levels(mean: float, away: Values, means: Values, reach: float) -> tuple[float, float]:
    """The quantiles of the resampled means that are the interval's ends, ``reach`` standard errors away."""
    normal = NormalDist()
    # Ties count half. Kept off 0 and 1, at which the normal quantile is infinite.
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * means.size)
    bias = normal.inv_cdf(min(max(below, 0.5 / means.size), 1 - 0.5 / means.size))
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))

    def corrected(distance: float) -> float:
        shifted = bias + distance
        # Beyond the pole, which few values reach, the correction would turn around.
        return normal.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-3))

    return corrected(-reach), corrected(reach)


def paired_test(
    a: Sequence[float] | npt.NDArray[np.generic],
    b: Sequence[float] | npt.NDArray[np.generic],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    subjects: Subjects | None = None,
) -> Paired:
    """Compare two methods on the same images, such as two nets by their Dice: the mean of a - b.

    The test is Wilcoxon's signed-rank test, two-sided, exact for few pairs without ties; equal pairs
    (both nets correctly find nothing) carry no information and are left out. If all ``subjects`` are given,
    one for each pair, it is a test of the subjects' mean differences: with five subjects or fewer it cannot
    reach 0.05. The interval is that of :func:`bootstrap_interval`. Raises ValueError for no pairs, unequal
    numbers or values that are not finite, MissingExtra without scipy.
    """
    first, second = _checked(a), _checked(b)
    if first.size != second.size:
        raise ValueError(f"{first.size} and {second.size} values do not make pairs")
    differences = first - second
    low, high = bootstrap_interval(
        differences, level=level, resamples=resamples, seed=seed, subjects=subjects
    )
    sums, sizes = _by_subject(differences, subjects)
    p_value, test = _signed_rank(sums / sizes, "subjects" if _known(subjects) else "pairs")
    return Paired(float(differences.mean()), low, high, p_value, test)


def _signed_rank(differences: Values, unit: str) -> tuple[float, str]:
    unequal = np.count_nonzero(differences)
    name = f"Wilcoxon signed-rank, two-sided, {unequal} of {differences.size} {unit} unequal"
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
