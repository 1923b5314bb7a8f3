"""The stored figures of a replication, finished or not. Reading them needs no data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import DataError, UsageError
from streamseg.core.files import read_json
from streamseg.core.numbers import finite_number, whole_number
from streamseg.reproduction.plan import (
    FORMAT,
    PLAN_FILE,
    Chosen,
    ReplicationPlan,
    Trial,
    read_plan,
    run_folder,
)
from streamseg.reproduction.timing import Timing, read_timing
from streamseg.reproduction.trials import TrialResult, choose, read_trials

RESULT = "result.json"
"""A finished run's figures, in its folder."""

COLLAPSED = 0.99
"""A net has collapsed if it finds nothing in at least this share of the images with nerve."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoldResult:
    """One net trained on one fold."""

    format: int
    net: str
    fold: int
    """From 0."""
    parameters: int
    train_images: int
    validation_images: int
    example: str
    """Name of the fold's example image."""
    machine: Mapping[str, Any]
    finished: str
    """Date and time, ISO 8601, UTC."""
    epochs: list[dict[str, Any]]
    """Lines of the log: epoch, step (done by its end), loss (mean), dice, seconds (of its steps)."""
    losses: list[float]
    """Training loss of every step."""
    images: list[dict[str, Any]]
    """Of every held-back image: name, dice, iou, nerve, found, and subject (absent in older results)."""
    rate: float | None = None
    """Learning rate; None in older results, whose plan has it."""
    precision: str | None = None
    """Arithmetic; None in older results."""

    @property
    def dice(self) -> list[float]:
        return [image["dice"] for image in self.images]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.losses) // len(self.epochs)

    @property
    def seconds(self) -> float:
        """Time of all steps; neither validation nor saving."""
        return float(sum(epoch["seconds"] for epoch in self.epochs))

    @property
    def step_seconds(self) -> float:
        """Median over epochs of the time of a step, which a busy machine distorts less than the mean."""
        return float(median(epoch["seconds"] for epoch in self.epochs)) / self.steps_per_epoch

    @property
    def final_loss(self) -> float:
        """Mean training loss of the last epoch's steps."""
        return self.loss_at(len(self.losses))

    def loss_at(self, step: int) -> float:
        """Mean training loss of an epoch's steps, of which ``step`` (counted from 1) is the last."""
        return fmean(self.losses[max(0, step - self.steps_per_epoch) : step])

    @property
    def empty(self) -> float:
        """Share of the held-back images with nerve in which nothing is found; 0 if there are none."""
        found = [image["found"] for image in self.images if image["nerve"]]
        return 1 - sum(found) / len(found) if found else 0.0

    @property
    def collapsed(self) -> bool:
        """Whether it finds nothing, which is no nerve in nearly all images."""
        return self.empty >= COLLAPSED


@dataclass(frozen=True)
class Results:
    """The contents of a report."""

    plan: ReplicationPlan
    settings: Mapping[str, Any]
    """Those of the plan, as they are stored."""
    data: Mapping[str, Any]
    open_choices: Mapping[str, str]
    runs: Mapping[tuple[str, int], FoldResult]
    """By name and fold."""
    trials: Mapping[Trial, TrialResult]
    timing: Timing | None
    """Of steps timed in turn; None if they were not."""

    @property
    def nets(self) -> list[str]:
        """The paper's nets that are compared."""
        return list(self.plan.nets)

    @property
    def beside(self) -> list[str]:
        """Names of the nets beside them that have a finished run on a complete fold."""
        names = self.plan.names[len(self.plan.nets) :]
        return [name for name in names if self.compared(name)]

    @property
    def folds(self) -> int:
        return self.plan.folds

    @property
    def missing(self) -> list[tuple[str, int]]:
        return [run for run in self.plan.runs() if run not in self.runs]

    @cached_property
    def complete(self) -> list[int]:
        """Folds that each of the paper's nets has finished: only these are compared."""
        return [fold for fold in range(self.folds) if all((net, fold) in self.runs for net in self.nets)]

    @cached_property
    def chosen(self) -> Chosen | None:
        """What the trials decided; None before they are done."""
        return choose(self.plan, self.trials)

    def compared(self, name: str) -> list[FoldResult]:
        """The finished runs of a name on the complete folds."""
        return [self.runs[name, fold] for fold in self.complete if (name, fold) in self.runs]

    @property
    def subjects(self) -> list[str | None]:
        """The subject of each image of the complete folds, None if it is not known."""
        return self.subjects_of(self.nets[0])

    def subjects_of(self, name: str) -> list[str | None]:
        return [image.get("subject") for run in self.compared(name) for image in run.images]

    def dice(self, name: str, like: str | None = None) -> Values:
        """Dice of all held-back images of the complete folds, of those alone that ``like`` has finished.

        All nets have the same images in one order.
        """
        runs = [run for run in self.compared(name) if like is None or (like, run.fold) in self.runs]
        return np.array([dice for run in runs for dice in run.dice], np.float64)


