"""Evaluates an engine on labelled images, one image at a time."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Frame, Mask, Segmentation, State, Structure
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
class StructureFigures:
    """An engine's figures for one structure in one image, in the image's own pixels."""

    count: Confusion
    distances: Distances | None
    """In pixels; None if the engine or the label has none of the structure."""
    distances_mm: Distances | None
    """In millimetres; None also if the spacing is unknown."""
    confidence: float

    @classmethod
    def of(
        cls, found: Segmentation | Structure, truth: Mask, spacing_mm: tuple[float, float] | None
    ) -> StructureFigures:
        """Compare an outline with its label, bool of one shape."""
        return cls(
            count=Confusion.count(found.mask, truth),
            distances=surface_distances(found.mask, truth),
            distances_mm=spacing_mm and surface_distances(found.mask, truth, spacing_mm),
            confidence=found.confidence,
        )

    def to_json(self) -> dict[str, Any]:
        """Numbers and None."""
        px, mm = self.distances, self.distances_mm
        return {
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
        self._subjects: list[str | None] = []
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
                outline = found if name == NERVE else found.others[name]
                structures[name] = StructureFigures.of(outline, labels[name], self._spacing_mm)
        self.images.append(ImageFigures(sample.name, structures, found.state))
        self._subjects.append(sample.subject)
        return self.images[-1]

    def to_json(self) -> dict[str, Any]:
        """Figures over all images, as plain values; undefined ones are None. Raises ValueError for no images.

        Those of the nerve, then ``structures``: the same by structure, over the images that have labels of
        it, with its ``detection``. ``dice_interval`` is the 95 % bootstrap interval of the mean, None for a
        single image or subject; ``interval_over`` says what was resampled, ``subjects`` or, if they are not
        known, ``images``. Distances are over the ``outlines``, the images in which both engine and label have
        the structure. ``pixel_ece`` and ``pixel_brier`` are of every pixel of all images, most of which are
        easy background. ``confidence`` is compared with the images' Dice.
        """
        if not self.images:
            raise ValueError("no images to summarise")
        names = dict.fromkeys(name for image in self.images for name in image.structures)
        structures = {name: self._figures(name) for name in names}
        nerve = {key: value for key, value in structures[NERVE].items() if key != "detection"}
        confidence = nerve.pop("confidence")
        states = Counter(image.state for image in self.images)
        return {
            **nerve,
            "interval_over": resampled_unit(self._subjects),
            "subjects": len(set(self._subjects) - {None}) or None,
            "confidence": confidence,
            "states": {str(state): n for state, n in states.items()},
            "structures": structures,
        }

    def _figures(self, name: str) -> dict[str, Any]:
        """The figures of one structure over the images that have labels of it."""
        rows = [row for row, image in enumerate(self.images) if name in image.structures]
        found = [self.images[row].structures[name] for row in rows]
        counts = [one.count for one in found]
        dice = [count.dice for count in counts]
        ends = bootstrap_interval(dice, subjects=[self._subjects[row] for row in rows])
        px = summarise_distances(one.distances for one in found)
        mm = summarise_distances(one.distances_mm for one in found)
        return {
            **asdict(summarise(counts)),
            "detection": {
                "true": sum(count.present and count.found for count in counts),
                "false": sum(count.found and not count.present for count in counts),
                "missed": sum(count.present and not count.found for count in counts),
            },
            "dice_interval": list(ends) if math.isfinite(ends[0]) else None,
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
