"""Computes the figures of the tables and claims from the stored results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

import numpy as np

from streamseg.evaluation.intervals import bootstrap_interval, paired_test, resampled_unit
from streamseg.reproduction.architecture import step_gflop
from streamseg.reproduction.plan import BEST
from streamseg.reproduction.results import FoldResult, Results, Values

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
    collapsed: int = 0
    """Runs that find nothing in nearly all images with nerve (:data:`~.results.COLLAPSED`)."""
    gflop: float | None = None
    """Arithmetic of a training step, 10^9 operations; None for nets that the paper does not have."""


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """A net's training step, timed in turn with those of the other nets."""

    rounds: int
    step_seconds: float
    """Median."""
    ratio: float
    """Median over the rounds of its time over SegNet's."""
    low: float
    """10th percentile of the ratio."""
    high: float
    """90th percentile."""


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
    """Of the training loss at the last iteration that both reached, over the folds (t interval)."""
    time_ratios: list[float]
    """Time of a step of a over that of b, for each fold."""
    dice_learnt: Interval | None = None
    """The Dice once more, of the folds in which neither collapsed; None if that is all of them or none."""


@dataclass(frozen=True, slots=True)
class ReplicationSummary:
    """All nets compared. Empty if no fold is complete."""

    nets: dict[str, NetFigures]
    comparisons: dict[tuple[str, str], NetComparison]
    """By (a, b), for every pair in both orders."""
    resampled: str = "images"
    """What intervals and tests of the Dice take as independent: ``subjects`` if they are known."""
    unequal: bool = False
    """Whether nets of one fold ended after different numbers of steps."""
    turns: dict[str, TurnFigures] = field(default_factory=dict)
    """Times of steps measured in turn, by net; empty if they were not."""
    beside: dict[str, NetFigures] = field(default_factory=dict)
    """What was trained by the recipe ``best``, by name."""
    beside_comparisons: list[NetComparison] = field(default_factory=list)
    """Each of them against the same net by the paper's recipe, or the improved U-Net; then one another."""


def summarise(results: Results) -> ReplicationSummary:
    """The figures of the complete folds."""
    if not results.complete:
        return ReplicationSummary({}, {})
    figures = {net: _figures(results, net) for net in results.nets}
    pairs = [pair for both in combinations(results.nets, 2) for pair in (both, both[::-1])]
    comparisons = {(a, b): _compare(results, a, b) for a, b in pairs}
    beside = results.beside
    own = [(name, _origin(results, name)) for name in beside]
    others = [(a, b) for b, a in combinations(beside, 2) if results.subjects_of(a) == results.subjects_of(b)]
    return ReplicationSummary(
        figures,
        comparisons,
        resampled_unit(results.subjects),
        any(
            len({len(results.runs[net, fold].losses) for net in results.nets}) > 1
            for fold in results.complete
        ),
        _turns(results),
        {name: _figures(results, name) for name in beside},
        [_compare(results, a, b) for a, b in (*own, *others)],
    )


def _turns(results: Results) -> dict[str, TurnFigures]:
    if results.timing is None or "segnet" not in results.timing:
        return {}
    other = np.array(results.timing["segnet"])
    found = {}
    for net, values in results.timing.items():
        ratios = np.array(values) / other
        low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        found[net] = TurnFigures(
            len(values), float(np.median(values)), float(middle), float(low), float(high)
        )
    return found


def _origin(results: Results, name: str) -> str:
    """The net by the paper's recipe that one by the recipe ``best`` is compared with."""
    net = name.removesuffix(BEST)
    return net if net in results.nets else results.nets[-1]


def _figures(results: Results, net: str) -> NetFigures:
    runs, dice = results.compared(net), results.dice(net)
    low, high = bootstrap_interval(dice, level=LEVEL, subjects=results.subjects_of(net))
    config = results.plan.config
    gflop = step_gflop(net, config.height, config.width, config.batch) if net in results.nets else None
    return NetFigures(
        net,
        Interval.of(float(dice.mean()), low, high),
        float(np.median(dice)),
        [fmean(run.dice) for run in runs],
        sum(run.seconds for run in runs),
        [run.step_seconds for run in runs],
        [run.final_loss for run in runs],
        sum(run.collapsed for run in runs),
        gflop,
    )


def _compare(results: Results, a: str, b: str) -> NetComparison:
    """Two names on the folds that ``a`` has finished; ``b`` has finished them too."""
    runs = [(run, results.runs[b, run.fold]) for run in results.compared(a)]
    own, other = results.dice(a), results.dice(b, like=a)
    dice = paired_test(own, other, level=LEVEL, subjects=results.subjects_of(a))
    ends = [min(len(run.losses) for run in pair) for pair in runs]
    losses = [mine.loss_at(end) - its.loss_at(end) for (mine, its), end in zip(runs, ends, strict=True)]
    return NetComparison(
        a,
        b,
        Interval.of(dice.difference, dice.low, dice.high),
        dice.p_value,
        dice.test,
        100 * float(own.mean() / other.mean() - 1) if other.mean() else None,
        t_interval(losses),
        [mine.step_seconds / max(its.step_seconds, 1e-12) for mine, its in runs],
        _dice_learnt(runs),
    )


def _dice_learnt(runs: Sequence[tuple[FoldResult, FoldResult]]) -> Interval | None:
    learnt = [pair for pair in runs if not any(run.collapsed for run in pair)]
    if len(learnt) in (0, len(runs)):
        return None
    differences = [a - b for mine, its in learnt for a, b in zip(mine.dice, its.dice, strict=True)]
    subjects = [image.get("subject") for mine, _ in learnt for image in mine.images]
    low, high = bootstrap_interval(differences, level=LEVEL, subjects=subjects)
    return Interval.of(fmean(differences), low, high)


def t_interval(values: Sequence[float] | Values) -> Interval:
    """Mean of a few values with its interval by Student's t."""
    from scipy.stats import t

    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, None, None)
    reach = float(t.ppf(0.5 + LEVEL / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - reach, mean + reach)
