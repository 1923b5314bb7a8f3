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
from streamseg.reproduction.plan import FORMAT, PLAN_FILE, read_plan, run_folder

RESULT = "result.json"
"""A finished run's figures, in its folder."""

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
        return fmean(self.losses[-self.steps_per_epoch :])


@dataclass(frozen=True)
class Results:
    """The contents of a report."""

    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    open_choices: Mapping[str, str]
    runs: Mapping[tuple[str, int], FoldResult]
    """By net and fold."""

    @property
    def nets(self) -> list[str]:
        return list(self.settings["nets"])

    @property
    def folds(self) -> int:
        return int(self.settings["folds"])

    @property
    def missing(self) -> list[tuple[str, int]]:
        wanted = [(net, fold) for fold in range(self.folds) for net in self.nets]
        return [run for run in wanted if run not in self.runs]

    @cached_property
    def complete(self) -> list[int]:
        """Folds that every net has finished: only these are compared."""
        return [fold for fold in range(self.folds) if all((net, fold) in self.runs for net in self.nets)]

    def compared(self, net: str) -> list[FoldResult]:
        """A net's runs on the complete folds."""
        return [self.runs[net, fold] for fold in self.complete]

    @cached_property
    def subjects(self) -> list[str | None]:
        """The subject of each of these images, None if it is not known."""
        runs = [self.runs[self.nets[0], fold] for fold in self.complete]
        return [image.get("subject") for run in runs for image in run.images]

    def dice(self, net: str) -> Values:
        """Dice of all held-back images of the complete folds; all nets have the same images in one order."""
        return np.array([dice for run in self.compared(net) for dice in run.dice], np.float64)


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
        nets, folds = plan["settings"]["nets"], plan["settings"]["folds"]
        runs = {(net, fold): read_run(run_folder(out, net, fold)) for fold in range(folds) for net in nets}
        found = {key: run for key, run in runs.items() if run is not None}
        _check_folds(out, found)
        return Results(plan["settings"], plan["data"], plan["open_choices"], found)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{out / PLAN_FILE} is damaged ({error!r}); restore it or choose another --out"
        ) from error


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
