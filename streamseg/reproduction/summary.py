"""Computes the figures of the tables and claims from the stored results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np

from streamseg.evaluation.intervals import bootstrap_interval, paired_test, resampled_unit
from streamseg.reproduction.results import Results, Values

LEVEL = 0.95
"""Of all intervals."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its interval; these are None for a single value."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, mean: float, low: float, high: float) -> Interval:
        """Ends that are not a number become None."""
        return cls(mean, low if np.isfinite(low) else None, high if np.isfinite(high) else None)

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high is not None and self.high < 0

    def text(self, form: str = ".3f") -> str:
        """``mean [low, high]``, each in the format given."""
        if self.low is None or self.high is None:
            return f"{self.mean:{form}} [unknown]"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True, slots=True)
class NetFigures:
    """One net over the complete folds."""

    net: str
    dice: Interval
    """Mean over all held-back images pooled."""
    dice_median: float
    dice_folds: list[float]
    """Mean of each complete fold."""
    seconds: float
    """Training time, all complete folds together."""
    step_seconds: list[float]
    """Median time of a step, for each complete fold."""
    final_loss: list[float]
    """Mean training loss of the last epoch, for each complete fold."""


@dataclass(frozen=True, slots=True)
class NetComparison:
    """Two nets on the same images and folds; differences are a minus b."""

    a: str
    b: str
    dice: Interval
    """Over the images."""
    p_value: float
    test: str
    """The test that gave the p-value."""
    gain_percent: float | None
    """Gain of a's mean Dice over b's, in percent of b's; None if b's is 0."""
    loss: Interval
    """Of the final training loss, over the folds (t interval)."""
    time_ratios: list[float]
    """Time of a step of a over that of b, for each fold."""


@dataclass(frozen=True, slots=True)
class ReplicationSummary:
    """All nets compared. Empty if no fold is complete."""

    nets: dict[str, NetFigures]
    comparisons: dict[tuple[str, str], NetComparison]
    """By (a, b), for every pair in both orders."""
    resampled: str = "images"
    """What intervals and tests of the Dice take as independent: ``subjects`` if they are known."""


def summarise(results: Results) -> ReplicationSummary:
    """The figures of the complete folds."""
    if not results.complete:
        return ReplicationSummary({}, {})
    figures = {net: _figures(results, net) for net in results.nets}
    pairs = [pair for both in combinations(results.nets, 2) for pair in (both, both[::-1])]
    comparisons = {(a, b): _compare(results, figures[a], figures[b]) for a, b in pairs}
    return ReplicationSummary(figures, comparisons, resampled_unit(results.subjects))


def _figures(results: Results, net: str) -> NetFigures:
    runs, dice = results.compared(net), results.dice(net)
    low, high = bootstrap_interval(dice, level=LEVEL, subjects=results.subjects)
    return NetFigures(
        net,
        Interval.of(float(dice.mean()), low, high),
        float(np.median(dice)),
        [fmean(run.dice) for run in runs],
        sum(run.seconds for run in runs),
        [run.step_seconds for run in runs],
        [run.final_loss for run in runs],
    )


def _compare(results: Results, a: NetFigures, b: NetFigures) -> NetComparison:
    losses = np.array(a.final_loss) - np.array(b.final_loss)
    dice = paired_test(results.dice(a.net), results.dice(b.net), level=LEVEL, subjects=results.subjects)
    return NetComparison(
        a.net,
        b.net,
        Interval.of(dice.difference, dice.low, dice.high),
        dice.p_value,
        dice.test,
        100 * (a.dice.mean / b.dice.mean - 1) if b.dice.mean else None,
        t_interval(losses),
        [mine / max(other, 1e-12) for mine, other in zip(a.step_seconds, b.step_seconds, strict=True)],
    )


def t_interval(values: Sequence[float] | Values) -> Interval:
    """Mean of a few values with its interval by Student's t."""
    from scipy.stats import t

    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, None, None)
    reach = float(t.ppf(0.5 + LEVEL / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - reach, mean + reach)
