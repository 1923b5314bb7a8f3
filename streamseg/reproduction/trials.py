"""Short runs before the folds: they choose each net's learning rate and whether bfloat16 changes anything.

They train on the first fold's images without those that the second fold holds back, and measure themselves on
these: the images that the first fold holds back take no part. All nets get the same rates, steps and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from streamseg.core.errors import DataError
from streamseg.core.files import read_json
from streamseg.core.numbers import finite_number, whole_number
from streamseg.datasets.split import Fold
from streamseg.reproduction.plan import FORMAT, FULL, Chosen, ReplicationPlan, Trial, trial_folder
from streamseg.training.config import Precision

RESULT = "result.json"
"""A finished trial's figures, in its folder."""
LOSS_TOLERANCE, DICE_TOLERANCE = 0.02, 0.05
"""bfloat16 counts as changing nothing if training loss and held-back Dice of no net differ by more."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The figures of a finished trial."""

    format: int
    net: str
    rate: float
    precision: Precision
    train_images: int
    validation_images: int
    epochs: list[dict[str, Any]]
    """Lines of the log, as those of a fold."""
    machine: Mapping[str, Any]
    finished: str
    """Date and time, ISO 8601, UTC."""

    @property
    def loss(self) -> float:
        """Mean training loss of the last epoch."""
        return float(self.epochs[-1]["loss"])

    @property
    def dice(self) -> float:
        """Held-back Dice, the mean over the second half of the epochs, because single ones scatter."""
        return fmean(epoch["dice"] for epoch in self.epochs[len(self.epochs) // 2 :])

    @property
    def step_seconds(self) -> float:
        """Median over the epochs of the time of a step."""
        times = sorted(float(epoch["seconds"]) for epoch in self.epochs)
        return times[len(times) // 2] * len(self.epochs) / float(self.epochs[-1]["step"])


Trials = Mapping[Trial, TrialResult]


@dataclass(frozen=True, slots=True)
class PrecisionCheck:
    """One net trained in bfloat16 and in float32, all else equal; differences are bfloat16 minus float32."""

    net: str
    rate: float
    loss: float
    """Difference of the last epoch's training loss."""
    dice: float
    """Difference of the held-back Dice."""
    time_ratio: float
    """Time of a step in bfloat16 over that in float32."""

    @property
    def agrees(self) -> bool:
        return abs(self.loss) <= LOSS_TOLERANCE and abs(self.dice) <= DICE_TOLERANCE


def trial_fold(folds: Sequence[Fold]) -> Fold:
    """What the trials train on and measure themselves on, of three folds or more."""
    held_back = folds[1].validation
    left_out = {*held_back}
    return Fold(tuple(row for row in folds[0].train if row not in left_out), held_back)


def rate_trials(plan: ReplicationPlan) -> list[Trial]:
    """The trials that do not depend on others' results; none for a plan without trials."""
    if not plan.has_trials:
        return []
    rates = plan.rates or (plan.config.learning_rate,)
    return [Trial(net, rate, plan.config.precision) for net in plan.nets for rate in rates]


def chosen_rates(plan: ReplicationPlan, found: Trials) -> dict[str, float]:
    """Each net's rate: that of the trial with the highest held-back Dice, of equal ones the lowest."""
    if not plan.rates:
        return dict(plan.default.rates)
    return {
        net: min(plan.rates, key=lambda rate: (-found[Trial(net, rate, plan.config.precision)].dice, rate))
        for net in plan.nets
    }


def precision_trials(plan: ReplicationPlan, found: Trials) -> list[Trial]:
    """Each net once more at its rate in float32, if the plan has another arithmetic."""
    if plan.config.precision == FULL:
        return []
    return [Trial(net, rate, FULL) for net, rate in chosen_rates(plan, found).items()]


def precision_checks(plan: ReplicationPlan, found: Trials) -> list[PrecisionCheck]:
    """A comparison for each net; empty if the plan has float32."""
    checks = []
    for full in precision_trials(plan, found):
        own, other = found[Trial(full.net, full.rate, plan.config.precision)], found[full]
        ratio = own.step_seconds / max(other.step_seconds, 1e-12)
        checks.append(
            PrecisionCheck(full.net, full.rate, own.loss - other.loss, own.dice - other.dice, ratio)
        )
    return checks


def missing_trials(plan: ReplicationPlan, found: Trials) -> Iterator[Trial]:
    """Trials not done yet, as far as is known: those of the arithmetic follow those of the rates."""
    open_ones = [trial for trial in rate_trials(plan) if trial not in found]
    yield from open_ones or (trial for trial in precision_trials(plan, found) if trial not in found)


def choose(plan: ReplicationPlan, found: Trials) -> Chosen | None:
    """What the finished trials decide; None while some are missing."""
    if any(missing_trials(plan, found)):
        return None
    agree = all(check.agrees for check in precision_checks(plan, found))
    return Chosen(chosen_rates(plan, found), plan.config.precision if agree else FULL)


def read_trials(out: Path, plan: ReplicationPlan) -> dict[Trial, TrialResult]:
    """The finished trials of a report. Raises DataError for a damaged file, which it names."""
    first = rate_trials(plan)
    found = _read(out, first)
    return found | _read(out, precision_trials(plan, found)) if len(found) == len(first) else found


def _read(out: Path, trials: Sequence[Trial]) -> dict[Trial, TrialResult]:
    results = {trial: read_trial(out, trial) for trial in trials}
    return {trial: result for trial, result in results.items() if result is not None}


def read_trial(out: Path, trial: Trial) -> TrialResult | None:
    """A trial's figures, or None if it is not finished. Raises DataError."""
    path = trial_folder(out, trial) / RESULT
    value = read_json(path)
    if value is None:
        return None
    try:
        result = TrialResult(**value)
        whole = (
            result.format == FORMAT
            and Trial(result.net, result.rate, result.precision) == trial
            and isinstance(result.machine, dict)
            and bool(result.epochs)
            and all(
                finite_number(epoch[key], -1e9, 1e9) is not None
                for epoch in result.epochs
                for key in ("loss", "dice", "seconds")
            )
            and whole_number(result.epochs[-1]["step"], 1, 10**12) is not None
        )
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error!r}); remove its folder and run again") from error
    if not whole:
        raise DataError(f"{path} is of another version or damaged; remove its folder and run again")
    return result
