"""What engines find in pictures: against labels, and against what FP32 finds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import UsageError
from streamseg.core.types import Backend, Frame, Mask
from streamseg.datasets import Sample, open_dataset, split_last
from streamseg.datasets.phantoms import phantom_samples
from streamseg.evaluation.overlap import Confusion
from streamseg.export.gate import SingleFrameAdapter
from streamseg.segmentation.segmenter import Segmenter

UNSEEN_SEED = 60_000_000
"""Of the first phantom: neither training nor calibration nor the accuracy gate comes so far."""


@dataclass(frozen=True, slots=True, repr=False)
class Pictures:
    """Labelled pictures."""

    samples: Sequence[Sample]
    words: str
    """What they are: "24 phantoms"."""


def pictures(count: int, data: Path | None = None, last: float | None = None) -> Pictures:
    """``count`` phantoms; with ``data``, that folder's labelled images, or their ``last`` share (0..1) in the
    order in which training divides them. Raises UsageError and DataError."""
    if data is None:
        if last is not None:
            raise UsageError(f"--last {last:g} is a share of labelled images; give them by --data DIR")
        return Pictures(list(phantom_samples(count, seed=UNSEEN_SEED)), f"{count} phantoms")
    if last is not None and not 0 < last < 1:
        raise UsageError(f"--last takes a share between 0 and 1, received {last:g}; 0.2 is the last fifth")
    found = open_dataset(data)
    name = data.resolve().name
    if last is None:
        return Pictures(found, f"{len(found)} images of {name}")
    held_back = split_last(found, last)[1]
    return Pictures(held_back, f"{len(held_back)} images of {name}, its last {last:.0%}")


@dataclass(frozen=True, slots=True, repr=False)
class Findings:
    """What one engine found in every picture."""

    masks: list[Mask]
    probabilities: list[npt.NDArray[np.float32]]
    """At the net's resolution."""
    dice: list[float]
    """Against each picture's label."""

    @property
    def digest(self) -> str:
        """sha256 of all probabilities: equal where two engines answer the same bit for bit."""
        found = hashlib.sha256()
        for probability in self.probabilities:
            found.update(probability.tobytes())
        return found.hexdigest()

    @property
    def constant(self) -> bool:
        """Whether all of several pictures got the same answer."""
        first, *others = self.probabilities
        return bool(others) and all(np.array_equal(first, other) for other in others)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """An engine's findings, judged."""

    dice: float | None
    """Mean over the pictures against their labels; None for random weights."""
    mask_agreement: float | None
    """Mean Dice with FP32's masks; None for random weights, whose masks are noise."""
    probability_difference: float | None
    """The largest, over the pictures, of the mean absolute difference to FP32's probabilities."""
    digest: str
    constant: bool
    """Whether all of several pictures got the same answer: an engine that does not look at them."""


def findings(engine: Backend, samples: Iterable[Sample]) -> Findings:
    """What an engine finds, outlines of unfamiliar pictures included. Raises EngineError and DataError."""
    segmenter = Segmenter(SingleFrameAdapter(engine), withhold=False)
    found = Findings([], [], [])
    for index, sample in enumerate(samples):
        segmentation = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        assert segmentation.probability is not None
        found.masks.append(segmentation.mask)
        found.probabilities.append(segmentation.probability)
        found.dice.append(Confusion.count(segmentation.mask, sample.nerve).dice)
    return found


def judge(found: Findings, reference: Findings | None, *, trained: bool) -> Accuracy:
    """Compare an engine's findings with FP32's in the pictures that both saw; None where there are none."""
    agreement = difference = None
    if reference is not None:
        pairs = zip(found.probabilities, reference.probabilities, strict=False)
        difference = max(float(np.abs(one - two).mean()) for one, two in pairs)
        masks = zip(found.masks, reference.masks, strict=False)
        agreement = fmean(Confusion.count(one, two).dice for one, two in masks)
    return Accuracy(
        dice=fmean(found.dice) if trained else None,
        mask_agreement=agreement if trained else None,
        probability_difference=difference,
        digest=found.digest,
        constant=found.constant,
    )
