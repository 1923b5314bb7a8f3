"""Evaluates an engine on labelled images, one image at a time."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np

from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Frame, Mask, State, Structure
from streamseg.datasets.reader import Sample
from streamseg.evaluation.area_agreement import agreement, percent_difference
from streamseg.evaluation.calibration_error import Reliability, judge_confidence
from streamseg.evaluation.intervals import Interval, Subjects, interval_of_mean, resampled_unit
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.evaluation.risk_coverage import risk_coverage
from streamseg.evaluation.surface_distance import (
    Distances,
    DistanceSummary,
    summarise_distances,
    surface_distances,
)
from streamseg.segmentation.segmenter import Segmenter

SIZES = 3
"""Parts of equal number into which images are divided by the size of the labelled structure."""


def confusions(samples: Iterable[Sample], segmenter: Segmenter) -> Iterator[tuple[str, Confusion]]:
    """Name and confusion count, in the image's own pixels, of each sample. Raises DataError for a bad one."""
    for index, sample in enumerate(samples):
        found = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        yield sample.name, Confusion.count(found.mask, sample.nerve)


@dataclass(frozen=True, slots=True)
class StructureFigures:
    """An engine's figures for one structure in one image, in the image's own pixels."""

    count: Confusion
    distances: Distances | None
    """In pixels; None if the engine or the label has none of the structure."""
    distances_mm: Distances | None
    """In millimetres; None also if the spacing is unknown."""
    confidence: float
    centroid_error_px: float | None
    """Distance of the masks' centroids in pixels; None if the engine or the label has none of it."""
    centroid_error_mm: float | None
    """In millimetres; None also if the spacing is unknown."""
    image_px: int
    """Pixels of the image."""

    @classmethod
    def of(cls, found: Structure, truth: Mask, spacing_mm: tuple[float, float] | None) -> StructureFigures:
        """Compare an outline with its label, bool of one shape."""
        apart = _apart(found.mask, truth)
        return cls(
            count=Confusion.count(found.mask, truth),
            distances=surface_distances(found.mask, truth),
            distances_mm=spacing_mm and surface_distances(found.mask, truth, spacing_mm),
            confidence=found.confidence,
            centroid_error_px=apart and math.hypot(*apart),
            centroid_error_mm=apart
            and spacing_mm
            and math.hypot(apart[0] * spacing_mm[0], apart[1] * spacing_mm[1]),
            image_px=truth.size,
        )

    @property
    def outlined(self) -> bool:
        """Whether both the engine and the label have the structure."""
        return self.count.found and self.count.present

    @property
    def labelled_share(self) -> float:
        """Share of the image that the label covers, 0..1."""
        return self.count.true / self.image_px

    @property
    def dice_if_withheld(self) -> float:
        """The Dice of no outline."""
        return 0.0 if self.count.present else 1.0

    def to_json(self) -> dict[str, Any]:
        """Numbers and None."""
        px, mm = self.distances, self.distances_mm
        return {
            "area_px": self.count.predicted,
            "labelled_area_px": self.count.true,
            "centroid_error_px": self.centroid_error_px,
            "centroid_error_mm": self.centroid_error_mm,
            "dice": self.count.dice,
            "iou": self.count.iou,
            "present": self.count.present,
            "found": self.count.found,
            "hd95_px": px and px.hd95,
            "asd_px": px and px.asd,
            "hd95_mm": mm and mm.hd95,
            "asd_mm": mm and mm.asd,
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """An engine's figures for one image."""

    name: str
    structures: Mapping[str, StructureFigures]
    """By name: the nerve, and every other structure that the engine outlines and the image has labels of."""
    state: State
    subject: str | None = None
    """The person scanned; None if unknown."""

    @property
    def nerve(self) -> StructureFigures:
        """The nerve's figures."""
        return self.structures[NERVE]

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers and None; the nerve's figures stand beside ``structures``, too."""
        nerve = self.nerve.to_json()
        return {
            "name": self.name,
            "nerve": nerve.pop("present"),
            **nerve,
            "state": str(self.state),
            "structures": {name: one.to_json() for name, one in self.structures.items()},
        }


class Evaluation:
    """Figures of an engine on labelled images; grows image by image."""

    def __init__(self, segmenter: Segmenter, spacing_mm: tuple[float, float] | None = None) -> None:
        """``segmenter`` takes whole images; ``spacing_mm`` is mm per pixel (row, column), None if unknown."""
        self._segmenter = segmenter
        self._spacing_mm = spacing_mm
        self._pixels: defaultdict[str, Reliability] = defaultdict(Reliability)
        self.images: list[ImageFigures] = []
        """One for each sample, in the order added."""

    def add(self, sample: Sample) -> ImageFigures:
        """Segment one sample and compare. Raises EngineError, and what the segmenter raises."""
        frame = Frame(sample.image, len(self.images), time.monotonic_ns(), spacing_mm=self._spacing_mm)
        prepared = self._segmenter.prepare(frame)
        planes = self._segmenter.infer(prepared)
        found = self._segmenter.finish(prepared, planes)
        labels = {NERVE: sample.nerve} | ({} if sample.vessel is None else {VESSEL: sample.vessel})
        structures: dict[str, StructureFigures] = {}
        for name, plane in zip(self._segmenter.backend.spec.structures, planes, strict=True):
            if name in labels:
                self._pixels[name].add(prepared.letterbox.undo(plane), labels[name])
                outline = found.structures[name]
                structures[name] = StructureFigures.of(outline, labels[name], self._spacing_mm)
        self.images.append(ImageFigures(sample.name, structures, found.state, sample.subject))
        return self.images[-1]

    def to_json(self) -> dict[str, Any]:
        """Figures over all images, as plain values; undefined ones are None. Raises ValueError for no images.

        Those of the nerve, then ``structures``: the same by structure, over the images that have labels of
        it, with what :meth:`details` gives. ``dice_interval`` is the 95 % bootstrap interval of the mean,
        None for a single image or subject; ``interval_over`` says what was resampled, ``subjects`` or, if
        they are not known, ``images``. Distances are over the ``outlines``, the images in which both engine
        and label have the structure. ``pixel_ece`` and ``pixel_brier`` are of every pixel of all images,
        most of which are easy background. ``confidence`` is compared with the images' Dice.
        """
        if not self.images:
            raise ValueError("no images to summarise")
        names = dict.fromkeys(name for image in self.images for name in image.structures)
        plain = {name: self._figures(name) for name in names}
        nerve = dict(plain[NERVE])
        confidence = nerve.pop("confidence")
        subjects = [image.subject for image in self.images]
        states = Counter(image.state for image in self.images)
        return {
            **nerve,
            "interval_over": resampled_unit(subjects),
            "subjects": len(set(subjects) - {None}) or None,
            "confidence": confidence,
            "states": {str(state): n for state, n in states.items()},
            "structures": {name: figures | self.details(name) for name, figures in plain.items()},
        }

    def labelled(self, name: str) -> list[ImageFigures]:
        """The images that have labels of a structure, also of its absence, in the order added."""
        return [image for image in self.images if name in image.structures]

    def details(self, name: str) -> dict[str, Any]:
        """More figures of one structure over the images that have labels of it, as plain values.

        ``detection`` counts images: ``true`` where engine and label both have the structure, ``misplaced``
        those of them in which outline and label share no pixel, ``false`` and ``missed`` where only the
        engine or only the label has it. ``intervals`` are of the means, at 95 %. Centroid errors and areas
        are over the images in which both have it; areas are outlined minus labelled
        (:mod:`streamseg.evaluation.area_agreement`). ``risk_coverage`` is over the images with an outline,
        wrong ones included. ``by_size`` divides the images with the structure by its labelled size into three
        parts of equal number; ``by_subject`` is None if subjects are not known. ``unlike`` is what it costs
        to withhold the outlines of images that are called unlike the training data.
        """
        images = self.labelled(name)
        subjects = [image.subject for image in images]
        pairs = [(image.structures[name], image.subject) for image in images]
        outlined = [(one, subject) for one, subject in pairs if one.outlined]
        both = [one for one, _ in outlined]
        whose = [subject for _, subject in outlined]
        found = [one for one, _ in pairs if one.count.found]
        px = [one.centroid_error_px for one in both if one.centroid_error_px is not None]
        mm = [one.centroid_error_mm for one in both if one.centroid_error_mm is not None]
        areas = [(one.count.predicted, one.count.true) for one in both]
        differences = [float(outline - label) for outline, label in areas]
        scale = None if self._spacing_mm is None else self._spacing_mm[0] * self._spacing_mm[1]
        in_px = agreement(differences, whose)
        in_mm2 = None if scale is None else agreement([scale * one for one in differences], whose)
        in_percent = agreement([percent_difference(*one) for one in areas], whose)
        curve = risk_coverage([one.confidence for one in found], [one.count.dice for one in found])
        return {
            "detection": _detection([one for one, _ in pairs]),
            "intervals": {
                "iou": interval_of_mean([one.count.iou for one, _ in pairs], subjects),
                "sensitivity": _interval_of_share(
                    [(one.count.found, subject) for one, subject in pairs if one.count.present]
                ),
                "specificity": _interval_of_share(
                    [(not one.count.found, subject) for one, subject in pairs if not one.count.present]
                ),
                "hd95_px": interval_of_mean([one.distances.hd95 for one in both if one.distances], whose),
                "hd95_mm": interval_of_mean(
                    [one.distances_mm.hd95 for one in both if one.distances_mm], whose
                ),
                "centroid_error_px": interval_of_mean(px, whose),
                "centroid_error_mm": interval_of_mean(mm, whose),
            },
            "centroid_error_mean_px": fmean(px) if px else None,
            "centroid_error_median_px": median(px) if px else None,
            "centroid_error_mean_mm": fmean(mm) if mm else None,
            "centroid_error_median_mm": median(mm) if mm else None,
            "area_px": in_px and asdict(in_px),
            "area_mm2": in_mm2 and asdict(in_mm2),
            "area_percent": in_percent and asdict(in_percent),
            "risk_coverage": curve and asdict(curve),
            "by_size": _by_size(pairs),
            "by_subject": _by_subject(pairs),
            "unlike": _cost_of_withholding(
                [(image.structures[name], image.state is State.UNLIKE_TRAINING) for image in images]
            ),
        }

    def _figures(self, name: str) -> dict[str, Any]:
        """The figures of one structure over the images that have labels of it."""
        images = self.labelled(name)
        found = [image.structures[name] for image in images]
        counts = [one.count for one in found]
        dice = [count.dice for count in counts]
        px = summarise_distances(one.distances for one in found)
        mm = summarise_distances(one.distances_mm for one in found)
        return {
            **asdict(summarise(counts)),
            "dice_interval": interval_of_mean(dice, [image.subject for image in images]),
            "outlines": px.images if px else 0,
            **_distance_figures(px, "px"),
            **_distance_figures(mm, "mm"),
            "pixel_ece": self._pixels[name].ece,
            "pixel_brier": self._pixels[name].brier,
            "confidence": judge_confidence([one.confidence for one in found], dice),
        }


def _distance_figures(found: DistanceSummary | None, unit: str) -> dict[str, Any]:
    """Means and medians by name and unit, all None if nothing was measured."""
    names = ("hd95_mean", "hd95_median", "asd_mean", "asd_median")
    return {f"{name}_{unit}": found and getattr(found, name) for name in names}


def _apart(found: Mask, truth: Mask) -> tuple[float, float] | None:
    """Rows and columns from one mask's centroid to the other's; None if either is empty."""
    there, labelled = (cv2.moments(mask.view(np.uint8), binaryImage=True) for mask in (found, truth))
    if not there["m00"] or not labelled["m00"]:
        return None
    rows, columns = (there[key] / there["m00"] - labelled[key] / labelled["m00"] for key in ("m01", "m10"))
    return rows, columns


def _detection(figures: Sequence[StructureFigures]) -> dict[str, int]:
    return {
        "true": sum(one.outlined for one in figures),
        "misplaced": sum(one.outlined and one.count.both == 0 for one in figures),
        "false": sum(one.count.found and not one.count.present for one in figures),
        "missed": sum(one.count.present and not one.count.found for one in figures),
    }


def _interval_of_share(hits: Sequence[tuple[bool, str | None]]) -> Interval:
    """None also if all agree: resampling them would claim certainty."""
    values = [float(hit) for hit, _ in hits]
    return interval_of_mean(values, _of(hits)) if len(set(values)) > 1 else None


def _of(pairs: Sequence[tuple[Any, str | None]]) -> Subjects:
    return [subject for _, subject in pairs]


def _by_size(pairs: Sequence[tuple[StructureFigures, str | None]]) -> list[dict[str, Any]]:
    """Figures of the smallest third of the labelled structures, of the middle one and of the largest."""
    present = sorted((pair for pair in pairs if pair[0].count.present), key=lambda p: p[0].labelled_share)
    parts = [
        present[len(present) * part // SIZES : len(present) * (part + 1) // SIZES] for part in range(SIZES)
    ]
    return [
        {
            "smallest": part[0][0].labelled_share,
            "largest": part[-1][0].labelled_share,
            **_part([one for one, _ in part]),
            "dice_interval": interval_of_mean([one.count.dice for one, _ in part], _of(part)),
        }
        for part in parts
        if part
    ]


def _by_subject(pairs: Sequence[tuple[StructureFigures, str | None]]) -> list[dict[str, Any]] | None:
    """Figures of each subject, in the order in which they appear."""
    by_subject: dict[str, list[StructureFigures]] = {}
    for one, subject in pairs:
        if subject is None:
            return None
        by_subject.setdefault(subject, []).append(one)
    return [{"subject": subject, **_part(figures)} for subject, figures in by_subject.items()]


def _part(figures: Sequence[StructureFigures]) -> dict[str, Any]:
    return {
        "images": len(figures),
        "dice_mean": fmean(one.count.dice for one in figures),
        "detection": _detection(figures),
    }


def _cost_of_withholding(figures: Sequence[tuple[StructureFigures, bool]]) -> dict[str, Any]:
    """Images called unlike the training data: their Dice with their outlines, and without any.

    ``cost`` is by how much withholding lowers the mean Dice of all images; below 0 it raises it.
    """
    unlike = [one for one, called in figures if called]
    lost = sum(one.count.dice - one.dice_if_withheld for one in unlike)
    return {
        "images": len(unlike),
        "dice_mean": fmean(one.count.dice for one in unlike) if unlike else None,
        "dice_mean_withheld": fmean(one.dice_if_withheld for one in unlike) if unlike else None,
        "cost": lost / len(figures),
    }