def read_results(out: Path) -> Results:
    """Read a report's folder.

    Raises UsageError if there is no report, DataError for a damaged file, which it names.
    """
    plan = read_plan(out)
    if plan is None:
        raise UsageError(
            f"there is no report in {out} (no {PLAN_FILE}); start one with 'streamseg reproduce'"
        )
    try:
        own = ReplicationPlan.of(plan["settings"])
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise DataError(
            f"{out / PLAN_FILE} is damaged ({error!r}); restore it or choose another --out"
        ) from error
    runs = {(name, fold): read_run(run_folder(out, name, fold)) for name, fold in own.runs()}
    found = {key: run for key, run in runs.items() if run is not None}
    _check_folds(out, found)
    trials = read_trials(out, own)
    timing = read_timing(out, own.nets)
    return Results(own, plan["settings"], plan["data"], plan["open_choices"], found, trials, timing)


def _check_folds(out: Path, runs: Mapping[tuple[str, int], FoldResult]) -> None:
    """Raise DataError unless all nets were measured on the same images of a fold."""
    names: dict[int, list[str]] = {}
    for (net, fold), run in runs.items():
        own = [image["name"] for image in run.images]
        if names.setdefault(fold, own) != own:
            raise DataError(
                f"{run_folder(out, net, fold)} was measured on other images than the fold's other nets; "
                "remove it and run again"
            )


def read_run(folder: Path) -> FoldResult | None:
    """A run's figures, or None if it is not finished. Raises DataError."""
    value = read_json(folder / RESULT)
    if value is None:
        return None
    try:
        run = FoldResult(**value)
    except TypeError as error:
        raise DataError(f"{folder / RESULT} is damaged ({error}); remove it and run again") from error
    if (
        run.format != FORMAT
        or not _is_whole(run)
        or not run.epochs
        or len(run.losses) < len(run.epochs)
        or not run.images
    ):
        raise DataError(f"{folder / RESULT} is of another version or incomplete; remove it and run again")
    return run


def _is_whole(run: FoldResult) -> bool:
    """Whether all figures have the right types and are within bounds."""
    lists = (run.epochs, run.losses, run.images)
    if not all(isinstance(values, list) for values in lists) or not isinstance(run.machine, dict):
        return False
    if not all(isinstance(row, dict) for row in (*run.epochs, *run.images)):
        return False
    counts = (run.fold, run.parameters, run.train_images, run.validation_images)
    return (
        all(whole_number(count, 0, 10**12) is not None for count in counts)
        and all(isinstance(text, str) for text in (run.net, run.example, run.finished))
        and (run.rate is None or finite_number(run.rate, 0, 1) is not None)
        and all(finite_number(loss, -1e9, 1e9) is not None for loss in run.losses)
        and all(
            finite_number(epoch.get(key), -1e12, 1e12) is not None
            for epoch in run.epochs
            for key in ("loss", "dice", "seconds")
        )
        and all(map(_is_image, run.images))
    )


def _is_image(image: Mapping[str, Any]) -> bool:
    return (
        isinstance(image.get("name"), str)
        and isinstance(image.get("subject"), str | None)
        and all(isinstance(image.get(key), bool) for key in ("nerve", "found"))
        and all(finite_number(image.get(key), 0, 1) is not None for key in ("dice", "iou"))
    )
