"""Evaluates an engine on labelled images, one image at a time."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from streamseg.core.types import Frame, State
from streamseg.datasets.reader import Sample
from streamseg.evaluation.calibration_error import Reliability, judge_confidence
from streamseg.evaluation.intervals import bootstrap_interval, resampled_unit
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.evaluation.surface_distance import (
    Distances,
    DistanceSummary,
    summarise_distances,
    surface_distances,
)
from streamseg.segmentation.segmenter import Segmenter


def confusions(samples: Iterable[Sample], segmenter: Segmenter) -> Iterator[tuple[str, Confusion]]:
    """Name and confusion count, in the image's own pixels, of each sample. Raises DataError for a bad one."""
    for index, sample in enumerate(samples):
        found = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        yield sample.name, Confusion.count(found.mask, sample.nerve)


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """An engine's figures for one image, in the image's own pixels."""

    name: str
    count: Confusion
    distances: Distances | None
    """In pixels; None if the engine or the label has no nerve."""
    distances_mm: Distances | None
    """In millimetres; None also if the spacing is unknown."""
    confidence: float
    state: State

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers and None."""
        px, mm = self.distances, self.distances_mm
        return {
            "name": self.name,
            "dice": self.count.dice,
            "iou": self.count.iou,
            "nerve": self.count.nerve_present,
            "found": self.count.nerve_predicted,
            "hd95_px": px and px.hd95,
            "asd_px": px and px.asd,
            "hd95_mm": mm and mm.hd95,
            "asd_mm": mm and mm.asd,
            "confidence": self.confidence,
            "state": str(self.state),
        }


class Evaluation:
    """Figures of an engine on labelled images; grows image by image."""

    def __init__(self, segmenter: Segmenter, spacing_mm: tuple[float, float] | None = None) -> None:
        """``segmenter`` takes whole images; ``spacing_mm`` is mm per pixel (row, column), None if unknown."""
        self._segmenter = segmenter
        self._spacing_mm = spacing_mm
        self._pixels = Reliability()
        self._subjects: list[str | None] = []
        self.images: list[ImageFigures] = []
        """One for each sample, in the order added."""

    def add(self, sample: Sample) -> ImageFigures:
        """Segment one sample and compare. Raises EngineError, and what the segmenter raises."""
        frame = Frame(sample.image, len(self.images), time.monotonic_ns(), spacing_mm=self._spacing_mm)
        prepared = self._segmenter.prepare(frame)
        found = self._segmenter.finish(prepared, self._segmenter.infer(prepared))
        if found.probability is not None:
            self._pixels.add(prepared.letterbox.undo(found.probability), sample.nerve)
        mm = self._spacing_mm and surface_distances(found.mask, sample.nerve, self._spacing_mm)
        figures = ImageFigures(
            name=sample.name,
            count=Confusion.count(found.mask, sample.nerve),
            distances=surface_distances(found.mask, sample.nerve),
            distances_mm=mm or None,
            confidence=found.confidence,
            state=found.state,
        )
        self.images.append(figures)
        self._subjects.append(sample.subject)
        return figures

    def to_json(self) -> dict[str, Any]:
        """Figures over all images, as plain values; undefined ones are None. Raises ValueError for no images.

        ``dice_interval`` is the 95 % bootstrap interval of the mean, None for a single image or subject;
        ``interval_over`` says what was resampled, ``subjects`` or, if they are not known, ``images``.
        Distances are over the ``outlines``, the images in which both engine and label have nerve.
        ``pixel_ece`` and ``pixel_brier`` are of every pixel of all images, most of which are easy background.
        ``confidence`` is compared with the images' Dice.
        """
        summary = summarise([image.count for image in self.images])
        dice = [image.count.dice for image in self.images]
        ends = bootstrap_interval(dice, subjects=self._subjects)
        px = summarise_distances(image.distances for image in self.images)
        mm = summarise_distances(image.distances_mm for image in self.images)
        return {
            **asdict(summary),
            "dice_interval": list(ends) if math.isfinite(ends[0]) else None,
            "interval_over": resampled_unit(self._subjects),
            "subjects": len(set(self._subjects) - {None}) or None,
            "outlines": px.images if px else 0,
            **_distance_figures(px, "px"),
            **_distance_figures(mm, "mm"),
            "pixel_ece": self._pixels.ece,
            "pixel_brier": self._pixels.brier,
            "confidence": judge_confidence([image.confidence for image in self.images], dice),
            "states": {str(state): n for state, n in Counter(image.state for image in self.images).items()},
        }


def _distance_figures(found: DistanceSummary | None, unit: str) -> dict[str, Any]:
    """Means and medians by name and unit, all None if nothing was measured."""
    names = ("hd95_mean", "hd95_median", "asd_mean", "asd_median")
    return {f"{name}_{unit}": found and getattr(found, name) for name in names}
