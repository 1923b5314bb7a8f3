"""Compares engines on held-back frames: before and after an adaptation, per structure, with intervals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from streamseg.core.types import Backend, Frame, Mask, State
from streamseg.datasets import Sample
from streamseg.datasets.phantoms import phantom_samples
from streamseg.evaluation.intervals import Interval, interval_of_mean
from streamseg.evaluation.overlap import Confusion
from streamseg.phantom.seeds import VALIDATION
from streamseg.segmentation.segmenter import Segmenter

MAX_FALSE_ALARMS = 0.1
"""By how much the share of phantoms without nerve that get an outline may grow."""


@dataclass(frozen=True, slots=True)
class StructureFigures:
    """Dice of one structure before and after, over the held-back frames in which it is labelled."""

    structure: str
    images: int
    before: float
    before_interval: Interval
    """95 %, over subjects if there are several; None for a single frame."""
    after: float
    after_interval: Interval
    difference: float
    difference_interval: Interval
    over: str
    """What was resampled: ``subjects`` or ``images``."""


@dataclass(frozen=True, slots=True, repr=False)
class Outlines:
    """What an engine found in one held-back frame."""

    masks: Mapping[str, Mask]
    state: State
    confidence: float


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """Before and after on the held-back frames."""

    structures: tuple[StructureFigures, ...]
    """The nerve first."""
    states: tuple[Mapping[str, int], Mapping[str, int]]
    """Number of held-back frames by state, before and after."""
    false_alarms: tuple[float, float]
    """Share of phantoms without nerve that get an outline."""
    nerve_dice: tuple[tuple[float, ...], tuple[float, ...]]
    """Of each frame."""
    rival: float | None = None
    """Mean nerve Dice of the engine in use, where that is another one than before."""

    def objections(self) -> list[str]:
        """Why the net after does not replace the one before; empty if it beats it."""
        nerve, (quiet, loud) = self.structures[0], self.false_alarms
        found = []
        if nerve.after <= nerve.before:
            found.append(
                f"its Dice on the held-back frames is {nerve.after:.3f}, before it was {nerve.before:.3f}"
            )
        if self.rival is not None and nerve.after <= self.rival:
            found.append(f"its Dice is {nerve.after:.3f}, that of the round in use {self.rival:.3f}")
        if loud - quiet > MAX_FALSE_ALARMS:
            found.append(
                f"it outlines a nerve in {loud:.0%} of phantoms without one, before it was {quiet:.0%}"
            )
        return found

    def certain(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        interval = self.structures[0].difference_interval
        return interval is not None and interval[0] > 0

    def to_json(self) -> dict[str, Any]:
        """Plain values without those of single frames."""
        return {
            "structures": [asdict(one) for one in self.structures],
            "states_before": dict(self.states[0]),
            "states_after": dict(self.states[1]),
            "false_alarms_before": self.false_alarms[0],
            "false_alarms_after": self.false_alarms[1],
            "in_use": self.rival,
        }


def outlines(backend: Backend, samples: Iterable[Sample]) -> list[Outlines]:
    """An engine's outlines of whole images, also of those unlike its training data."""
    segmenter = Segmenter(backend, None, withhold=False)
    found = []
    for index, sample in enumerate(samples):
        one = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        masks = {name: structure.mask for name, structure in one.structures.items()}
        found.append(Outlines(masks, one.state, one.confidence))
    return found


def false_alarms(backend: Backend, phantoms: int) -> float:
    """Share of phantoms without nerve in which an engine outlines one."""
    samples = [
        sample for sample in phantom_samples(phantoms, VALIDATION.take(phantoms)) if not sample.nerve.any()
    ]
    found = outlines(backend, samples)
    return fmean(bool(one.masks["nerve"].any()) for one in found) if found else 0.0


def compare(
    samples: Sequence[Sample],
    before: Sequence[Outlines],
    after: Sequence[Outlines],
    alarms: tuple[float, float],
    *,
    rival: Sequence[Outlines] | None = None,
) -> Comparison:
    """The figures of two engines' outlines of the same labelled frames. Raises ValueError for no frames."""
    structures = [_figures("nerve", samples, before, after)]
    labelled = [row for row, sample in enumerate(samples) if sample.vessel is not None]
    if labelled and all("vessel" in one.masks for one in (*before, *after)):
        chosen = [[part[row] for row in labelled] for part in (before, after)]
        structures.append(_figures("vessel", [samples[row] for row in labelled], *chosen))
    dice = [tuple(_dice("nerve", samples, found)) for found in (before, after)]
    return Comparison(
        structures=tuple(structures),
        states=(_states(before), _states(after)),
        false_alarms=alarms,
        nerve_dice=(dice[0], dice[1]),
        rival=None if rival is None else fmean(_dice("nerve", samples, rival)),
    )


def _figures(
    structure: str, samples: Sequence[Sample], before: Sequence[Outlines], after: Sequence[Outlines]
) -> StructureFigures:
    first, second = (_dice(structure, samples, found) for found in (before, after))
    subjects = [sample.subject for sample in samples]
    several = None not in subjects and len(set(subjects)) > 1
    units = subjects if several else None
    difference = [b - a for a, b in zip(first, second, strict=True)]
    ends = [interval_of_mean(values, units) for values in (first, second, difference)]
    return StructureFigures(
        structure,
        len(samples),
        fmean(first),
        ends[0],
        fmean(second),
        ends[1],
        fmean(difference),
        ends[2],
        "subjects" if several else "images",
    )


def _dice(structure: str, samples: Sequence[Sample], found: Sequence[Outlines]) -> list[float]:
    def truth(sample: Sample) -> Mask:
        return sample.nerve if structure == "nerve" or sample.vessel is None else sample.vessel

    return [
        Confusion.count(one.masks[structure], truth(sample)).dice
        for sample, one in zip(samples, found, strict=True)
    ]


def _states(found: Sequence[Outlines]) -> dict[str, int]:
    states = [str(one.state) for one in found]
    return {state: states.count(state) for state in dict.fromkeys(states)}
